"""What a linearised layer remembers of the tokens that it no longer holds, and of those that it will send soon."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.attend.parts.feature_map import FeatureMap
from tokenry.models.attention.site import Site, wide
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.packed import rows_where


@dataclass
class Folded(LayerState):
    """Sums over the tokens of chunks that were sent, and scores of those that were not yet.

    Args:
        cross: sum of features of keys times values.
        total: sum of features of keys.
        chunks: how many chunks of each sequence were sent.
        scores: of the tokens after these, in their order.
    """

    cross: Float[Tensor, "B G F Dv"] | None = None
    total: Float[Tensor, "B G F"] | None = None
    chunks: Int[Tensor, "B"] | None = None
    scores: Float[Tensor, "B G W"] | None = None

    def forget(self) -> None:
        """An eviction is what put tokens into the sums; a crop leaves them right while it takes none of these."""


class Held:
    """The rows of a site while a pass goes on: which are still read, at what place of their sequence they stand.

    Args:
        site: of the whole pass.
        state: what is remembered; it is changed.
        keys: the features of keys.
        size: tokens of a chunk.
        kept: tokens of a chunk that stay.
        random: the seed of a random choice; None for the highest scores.
        first: keep the first token of a text in any case.
    """

    def __init__(
        self,
        site: Site,
        state: Folded,
        keys: FeatureMap,
        size: int,
        kept: int,
        random: int | None = None,
        first: bool = False,
    ) -> None:
        b, g, n, _ = site.k.shape
        real = site.real()
        places = site.positions().expand(b, g, n)
        self.site, self.state, self.keys = site, state, keys
        self.size, self.kept, self.random, self.first = size, kept, random, first
        self.places = places if real is None else torch.where(real, places, -1)
        self.alive: Bool[Tensor, "B G K"] = self.places >= 0
        if state.chunks is None:
            features = keys(site.k[:, :, :1]).shape[-1]
            state.cross = wide(site.v).new_zeros(b, g, features, site.v.shape[-1])
            state.total = state.cross[..., 0]
            state.chunks = torch.zeros(b, dtype=torch.long, device=site.k.device)
            state.scores = state.total[..., :0]
        assert state.scores is not None
        # A score is found by the place of its token, counted from the first one that was not sent.
        at = self.places - state.chunks.view(-1, 1, 1) * size
        width = state.scores.shape[-1]
        there = (at >= 0) & (at < width)
        self.scores = torch.zeros_like(self.places, dtype=wide(site.k).dtype)
        if width:
            self.scores = torch.where(there, state.scores.gather(-1, at.clamp(0, width - 1)), self.scores)

    def seen_by(self, queries: slice, places: Int[Tensor, "B Q"]) -> tuple[Site, Int[Tensor, "B G M"]]:
        """The site of some queries over the rows that they may read, and which rows these are."""
        last = places.amax(1).view(-1, 1, 1)
        rows = rows_where(self.alive & (self.places <= last), least=1)
        return self.site.for_queries(queries).narrow(rows), rows

    def score(self, rows: Int[Tensor, "B G M"], scores: Float[Tensor, "B G M"], found: Bool[Tensor, "B G M"]) -> None:
        """Enter the scores of some rows, where they were found."""
        at = rows.clamp_min(0)
        new = torch.zeros_like(self.scores).scatter_add(-1, at, torch.where(found, scores, 0))
        there = torch.zeros_like(self.scores).scatter_add(-1, at, found.to(scores.dtype)) > 0
        self.scores = torch.where(there, new, self.scores)

    def send(self, until: Int[Tensor, "B"]) -> None:
        """Send every chunk before `until`: its best tokens stay, the others go into the sums."""
        state = self.state
        assert state.chunks is not None
        assert state.cross is not None
        assert state.total is not None
        while bool((due := state.chunks < until).any()):
            inside = (self.places // self.size == state.chunks.view(-1, 1, 1)) & self.alive & due.view(-1, 1, 1)
            out = inside & ~self._best(inside)
            if bool(out.any()):
                rows = rows_where(out)
                there = (rows >= 0).unsqueeze(-1)
                at = rows.clamp_min(0).unsqueeze(-1)
                k = self.site.k.gather(2, at.expand(-1, -1, -1, self.site.k.shape[-1]))
                v = self.site.v.gather(2, at.expand(-1, -1, -1, self.site.v.shape[-1]))
                features = torch.where(there, self.keys(k), 0)
                state.cross = state.cross + features.mT @ wide(v)
                state.total = state.total + features.sum(2)
                self.alive = self.alive & ~out
            state.chunks = state.chunks + due

    def finish(self, following: Int[Tensor, "B"]) -> None:
        """Send what has left the window of the token that comes next, forget what was sent, remember the scores."""
        state, buffer = self.state, self.site.buffer
        self.send((following // self.size - 1).clamp_min(0))
        assert state.chunks is not None
        before = state.chunks.view(-1, 1, 1) * self.size
        waiting = self.places >= before
        width = int((following - state.chunks * self.size).clamp_min(0).max())
        at = torch.where(waiting, self.places - before, width)
        state.scores = self.scores.new_zeros(*self.scores.shape[:2], width + 1).scatter(-1, at, self.scores)[..., :-1]
        held = self.places >= 0
        if buffer is not None and bool((held & ~self.alive).any()):
            buffer.keep(rows_where(self.alive, least=1))

    def _best(self, inside: Bool[Tensor, "B G K"]) -> Bool[Tensor, "B G K"]:
        if self.kept == 0:
            return torch.zeros_like(inside)
        scores = self.scores
        if self.random is not None:
            scores = _drawn(self.places, self.random).to(scores.dtype)
        if self.first:
            scores = scores.masked_fill(self.places == 0, float("inf"))
        best = scores.masked_fill(~inside, float("-inf")).topk(min(self.kept, scores.shape[-1])).indices
        return torch.zeros_like(inside).scatter(-1, best, True) & inside


def _drawn(places: Int[Tensor, "B G K"], seed: int) -> Float[Tensor, "B G K"]:
    """A number in [0, 1) that depends on the place of a token, its head and the seed alone."""
    heads = torch.arange(places.shape[1], device=places.device).view(1, -1, 1)
    x = (places.double() + 1) * 12.9898 + heads * 78.233 + (seed + 1) * 37.719
    return (x.sin() * 43758.5453).frac().abs()


def without_gradient(site: Site) -> Site:
    """The same site, from which no gradient goes back to the model."""
    return replace(site, q=site.q.detach(), k=site.k.detach(), v=site.v.detach())
