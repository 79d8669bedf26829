"""Frequency chunks: pairs of channels that a rotary position turns together, and how well each ranks keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.attend.rows.last_queries import LastQueries
from tokenry.models.attention.rotary import Rotary
from tokenry.models.attention.site import Site, wide

SAMPLE = 1024
"""Keys of a sequence that are ranked to find the chunks that agree."""


@dataclass
class DominantKeys(LastQueries):
    """The channels that predict, and beside the cache a small one of these channels alone.

    Shapes:
        channels (B, G, C), near (B, G, R, C) with room for more rows.
    """

    channels: Int[Tensor, "B G C"] | None = None
    near: Float[Tensor, "B G R C"] | None = None
    entered: int = 0
    """Rows of the cache that stand in `near`."""

    def crop(self, seen: int) -> None:
        """Rows before it are still right; the choice is not where queries that made it were taken back."""
        self.entered = min(self.entered, seen)
        if self.columns is not None and int(self.columns.max()) >= seen:
            self.channels = None
        super().crop(seen)

    def forget(self) -> None:
        """Nothing is evicted under this state, and a crop is told apart."""

    def begin(self, channels: Int[Tensor, "B G C"]) -> None:
        """Predict with these channels from now on."""
        self.channels, self.near, self.entered = channels, None, 0

    def extend(self, site: Site) -> None:
        """Bring the small cache up to what the site holds."""
        channels = self.channels
        assert channels is not None
        assert site.buffer is not None
        k, seen = site.k.shape[2], site.buffer.seen
        if self.near is None or self.near.shape[2] < k:
            grown = site.k.new_zeros(*channels.shape[:2], k + max(64, k // 4), channels.shape[2])
            if self.near is not None:
                grown[:, :, : self.entered] = self.near[:, :, : self.entered]
            self.near = grown
        assert self.near is not None
        new = site.k[:, :, self.entered : seen].detach()
        if site.reads is not None:
            site.reads.bytes += new.nbytes
        self.near[:, :, self.entered : seen] = new.gather(3, channels.unsqueeze(2).expand(-1, -1, new.shape[2], -1))
        self.entered = seen

    def predicted(self, site: Site) -> Float[Tensor, "B H 1 K"]:
        """The logits of every query with every key, over the chosen channels alone."""
        assert self.near is not None
        assert self.channels is not None
        b, h, _, d = site.q.shape
        g = site.k.shape[1]
        q = site.q.detach().view(b, g, h // g, d)
        q = q.gather(3, self.channels.unsqueeze(2).expand(-1, -1, h // g, -1))
        if site.reads is not None:
            site.reads.bytes += self.near[:, :, : self.entered].nbytes
        # Over the room as well: a slice is not contiguous, and a batched product would copy it.
        return site.logits_of(wide((q @ self.near.mT)[..., : site.k.shape[2]]).reshape(b, h, 1, -1))


def paired(site: Site, pairing: str) -> Int[Tensor, "P 2"]:
    """The channels of every frequency chunk: those that turn together, or neighbours."""
    width = site.k.shape[-1]
    if pairing == "adjacent":
        return torch.arange(width, device=site.k.device).view(-1, 2)
    assert site.model is not None
    return Rotary.of(site.model).pairs(site.layer, width).to(site.k.device)


def agreement(
    q: Float[Tensor, "H W D"], k: Float[Tensor, "G K D"], sees: Int[Tensor, "W"], pairs: Int[Tensor, "P 2"], top: int
) -> Float[Tensor, "G P"]:
    """The share of the `top` keys with the largest products that each chunk alone also ranks among its `top`.

    Mean over the queries and the query heads of each KV head.

    Args:
        sees: how many keys each query may see, the first ones.
    """
    g = k.shape[0]
    q, k = wide(q).view(g, -1, *q.shape[1:]), wide(k).unsqueeze(1)
    hidden = torch.arange(k.shape[2], device=k.device) >= sees.unsqueeze(-1)
    found = []
    whole = _best(q @ k.mT, hidden, top)
    among = torch.zeros(*whole.shape[:3], k.shape[2], dtype=torch.bool, device=k.device).scatter_(-1, whole, True)
    for pair in pairs:
        alone = _best(q[..., pair] @ k[..., pair].mT, hidden, top)
        found.append(among.gather(-1, alone).float().mean((1, 2, 3)))
    return torch.stack(found, -1)


def agreements(
    q: Float[Tensor, "B H W D"], columns: Int[Tensor, "B W"], site: Site, pairs: Int[Tensor, "P 2"],
    top: Callable[[int], int],
) -> Float[Tensor, "B G P"]:  # fmt: skip
    """The same for every sequence of a batch by itself, with at most a quarter of its keys as `top`.

    Of a long sequence every so many keys are ranked, `SAMPLE` at most, and so many times fewer are compared.

    Args:
        q: the queries that judge.
        columns: where they stand, -1 for none.
        site: of the keys that are judged.
        top: how many keys are compared in a sequence of so many.
    """
    real = site.real()
    found = torch.zeros(len(q), site.k.shape[1], len(pairs), device=q.device)
    for b, there in enumerate(columns >= 0):
        if bool(there.any()):
            rows = torch.arange(site.k.shape[2], device=q.device) if real is None else real[b, 0].nonzero()[:, 0]
            held = len(rows)
            every = -(-held // SAMPLE)
            rows = rows[::every]
            sees = (rows <= columns[b, there].unsqueeze(-1)).sum(-1)
            few = max(1, min(top(held) // every, int(sees.min()) // 4))
            found[b] = agreement(q[b, :, there], site.k[b, :, rows], sees, pairs, few)
    return found


def channels_of(agreement: Float[Tensor, "B G P"], pairs: Int[Tensor, "P 2"], count: int) -> Int[Tensor, "B G C"]:
    """The channels of the chunks that agree most, ascending; of equal ones the first."""
    best = agreement.argsort(dim=-1, descending=True, stable=True)[..., :count]
    return pairs[best].flatten(-2).sort(-1).values


def _best(products: Float[Tensor, "G J W K"], hidden: Bool[Tensor, "W K"], top: int) -> Int[Tensor, "G J W T"]:
    """Where the largest products are that a query sees."""
    return products.masked_fill(hidden, float("-inf")).topk(top, -1, sorted=False).indices
