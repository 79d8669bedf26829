"""SpAtten: tokens and heads that receive or give little are dropped for all later layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.attend.between.reducer import Reducer
from tokenry.attend.parts.precision import Exact, Precision
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, natural, part
from tokenry.models.attention.between import Change, View, front_packed
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.packed import rows_where


@dataclass
class Importance(LayerState):
    """What the tokens of the pass have received and the heads have given so far, and which heads are left where.

    Shapes:
        tokens, asked (B, N0): probability received, and queries that could have given it, by column of the pass.
        total (B): its real tokens. heads (B, H): sums of absolute outputs. active (B, L, H).
    """

    tokens: Float[Tensor, "B N"] | None = None
    asked: Float[Tensor, "B N"] | None = None
    total: Int[Tensor, "B"] | None = None
    heads: Float[Tensor, "B H"] | None = None
    active: Bool[Tensor, "B L H"] | None = None
    first: int = 0
    layers: int = 0

    def forget(self) -> None:
        """A pass begins anew by itself, and the heads of the prompt stay those."""

    def crop(self, seen: int) -> None:
        """The same."""


@dataclass(frozen=True, kw_only=True)
class SpAtten(Reducer):
    """Drop, from layer to layer, the tokens that received least and the heads that gave least.

    What it does
        s_j = sum over heads, queries and layers so far of P_ij, over the number of queries that could see j;
        ceil(r_l n) tokens with the highest s go into layer l: r is 1 in the first `unpruned` layers, at least one, and
        falls linearly to `keep` in the last. Heads likewise, by the sum of the absolute values of their outputs, from
        `unpruned_heads` layers on, down to `heads`. At a decoding step each query reads the `values` share of the
        values with the largest probabilities, and keys with `precision`.
    Where it acts
        Between the layers of an encoder, and of a decoder while it reads the prompt: what is dropped takes no part in
        attention, feed-forward layers and caches from there on. Generated tokens pass through all layers.
    Shapes
        hidden (B, N, E) -> (B, M, E), also for what the model gives back: `run.streams[-1].local` says which tokens
        these are, -1 for none. output (B, H, Q, Dv).
    Guarantees
        `keep=heads=values=1` with exact keys changes nothing. Tokens and heads that are dropped stay dropped. The first
        `start` tokens and the last one stay. Sequences of a batch do not depend on each other.
    Raises
        InvalidValue: a share of 0 tokens or heads. UnsupportedModel: layers that cannot run with fewer tokens.
    Deviations
        Sums are divided by how many queries could see a token, without which early tokens win in causal models.
        Nothing is dropped while tokens are generated; values and bits are saved at decoding steps only, where reading
        is what costs. The published schedule is not given in numbers; here it is linear. High bits stand for the
        middle of what they may be. The published chat code, which holds the tokens with the most attention between
        turns, is `h2o` with sinks.
    Relations
        `token_sparse` lets a token pass one layer by and return. `h2o` keeps its own tokens in each layer.
    """

    card = Card(
        title="SpAtten: Efficient Sparse Attention Architecture with Cascade Token and Head Pruning",
        year=2021,
        url="https://arxiv.org/abs/2012.09852",
        summary="tokens and heads that matter least are dropped for all later layers, and low bits are read last",
        action="evict",
        granularity="token",
        evidence="observed attention",
        identity_at={"keep": 1.0, "heads": 1.0, "values": 1.0, "precision": "exact"},
        trial={"keep": 0.5, "heads": 0.5, "values": 0.5, "precision": "progressive[high=8,flat=0.2]", "unpruned": 0.0},
        claims=(
            "in a sentence encoder, half of the tokens in the last layer leave sentence vectors closer to the whole "
            "ones than random tokens do",
        ),
        deviations=(
            "importance is divided by the number of queries that could see a token",
            "a linear schedule, from shares of the layers that the paper does not give",
            "no dropping while tokens are generated; values and low bits are saved at decoding steps only",
            "high bits stand for the middle of what they may be",
        ),
        exempt={
            "chunked_prefill": "importance is that of the pass, so passes drop otherwise than one for all",
        },
    )

    keep: float = between(0.0, 1.0, default=0.5, doc="share of the tokens that go into the last layer")
    heads: float = between(0.0, 1.0, default=1.0, doc="share of the query heads that are left in the last layer")
    values: float = between(0.0, 1.0, default=1.0, doc="share of the values that a query reads at a decoding step")
    precision: Precision = part(Exact(), doc="bits of keys at a decoding step: exact or progressive")
    unpruned: float = between(0.0, 1.0, default=0.15, doc="share of the layers, the first ones, that drop no tokens")
    unpruned_heads: float = between(0.0, 1.0, default=0.3, doc="share of the layers that drop no heads")
    start: int = natural(1, doc="first tokens that stay")
    State = Importance

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("keep", "heads", "values"):
            if getattr(self, name) == 0:
                raise InvalidValue(f"SpAtten: {name} must be above 0; got 0.")

    def covers(self, seen: int) -> bool:
        return self.keep == self.heads == self.values == 1 and isinstance(self.precision, Exact)

    def reduce(self, view: View, state: Importance) -> Change | None:
        if view.layer == 0 and not view.later:
            self._begin(view, state)
        if view.later or self._left(view.layer, view.layers, self.unpruned, self.keep) == 1:
            return None
        return view.keep(self._best(view, state))

    def attend(self, site: Site, state: Importance) -> Float[Tensor, "B H Q Dv"]:
        if not site.later and self.keep == self.heads == 1:
            return site.dense()
        part, own = self._with_heads(site, state)
        if site.later:
            out = self._steps(part)
        else:
            out, received = part.dense_and_received()
            self._enter(part, state, received)
            if own is not None:
                _give(part, own, out, state)
        return out if own is None or own.shape[1] == site.q.shape[1] else _spread(out, own, site.q.shape[1])

    def _begin(self, view: View, state: Importance) -> None:
        """A new pass: nothing is known of its tokens."""
        b = len(view.hidden)
        state.tokens = torch.zeros(b, view.total, device=view.hidden.device)
        state.asked = torch.zeros_like(state.tokens)
        state.total, state.first, state.layers = view.real.sum(1), view.first, view.layers
        state.heads = state.active = None

    def _left(self, layer: int, layers: int, unpruned: float, last: float) -> float:
        """The share that is left in a layer."""
        first = max(1, ceil(unpruned * layers))
        if layer < first:
            return 1.0
        return 1 - (1 - last) * (layer - first + 1) / (layers - first)

    def _best(self, view: View, state: Importance) -> Int[Tensor, "B M"]:
        """The tokens that go on: the first ones, the last one, and those with the highest importance."""
        assert state.tokens is not None
        assert state.asked is not None
        assert state.total is not None
        share = self._left(view.layer, view.layers, self.unpruned, self.keep)
        rank = view.real.cumsum(1) - 1
        n = view.real.sum(1, keepdim=True)
        fixed = view.real & ((rank < self.start) | (rank == n - 1))
        # Products such as 0.1 x 30 come out a little too large.
        wanted = (share * state.total.double() - 1e-9).ceil().long().unsqueeze(1).maximum(fixed.sum(1, keepdim=True))
        at = (view.columns - view.first).clamp_min(0)
        scores = (state.tokens / state.asked.clamp_min(1)).gather(1, at)
        scores = scores.masked_fill(fixed, float("inf")).masked_fill(~view.real, float("-inf"))
        order = scores.argsort(dim=1, descending=True, stable=True)
        stays = (torch.arange(order.shape[1], device=order.device) < wanted) & view.real.gather(1, order)
        return front_packed(torch.where(stays, order, -1))

    def _enter(self, site: Site, state: Importance, received: Float[Tensor, "B G K"]) -> None:
        """Add what the queries of a layer gave to the tokens of the pass."""
        assert state.tokens is not None
        assert state.asked is not None
        columns = site.key_columns()[:, 0]
        real = site.real()
        there = columns >= state.first if real is None else (columns >= state.first) & real[:, 0]
        at = torch.where(there, columns - state.first, 0)
        count = _could_give(site, there)
        state.tokens = state.tokens.scatter_add(1, at, received.sum(1) * there)
        state.asked = state.asked.scatter_add(1, at, (count * there).float() * site.q.shape[1])

    def _with_heads(self, site: Site, state: Importance) -> tuple[Site, Int[Tensor, "B H2"] | None]:
        """The site of the heads that are left in its layer, and which these are; None for all."""
        if self.heads == 1 or not state.layers:
            return site, None
        b, h = site.q.shape[:2]
        if not site.later:
            if state.heads is None or state.active is None:
                state.heads = torch.zeros(b, h, device=site.q.device)
                state.active = torch.ones(b, state.layers, h, dtype=torch.bool, device=site.q.device)
            count = max(1, ceil(self._left(site.layer, state.layers, self.unpruned_heads, self.heads) * h - 1e-9))
            before = state.active[:, max(0, site.layer - 1)]
            best = state.heads.masked_fill(~before, -1.0).argsort(dim=1, descending=True, stable=True)[:, :count]
            now = torch.zeros_like(before).scatter(1, best, True)
            layers = [now if layer == site.layer else of for layer, of in enumerate(state.active.unbind(1))]
            state.active = torch.stack(layers, 1)
        if state.active is None or bool(state.active[:, site.layer].all()):
            own = torch.arange(h, device=site.q.device).expand(b, -1)
            return site, own
        own = state.active[:, site.layer].nonzero()[:, 1].view(b, -1)
        return _of_heads(site, own), own

    def _steps(self, site: Site) -> Float[Tensor, "B H Q Dv"]:
        """Tokens after the prompt, each as if it came by itself."""
        if self.values == 1 and isinstance(self.precision, Exact):
            return site.dense()
        n, columns = site.q.shape[2], site.key_columns()
        parts = [site]
        if n > 1:
            ends = [int(columns.max()) - n + 1 + i for i in range(n)]
            parts = [site.for_queries(slice(i, i + 1)).narrow(rows_where(columns <= end)) for i, end in enumerate(ends)]
        return torch.cat([self._step(part) for part in parts], 2)

    def _step(self, site: Site) -> Float[Tensor, "B H 1 Dv"]:
        """One query, with the values and the bits that it reads."""
        probs = self.precision.probs(site) if site.buffer is not None else site.probs()
        site.note_step()
        return _with_values(site, probs, self.values)


def _could_give(site: Site, there: Bool[Tensor, "B K"]) -> Int[Tensor, "B K"]:
    """How many queries of the pass see the key of every row; `there` are the tokens that these are of."""
    if site.facts is not None and site.facts.window is not None:
        count, real = there.long().zero_(), site.real_queries()
        for queries, part in site.streamed():
            mask = part.mask()
            seen = there[:, None, : part.k.shape[2]] if mask is None else mask[:, 0]
            seen = seen if real is None else seen & real[:, queries, None]
            count[:, : seen.shape[2]] += seen.sum(1)
        return count
    if site.facts is not None and site.facts.causal:
        return there.flip(1).cumsum(1).flip(1)
    return there.sum(1, keepdim=True).expand_as(there)


def _with_values(site: Site, probs: Float[Tensor, "B H 1 K"], share: float) -> Float[Tensor, "B H 1 Dv"]:
    """The sum over the values with the largest probabilities alone; the others are not read."""
    b, h, _, k = probs.shape
    g, real = site.v.shape[1], site.real()
    held = torch.full((b, 1, 1), k, device=probs.device) if real is None else real[:, :1].sum(-1, keepdim=True)
    count = (share * held.double() - 1e-9).ceil().long().clamp_min(1)
    best = probs[:, :, 0].topk(int(count.max()), -1)
    weights = best.values * (torch.arange(best.values.shape[-1], device=probs.device) < count)
    rows = best.indices.view(b, g, -1, 1).expand(-1, -1, -1, site.v.shape[-1])
    values = site.v.gather(2, rows).view(b, h, -1, site.v.shape[-1])
    if site.reads is not None:
        site.reads.bytes += values.nbytes
    return weights.unsqueeze(2).to(values.dtype) @ values


def _of_heads(site: Site, own: Int[Tensor, "B H2"]) -> Site:
    """A site with some of its query heads, each with its own copy of the keys it reads."""

    def some(of: Tensor, at: Tensor) -> Tensor:
        return of.gather(1, at.view(*at.shape, 1, 1).expand(-1, -1, *of.shape[2:]))

    group = own // site.groups
    columns = site.columns
    return replace(
        site, q=some(site.q, own), k=some(site.k, group), v=some(site.v, group),
        columns=None if columns is None else columns.gather(1, group.unsqueeze(-1).expand(-1, -1, columns.shape[-1])),
        sinks=None if site.sinks is None else site.sinks[own],
        bias=None if site.bias is None else some(site.bias.expand(len(own), -1, -1, -1), own),
    )  # fmt: skip


def _give(site: Site, own: Int[Tensor, "B H2"], out: Float[Tensor, "B H2 Q Dv"], state: Importance) -> None:
    """Add what the heads that are left gave to their queries."""
    assert state.heads is not None
    given, real = out.detach().float().abs().sum(3), site.real_queries()
    if real is not None:
        given = given * real.unsqueeze(1)
    state.heads = state.heads.scatter_add(1, own, given.sum(2))


def _spread(out: Float[Tensor, "B H2 Q Dv"], own: Int[Tensor, "B H2"], heads: int) -> Float[Tensor, "B H Q Dv"]:
    """The output of all heads, 0 for those that were dropped."""
    at = own.view(*own.shape, 1, 1).expand_as(out)
    return out.new_zeros(len(out), heads, *out.shape[2:]).scatter(1, at, out)
