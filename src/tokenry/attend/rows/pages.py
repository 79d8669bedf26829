"""Pages of keys: the largest and the smallest value of every channel, kept while a cache grows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass
class PageExtremes(LayerState):
    """What bounds the products of a query with the keys of a page, for every complete page.

    A page holds the keys of `page` consecutive real tokens of one sequence; its grid starts at the first of them,
    wherever padding stands. A complete page never changes, so every key is looked at once.

    Shapes:
        extremes (B, G, P, 2D): the maxima of the D channels, then their minima; with room for more pages.
    """

    extremes: Float[Tensor, "B G P 2D"] | None = None
    columns: int = 0
    """Columns whose complete pages are in `extremes`."""

    def forget(self) -> None:
        """A crop shows when the next pass begins, and leaves the pages before it right."""

    def extend(self, site: Site, page: int) -> None:
        """Enter the pages that the tokens of this pass have completed."""
        assert site.buffer is not None
        begin, end = site.buffer.seen - site.q.shape[2], site.buffer.seen
        if begin == 0:
            self.extremes = None
        done, now, real = site.seen(min(self.columns, begin)), site.seen(end), site.real()
        self.columns = end
        if isinstance(done, int) and isinstance(now, int):
            low, high = done // page, now // page
            if low < high:
                keys = site.k[:, :, low * page : high * page].unflatten(2, (-1, page))
                self._room(site, high)[:, :, low:high] = self._extremes_of(site, keys, 3)
            return
        assert real is not None
        counts = torch.as_tensor(now, device=site.k.device).view(-1, 1) // page
        pages = torch.arange(int(counts.max()), device=site.k.device)
        new = (pages >= torch.as_tensor(done, device=site.k.device).view(-1, 1) // page) & (pages < counts)
        row, at = new.nonzero(as_tuple=True)
        if len(row):
            ranks = at.unsqueeze(-1) * page + torch.arange(page, device=at.device)
            columns = columns_by_rank(real[:, 0])[row.unsqueeze(-1), ranks]
            keys = site.k[row.unsqueeze(-1), :, columns]
            self._room(site, len(pages))[row, :, at] = self._extremes_of(site, keys, 1)

    def bounds(self, site: Site, count: int) -> Float[Tensor, "B G P"]:
        """An upper bound of q k for every key of each of the first `count` pages, summed over a KV head's queries.

        max(q_d m_d, q_d M_d) is q_d M_d where q_d is positive and q_d m_d elsewhere, so one product does it.
        """
        b, h, n, d = site.q.shape
        g = site.k.shape[1]
        if self.extremes is None:
            return torch.zeros(b, g, 0, device=site.q.device)
        q = site.q.detach().reshape(b, g, (h // g) * n, d)
        weights = torch.cat((q.clamp_min(0).sum(2), q.clamp_max(0).sum(2)), -1)
        if site.reads is not None:
            site.reads.bytes += self.extremes[:, :, :count].nbytes
        # Over the room as well: a slice is not contiguous, and a batched product would copy it. As a row times a
        # matrix, since a matrix times a column takes a slower way.
        return (weights.unsqueeze(-2) @ self.extremes.mT).squeeze(-2)[..., :count].float()

    def _room(self, site: Site, count: int) -> Float[Tensor, "B G P 2D"]:
        """The table, with room for `count` pages."""
        held = 0 if self.extremes is None else self.extremes.shape[2]
        if self.extremes is None or held < count:
            b, g, _, d = site.k.shape
            table = site.k.new_zeros(b, g, count + max(8, count // 8), 2 * d)
            if self.extremes is not None:
                table[:, :, :held] = self.extremes
            self.extremes = table
        return self.extremes

    def _extremes_of(self, site: Site, keys: Tensor, axis: int) -> Tensor:
        keys = keys.detach()
        if site.reads is not None:
            site.reads.bytes += keys.nbytes
        return torch.cat((keys.amax(axis), keys.amin(axis)), -1)


def columns_by_rank(real: Bool[Tensor, "B K"]) -> Int[Tensor, "B K"]:
    """The columns of every sequence's real tokens in order; behind them K."""
    b, k = real.shape
    columns = torch.arange(k, device=real.device).expand(b, -1)
    ranks = torch.where(real, real.cumsum(-1) - 1, k)
    return columns.new_full((b, k + 1), k).scatter_(1, ranks, columns)[:, :k]
