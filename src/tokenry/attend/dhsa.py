"""Dynamic hierarchical sparse attention: chunks that follow the text are compared first, then tokens are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.attend.base import Selector
from tokenry.attend.calibrated.boundaries import Boundaries, unturned
from tokenry.attend.rows.acting import refuse_missing
from tokenry.attend.rows.blocks import blocks, each_alone
from tokenry.attend.rows.choose import choose
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.fields import choice, folder, natural, positive, size
from tokenry.models.attention.rotary import Rotary
from tokenry.models.attention.site import Site, wide
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.own import own_part


@dataclass
class Chunks(LayerState):
    """Which chunk every token is in, and the sums of the keys of each.

    Shapes:
        of (B, N): by column, -1 for padding. sums (B, G, C, D); G is 1 where all heads share a choice. counts (B, C).
    """

    of: Int[Tensor, "B N"] | None = None
    sums: Float[Tensor, "B G C D"] | None = None
    counts: Int[Tensor, "B C"] | None = None


@dataclass(frozen=True, kw_only=True)
class Dhsa(Selector):
    """Compare queries with the means of chunks, and keep the tokens of the best.

    What it does
        The keys are cut into chunks of different lengths: where `predictor` sees a boundary, or every `chunk_size`
        tokens. s_c = q mean(k in c) sqrt(|c|), with the mean over heads and over the `block` queries that choose
        together; every token of c has the score s_c, and the `budget` tokens with the highest are attended to, the
        first and the most recent ones always.
    Where it acts
        On the prompt, block by block over the tokens before it, and at every decoding step, in all layers from
        `dense_layers` on. The last `instruction` queries of a prompt read everything, and begin a chunk. Nothing is
        evicted.
    Shapes
        site.q (B, H, Q, D), site.k and site.v (B, G, K, D) -> output (B, H, Q, Dv).
    Guarantees
        Equals dense attention while the budget covers what is held. Every key that is read stands before its query.
        Means are differences of running sums and equal the plain ones. The choice depends on its own sequence alone.
    Raises
        InvalidValue: a budget smaller than its sinks and recent tokens, `per="sequence"`, or a predictor of a
        layer that is not read, or no layer that chooses. Incompatible: a cache that something was evicted from, or a
        predictor of another model or of a layer with a sliding window of its own. StorageError: a predictor that is
        missing or damaged.
    Deviations
        Without `predictor` chunks have one length, which is the paper's baseline. A chunk that a block begins in
        counts with its tokens before the block. Each layer compares with its own keys; boundaries are those of the
        predictor's layer. Generated tokens form chunks of `chunk_size`. Labels are means over all layers and heads. Of
        the mask generators of the second release, of fixed blocks, only the first is here: `chunk_size=32,block=128`.
    Relations
        `token_select` with `chunk` scores every token; `quest` bounds pages of one length. `Boundaries.fit` makes a
        predictor in minutes.
    """

    card = Card(
        title="Long-Context Modeling with Dynamic Hierarchical Sparse Attention for On-Device LLMs",
        year=2025,
        url="https://arxiv.org/abs/2510.24606",
        summary="chunks that follow the text are compared with blocks of queries, and the tokens of the best are read",
        action="visible",
        granularity="chunk",
        evidence="query",
        identity_at={"budget": 1000000},
        trial={"budget": "12:sink=2:recent=2", "chunk_size": 4, "block": 4, "instruction": 2},
        deviations=(
            "chunks of one length where no predictor is given",
            "a chunk counts with its tokens before the block, and generated tokens form chunks of one length",
            "boundaries come from one layer for all, scores from each layer's own keys",
            "labels are means over all layers and heads",
            "no other mask generators of the second release than block means",
        ),
        exempt={
            "chunked_prefill": "each pass reads its own last queries densely, and boundaries follow what was read",
            "a_last_chunk_of_one_token_is_of_the_prompt": "each pass reads its own last queries densely",
        },
    )

    budget: Budget = size(
        Budget(share=0.25, sink=128, recent=128, per="layer"), doc="tokens read by each block, before itself"
    )
    chunk_size: int = positive(64, doc="tokens of a chunk, on average where there is a predictor")
    block: int = positive(128, doc="queries of the prompt that choose together")
    norm: str = choice(
        "sqrt", "none", default="sqrt", doc="what a mean is multiplied with: the root of its length, or 1"
    )
    instruction: int = natural(64, doc="last queries of the prompt that read everything")
    dense_layers: int = natural(0, doc="first layers that read everything")
    predictor: str | None = folder(None, doc="folder of learned boundaries; none to cut every `chunk_size` tokens")
    State = Chunks

    def attend(self, site: Site, state: Chunks) -> Float[Tensor, "B H Q Dv"]:
        if site.layer < self._first_layer() or site.buffer is None:
            return site.dense()
        self.refuse_evicted(site)
        if site.decoding:
            self._grow(site, state)
            return super().attend(site, state)
        self._cut(site, state)
        if self.covers(site.buffer.seen):
            return site.dense()
        of = state.of
        assert of is not None
        return each_alone(site, lambda row, part: self._read_prompt(part, of[row, part.key_columns()[0, 0]]))

    def select(self, site: Site, state: Chunks) -> Int[Tensor, "B #G M"] | None:
        assert site.buffer is not None
        assert state.of is not None
        assert state.sums is not None
        assert state.counts is not None
        n = site.seen(site.buffer.seen)
        if isinstance(n, int) and self.budget.count(n) >= n:
            return None
        means = self._means(state.sums, state.counts[:, None, :, None])
        if site.reads is not None:
            site.reads.bytes += means.nbytes
        scores = (self._asking(site) @ means.mT).squeeze(2)
        at = pad(state.of, (0, site.k.shape[2] - state.of.shape[1]), value=-1).clamp_min(0)
        scores = _of_the_seen(scores.gather(2, at.unsqueeze(1).expand(-1, scores.shape[1], -1)), site)
        return choose(self.budget, scores, site.real(), n)

    def _read_prompt(self, site: Site, of: Int[Tensor, "K"]) -> Float[Tensor, "1 H Q Dv"]:
        """Block by block, then the last queries densely."""
        k, first = site.k.shape[2], site.k.shape[2] - site.q.shape[2]
        dense = max(first, k - self.instruction)
        running = pad(self._shared(site.k).cumsum(2), (0, 0, 1, 0))
        begins = torch.cat((of.new_zeros(1), (of[1:] != of[:-1]).nonzero()[:, 0] + 1))
        parts = [
            self._read_block(block, past, running, begins) for block, past in blocks(site, self.block, dense)
            if block.q.shape[2]
        ]  # fmt: skip
        if dense < k:
            parts.append(site.for_queries(slice(dense - first, None)).dense())
        return torch.cat(parts, 2)

    def _read_block(
        self, block: Site, past: int, running: Float[Tensor, "1 G K1 D"], begins: Int[Tensor, "C"]
    ) -> Float[Tensor, "1 H Q Dv"]:
        if self.budget.count(max(1, past)) >= past:
            return block.dense()
        low = begins[begins < past]
        high = torch.cat((low[1:], low.new_tensor([past])))
        means = self._means(running[:, :, high] - running[:, :, low], (high - low).unsqueeze(-1))
        scores = (self._asking(block) @ means.mT).squeeze(2).repeat_interleave(high - low, -1)
        scores = _of_the_seen(scores, block.between(0, past))
        index = choose(self.budget, scores, None, past)
        own = torch.arange(past, block.k.shape[2], device=index.device).expand(1, index.shape[1], -1)
        return block.narrow(torch.cat((index, own), -1)).dense()

    def _asking(self, site: Site) -> Float[Tensor, "B G 1 D"]:
        """The mean of the queries and of the heads that choose together."""
        q = wide(site.q).mean(2, keepdim=True)
        return q.unflatten(1, (site.k.shape[1], -1)).mean(2) if self.budget.per == "head" else q.mean(1, keepdim=True)

    def _shared(self, keys: Float[Tensor, "B G K D"]) -> Float[Tensor, "B G K D"]:
        """The keys that are compared: of each KV head, or their mean."""
        return wide(keys) if self.budget.per == "head" else wide(keys).mean(1, keepdim=True)

    def _means(self, sums: Tensor, counts: Tensor) -> Tensor:
        counts = counts.clamp_min(1)
        return sums / (counts.sqrt() if self.norm == "sqrt" else counts)

    def _cut(self, site: Site, state: Chunks) -> None:
        """Cut all that was read so far into chunks, anew with every pass of a prompt."""
        assert site.buffer is not None
        b, seen, real = len(site.k), site.buffer.seen, site.real()
        earlier = self._earlier(site)
        if earlier is None:
            keys = unturned(site) if self.predictor is not None and site.layer >= self._first_layer() else None
            of = torch.full((b, seen), -1, device=site.k.device)
            for row in range(b):
                there = torch.ones(seen, dtype=torch.bool) if real is None else real[row, 0, :seen]
                at = there.nonzero()[:, 0].to(of.device)
                begins = self._begins(len(at), None if keys is None else keys[row, at])
                of[row, at] = torch.searchsorted(begins, torch.arange(len(at), device=of.device), right=True) - 1
            state.of = of
        else:
            state.of = earlier
        self._sum(site, state)

    def _begins(self, n: int, keys: Float[Tensor, "N E"] | None) -> Int[Tensor, "C"]:
        """The first token of every chunk of one sequence; that of the instruction is one."""
        if keys is None or self.predictor is None or n < 2:
            begins = torch.arange(0, max(n, 1), self.chunk_size)
        else:
            with torch.no_grad():
                begins = Boundaries.at(self.predictor).cut(keys, max(1, n // self.chunk_size)).cpu()
        if 0 < n - self.instruction < n:
            begins = torch.cat((begins, torch.tensor([n - self.instruction]))).unique()
        return begins if keys is None else begins.to(keys.device)

    def _earlier(self, site: Site) -> Int[Tensor, "B N"] | None:
        """The chunks that a layer before has cut the same tokens into."""
        if site.layer == self._first_layer() or site.cache is None or site.buffer is None:
            return None
        before = getattr(own_part(site.cache).layers[self._first_layer()], "states", None)
        if before is None and self.predictor is not None:
            raise Incompatible(
                f"dhsa: predictor must read a layer whose keys are all held; got layer {self._first_layer()}, which "
                f"has a sliding window of its own; learn one of another layer, such as {site.layer}."
            )
        chunks = next((s.of for s in before or () if isinstance(s, Chunks)), None)
        # Behind a prompt each layer reads all tokens of a pass before the next one begins.
        seen = site.buffer.seen
        return None if chunks is None or chunks.shape[1] < seen else chunks[:, :seen]

    def _sum(self, site: Site, state: Chunks) -> None:
        """Sum the keys of every chunk."""
        assert state.of is not None
        count = max(1, int(state.of.max()) + 1)
        keys = self._shared(site.k[:, :, : state.of.shape[1]].detach())
        if site.reads is not None:
            site.reads.bytes += keys.nbytes
        at, there = state.of.clamp_min(0), state.of >= 0
        wide_at = at[:, None, :, None].expand_as(keys)
        sums = keys.new_zeros(*keys.shape[:2], count, keys.shape[3])
        state.sums = sums.scatter_add(2, wide_at, keys * there[:, None, :, None])
        state.counts = at.new_zeros(len(at), count).scatter_add(1, at, there.long())

    def _grow(self, site: Site, state: Chunks) -> None:
        """Enter the newest token, into the last chunk or into a new one behind it."""
        assert site.buffer is not None
        seen = site.buffer.seen
        if state.of is None or state.sums is None or state.counts is None or state.of.shape[1] != seen - 1:
            self._cut(site, state)
            return
        real = site.real()
        there = torch.ones(len(site.k), dtype=torch.bool) if real is None else real[:, 0, seen - 1]
        last = state.of.amax(1).clamp_min(0)
        full = state.counts.gather(1, last.unsqueeze(1)).squeeze(1) >= self.chunk_size
        now = last + full
        room = int(now.max()) + 1 - state.counts.shape[1]
        sums, counts = pad(state.sums, (0, 0, 0, max(0, room))), pad(state.counts, (0, max(0, room)))
        there = there.to(now.device)
        key = self._shared(site.k[:, :, seen - 1 : seen].detach()) * there.view(-1, 1, 1, 1)
        state.sums = sums.scatter_add(2, now.view(-1, 1, 1, 1).expand_as(key), key)
        state.counts = counts.scatter_add(1, now.unsqueeze(1), there.long().unsqueeze(1))
        state.of = torch.cat((state.of, torch.where(there, now, -1).unsqueeze(1)), 1)

    def _first_layer(self) -> int:
        """The first layer that chooses: not before the one whose keys are cut."""
        return max(self.dense_layers, Boundaries.at(self.predictor).layer) if self.predictor else self.dense_layers

    def _adapter(self, model: Any) -> Any:
        adapter = super()._adapter(model)
        refuse_missing(self, adapter, "dense_layers", self.dense_layers)
        if self.predictor is not None:
            Rotary.of(model)
            predictor = Boundaries.at(self.predictor)
            predictor.check(model, "dhsa: predictor", "Boundaries.fit(model, samples)")
            if predictor.layer >= adapter.depth or predictor.layer < self.dense_layers:
                raise InvalidValue(
                    f"dhsa: predictor must read a layer from dense_layers={self.dense_layers} on, of "
                    f"{adapter.depth}; got layer {predictor.layer}."
                )
        return adapter


def _of_the_seen(scores: Float[Tensor, "B #G K"], site: Site) -> Float[Tensor, "B #G K"]:
    """Scores, the lowest for keys that no query may see, as behind a sliding window."""
    mask = site.mask()
    if mask is None:
        return scores
    seen = mask.any(2)
    seen = seen if scores.shape[1] > 1 else seen.any(1, keepdim=True)
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
