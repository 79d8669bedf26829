"""The last queries of a prompt: what they look at tells what its continuation will."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.errors import Incompatible
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass
class LastQueries(LayerState):
    """The last real queries of each sequence, and where they stand; -1 in front where it has fewer."""

    q: Float[Tensor, "B H W D"] | None = None
    columns: Int[Tensor, "B W"] | None = None

    def crop(self, seen: int) -> None:
        """What is left of the window is still right."""
        if self.columns is not None:
            self.columns = self.columns.masked_fill(self.columns >= seen, -1)

    def forget(self) -> None:
        """Queries stay what they were, and stand where they stood, whatever keys were evicted."""

    def see(self, site: Site, window: int) -> None:
        """A part of the prompt: its queries come behind those before, of which the last `window` stay."""
        columns = site.query_columns().expand(site.q.shape[0], -1)
        if site.facts is not None and site.facts.padding is not None:
            columns = columns.masked_fill(~site.facts.padding.expand(len(columns), -1).gather(1, columns), -1)
        q = site.q
        if self.q is not None and self.columns is not None:
            q, columns = torch.cat((self.q, q), 2), torch.cat((self.columns, columns), 1)
        order = torch.where(columns >= 0, torch.arange(columns.shape[1], device=q.device), -1).sort(-1).values
        at = order[:, -window:].clamp_min(0)
        self.q = q.gather(2, at[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
        self.columns = torch.where(order[:, -window:] >= 0, columns.gather(1, at), -1)

    def site(self, site: Site, window: int, who: str) -> Site:
        """The site of these queries over the keys that a site holds.

        Raises:
            Incompatible: fewer queries than the window has, though the prompt has more.
        """
        if self.q is None or self.columns is None or not self._saw_all(site, self.columns, window):
            raise Incompatible(
                f"{who}: must see the last {window} tokens of the prompt being read, whose queries vote; got a "
                "cache that was filled before, or cropped since; read the end of the prompt inside the block."
            )
        return replace(site, q=self.q, facts=site.facts and site.facts.over(self.columns))

    @staticmethod
    def _saw_all(site: Site, columns: Int[Tensor, "B W"], window: int) -> bool:
        """Whether the window is there: as many queries as it has, or all of a shorter prompt."""
        read = torch.as_tensor(site.seen(int(columns.max()) + 1), device=columns.device).flatten()
        return bool(((columns >= 0).sum(1) >= read.clamp_max(window)).all())
