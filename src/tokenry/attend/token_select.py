"""TokenSelect: read only the cached tokens that the heads of a layer vote for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad

from tokenry.attend.base import Selector
from tokenry.attend.rows.blocks import blocks, each_alone
from tokenry.attend.rows.choose import choose, open_rows
from tokenry.attend.rows.pool import pooled
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import Incompatible
from tokenry.core.fields import between, natural, odd, setting, size
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.rotary import Rotary, turned
from tokenry.models.attention.site import Site, wide
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.packed import packed, rows_where


@dataclass
class LastChoice(LayerState):
    """The last choice of every sequence and the query it was made for; -1 throughout where it has none."""

    query: Float[Tensor, "B HD"] | None = None
    chosen: Int[Tensor, "B G M"] | None = None
    selections: Int[Tensor, "B"] | None = None
    """How often each sequence has chosen."""


@dataclass(frozen=True, kw_only=True)
class TokenSelect(Selector):
    """Choose `budget` cached tokens per step by a soft vote of the heads.

    What it does
        s_h = softmax over the candidates j of q_h k_j, not scaled;  s = sum over heads h of s_h (equations 5 and 6).
        The most voted candidates, the first `sink` and the last `recent` tokens are attended to exactly. While
        the query of a sequence stays within a cosine of `reuse` of the one that chose last, that choice is used again,
        as large as it was and with the recent tokens of now, and the sequence is not scored.
        With `slots`, the chosen tokens take consecutive positions up to the query's, and the vote is over keys without
        position, as if each stood `recent` tokens before the query, or before the first of a block: no distance exceeds
        what a model was trained for.
    Where it acts
        At every decoding step, and while a prompt is read: each block of `chunk` queries selects with its mean
        query among the tokens before the block and sees the block itself. Nothing is evicted.
    Shapes
        site.q (B, H, Q, D), site.k and site.v (B, G, K, D) -> output (B, H, Q, Dv).
    Guarantees
        Equals dense attention while the budget covers what is held. `reuse` above 1 selects at every step, -1
        once. A permutation of the heads leaves the choice as it is. Blocks lie on a fixed grid of each sequence, so a
        prompt read in chunks of a multiple of `chunk` gives the same result as one read at once.
    Raises
        InvalidValue: a budget smaller than its sinks and recent tokens, or a field out of range.
        UnsupportedModel: with `slots`, a model that does more with positions than to rotate. Incompatible: with
        `slots`, padding between tokens, where positions are whatever the caller says; a prompt over a cache that
        something evicted from.
    Deviations
        Tokens keep their positions unless `slots` is set; within the trained length that is exact when all are read.
        The published kernel pairs query head h with KV head h mod G; here with h // (H/G).
    Relations
        `budget` with `per=head` lets each KV head vote for itself: better, and one gather per head instead of one.
    """

    card = Card(
        title="TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs "
        "via Dynamic Token-Level KV Cache Selection",
        year=2024,
        url="https://arxiv.org/abs/2411.02886",
        summary="per-step selection of cached tokens by a soft vote of the heads",
        action="visible",
        granularity="token",
        evidence="query",
        identity_at={"budget": 1000000},
        trial={"budget": "12:sink=2:recent=4", "chunk": 8, "reuse": 1.01},
        claims=(
            "at 100 rows its KL to dense is at most 0.10 (benchmarks/attend/fidelity.py)",
            "voting per KV head, that is at most a quarter of the KL of a window of equal rows, and at 64 of 800 rows "
            "on prose it is 0.05 (benchmarks/attend/choices.py)",
        ),
        deviations=(
            "tokens keep their original positions unless `slots` is set; the original always renumbers them",
            "a block of the prompt is read on top of the budget",
        ),
        exempt={
            "chunked_prefill": "chunks that are no multiple of a block split its mean query; tested with multiples",
        },
    )

    budget: Budget = size(
        Budget(tokens=2688, sink=128, recent=512, per="layer"), doc="tokens read per step, sinks and recent included"
    )
    reuse: float = between(-1.0, 1.01, default=0.9, doc="cosine of queries from which the last choice is used again")
    chunk: int = natural(512, doc="queries of the prompt that select together; 0 reads the prompt densely")
    kernel: int = odd(0, doc="width of a max-pool over the votes; 0 for none")
    slots: bool = setting(False, doc="number the chosen tokens anew, to read beyond the trained length")
    State = LastChoice

    @property
    def extends(self) -> bool:
        """Whether prompts may be longer than the model's context."""
        return self.slots and self.chunk > 0

    def attend(self, site: Site, state: LastChoice) -> Float[Tensor, "B H Q Dv"]:
        self._check_gaps(site)
        if site.decoding:
            index = self.rows(site, state)
            return site.dense() if index is None else self._read(site, index)
        if self.chunk == 0 or site.buffer is None or site.facts is None:
            return site.dense()
        if self.budget.count(site.buffer.seen) == site.buffer.seen:
            return site.dense()
        if not site.buffer.whole:
            raise Incompatible(
                "token_select: must read a prompt over a cache that holds every token; got one that something evicted "
                "from; use a new cache, or chunk=0 to read the prompt densely."
            )
        return each_alone(site, lambda _, part: self._read_prompt(part))

    def select(self, site: Site, state: LastChoice) -> Int[Tensor, "B #G M"] | None:
        """Every sequence reads all it holds, chooses anew, or keeps its choice; only who chooses is scored."""
        query = site.q.flatten(1)
        does = self._what_each_does(site, query, state)
        if set(does) == {"all"}:
            return None
        rows, chosen = [], []
        for what, run in _runs(does):
            part = site.sequences(run)
            if what == "all":
                real = part.real()
                assert real is not None
                rows.append(rows_where(real, least=1))
                chosen.append(torch.full_like(rows[-1], -1))
            elif what == "choose":
                rows.append(choose(self.budget, self._vote(part), part.real(), self._seen(part)))
                chosen.append(rows[-1])
            else:
                assert state.chosen is not None
                rows.append(self._slide(part, state.chosen[run]))
                chosen.append(state.chosen[run])
        anew = torch.tensor([what == "choose" for what in does], device=query.device)
        state.query = query if state.query is None else torch.where(anew.unsqueeze(1), query, state.query)
        state.selections = anew.long() if state.selections is None else state.selections + anew
        state.chosen = _one_below_another(chosen)
        return _one_below_another(rows)

    def _what_each_does(self, site: Site, query: Float[Tensor, "B HD"], state: LastChoice) -> list[str]:
        """For every sequence: `all` where the budget covers what it holds, `keep` or `choose`."""
        b, real, seen = len(query), site.real(), self._seen(site)
        if real is None:
            assert isinstance(seen, int)
            covered = [self.budget.count(seen) >= site.k.shape[2]] * b
        else:
            held, total = (t.flatten().expand(b).tolist() for t in (real.sum(-1).amax(1), torch.as_tensor(seen)))
            covered = [self.budget.count(max(1, n)) >= h for n, h in zip(total, held, strict=True)]
        keeps = [False] * b
        if state.chosen is not None and state.query is not None:
            near = cosine_similarity(wide(query), wide(state.query), dim=-1) >= self.reuse
            keeps = (near & (state.chosen >= 0).flatten(1).any(1)).tolist()
        return ["all" if c else "keep" if k else "choose" for c, k in zip(covered, keeps, strict=True)]

    def _seen(self, site: Site) -> int | Int[Tensor, "B 1 1"]:
        assert site.buffer is not None
        return site.seen(site.buffer.seen)

    def _read_prompt(self, site: Site) -> Float[Tensor, "1 H Q Dv"]:
        """Block by block on the grid of the sequence: select among the tokens before, attend to those and the block."""
        return torch.cat([self._read_block(block, past) for block, past in blocks(site, self.chunk)], 2)

    def _read_block(self, block: Site, past: int) -> Float[Tensor, "1 H Q Dv"]:
        if self.budget.count(max(1, past)) >= past:
            return block.dense()
        mean = replace(block.for_queries(slice(0, 1)), q=block.q.mean(2, keepdim=True)).between(0, past)
        index = choose(self.budget, self._vote(mean), None, past)
        own = torch.arange(past, block.k.shape[2], device=index.device).expand(1, index.shape[1], -1)
        return self._read(block, torch.cat((index, own), -1))

    def _read(self, site: Site, index: Int[Tensor, "B #G M"]) -> Float[Tensor, "B H Q Dv"]:
        """Attention to the chosen keys, with `slots` at consecutive positions that end with the last."""
        chosen = site.narrow(index)
        if not self.slots:
            return chosen.dense()
        real, places = chosen.real(), chosen.positions()
        if real is None:
            slot = torch.arange(places.shape[-1], device=places.device).expand_as(places)
            by = places[..., -1:] - slot[..., -1:] + slot - places
        else:
            slot = real.cumsum(-1) - 1
            last = places.masked_fill(~real, -1).amax(-1, keepdim=True)
            by = torch.where(real, last - slot.amax(-1, keepdim=True) + slot - places, 0)
        return replace(chosen, k=turned(site, chosen.k, by)).dense()

    def _adapter(self, model: Any) -> ModelAdapter:
        adapter = super()._adapter(model)
        if self.slots:
            Rotary.of(model)
        return adapter

    def _slide(self, site: Site, chosen: Int[Tensor, "B #G M"]) -> Int[Tensor, "B #G M"]:
        """The last choice, as many rows as it was, with the recent tokens of now."""
        real, k, recent = site.real(), site.k.shape[2], self.budget.recent
        count = (chosen >= 0).sum(-1, keepdim=True)
        stays = torch.where(torch.arange(chosen.shape[-1], device=chosen.device) < count - recent, chosen, -1)
        newest = torch.arange(k - recent, k, device=chosen.device).expand(*chosen.shape[:2], -1)
        if real is not None:
            order = torch.where(real, torch.arange(k, device=chosen.device), -1).sort(-1).values
            newest = order[..., k - recent :].expand(*chosen.shape[:2], -1)
        return packed(torch.cat((stays, newest), -1))

    def _vote(self, site: Site) -> Float[Tensor, "B G K"]:
        """Votes of one query per head, summed over the heads of each KV head; fixed tokens take no part."""
        g, k = site.k.shape[1:3]
        real = site.real()
        if real is None:
            low, high = self.budget.sink, k - self.budget.recent
            votes = self._soft_vote(self._products(site.between(low, high)), g)
            return pad(votes, (low, k - high))
        closed = ~open_rows(self.budget, real.expand(-1, g, -1))
        products = self._products(site)
        for_queries = closed.repeat_interleave(site.groups, 1).unsqueeze(2)
        votes = self._soft_vote(products.masked_fill(for_queries, torch.finfo(products.dtype).min), g, ~closed)
        return votes.masked_fill(closed, 0.0)

    def _soft_vote(
        self, products: Float[Tensor, "B H 1 K"], g: int, among: Bool[Tensor, "B G K"] | None = None
    ) -> Float[Tensor, "B G K"]:
        b, h, _, k = products.shape
        votes = products.softmax(-1).view(b, g, h // g, k).sum(2)
        return pooled(votes, self.kernel, among) if self.kernel else votes

    def _check_gaps(self, site: Site) -> None:
        padding = None if site.facts is None else site.facts.padding
        if self.slots and padding is not None and bool((padding[:, 1:] < padding[:, :-1]).any()):
            raise Incompatible(
                "token_select: with slots, sequences must have no padding between their tokens, which leaves open "
                "where these stand; got some; pad on the left."
            )

    def _products(self, site: Site) -> Float[Tensor, "B H 1 K"]:
        """Query-key products without the factor that attention puts on them; masked keys stay finite."""
        if self.slots:
            # Keys go back to position 0, the query to `recent`: all keys are judged from the same distance.
            back = site.positions()
            query = self.budget.recent - self._query_position(site, back)
            site = replace(site, q=turned(site, site.q, query), k=turned(site, site.k, -back))
        if site.cap is None and site.bias is None:
            return replace(site, scale=1.0).logits()
        logits = site.logits()
        return (logits / site.scale).clamp_min(torch.finfo(logits.dtype).min)

    def _query_position(self, site: Site, places: Int[Tensor, "B #G K"]) -> Int[Tensor, "B 1 1"]:
        assert site.facts is not None
        at = site.facts.first_query
        if site.facts.padding is None:
            return torch.full((len(places), 1, 1), at, device=places.device)
        return site.facts.padding[:, :at].sum(1).view(-1, 1, 1)


def _runs(values: list[str]) -> Iterator[tuple[str, slice]]:
    """Neighbours of one value, and where they stand."""
    start = 0
    for value, group in groupby(values):
        stop = start + len(list(group))
        yield value, slice(start, stop)
        start = stop


def _one_below_another(parts: list[Tensor]) -> Int[Tensor, "B G M"]:
    """Choices of several sequences, with -1 behind those that are shorter."""
    heads, most = (max(part.shape[axis] for part in parts) for axis in (1, 2))
    return torch.cat([pad(part, (0, most - part.shape[2]), value=-1).expand(-1, heads, -1) for part in parts])
