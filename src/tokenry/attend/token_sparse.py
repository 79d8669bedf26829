"""Token Sparse Attention: each head reads the prompt with a part of its tokens, queries and keys alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool1d

from tokenry.attend.base import Attention
from tokenry.attend.rows.acting import refuse_missing
from tokenry.attend.rows.blocks import each_alone
from tokenry.core.card import Card
from tokenry.core.fields import between, counts, odd, positive
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass(frozen=True, kw_only=True)
class TokenSparse(Attention):
    """Let every head of some layers attend among few tokens of the prompt, its own ones, and the rest pass by.

    What it does
        s_hj = mean over the last `window` queries i of softmax(q_hi k / sqrt(D))_j for the tokens j before them, then
        an average over `kernel` neighbours. Of the tokens with the lowest mean of s over the heads, as many are given
        up as hold less than `tail` of the whole. Every head keeps as many as are left, those with its own highest s,
        and the window; it attends causally among them, and its output is 0 for all others, whose residual goes on.
    Where it acts
        On a pass of the prompt of more than `least + window` tokens, in `layers`. The cache holds everything, and
        decoding reads it densely.
    Shapes
        site.q (B, H, Q, D), site.k (B, G, K, D) -> output (B, H, Q, Dv), exactly 0 in rows that a head left out.
    Guarantees
        `tail=0` is dense attention. What a head gives to a token that it keeps equals dense attention among the tokens
        that it keeps. Keys and queries are gathered head by head, so what is added to memory is one head of them. The
        choice depends on its own sequence alone.
    Raises
        InvalidValue: layers that the model does not have. Incompatible: a cache that something was evicted from.
    Deviations
        Sequences of a batch keep as many tokens as each needs. Where `layers` is empty, those of the second half but
        the last, as the published setting for 32 layers; `drifting` finds them for a model as the paper does.
        Each pass chooses by its own last queries, so a prompt in several passes is read otherwise than at once.
    Relations
        `snapkv` forgets what this method skips in one layer and may read in the next. `token_select` with `chunk`
        chooses keys for blocks of queries; here queries are left out as well.
    """

    card = Card(
        title="Token Sparse Attention: Efficient Long-Context Inference with Interleaved Token Selection",
        year=2026,
        url="https://github.com/dongwonjo/Token-Sparse-Attention",
        summary="each head reads the prompt with its own part of the tokens, and the next layer may choose others",
        action="visible",
        granularity="token",
        evidence="observed attention",
        identity_at={"tail": 0.0},
        trial={"tail": 0.4, "least": 8, "window": 4, "layers": (0, 1, 2)},
        claims=(
            "on a prompt of 2,048 tokens, at the same share of tokens, the last token's KL to dense is below that of "
            "random tokens of each head",
        ),
        deviations=(
            "sequences of a batch keep different numbers of tokens",
            "without `layers`, those of the second half but the last",
            "the drift of the last layer is not measured, since models return it normalised; it is never among them",
        ),
        exempt={
            "chunked_prefill": "the last queries of each pass choose, so passes choose otherwise than one for all",
            "a_last_chunk_of_one_token_is_of_the_prompt": "the last queries of each pass choose",
        },
    )

    tail: float = between(0.0, 1.0, default=0.005, doc="share of attention that may be given up")
    least: int = positive(1024, doc="tokens before the window that every head keeps in any case")
    window: int = positive(128, doc="last queries of the pass, which choose and always stay")
    kernel: int = odd(7, doc="width of the average over positions")
    layers: tuple[int, ...] = counts(0, 1023, default=(), doc="layers that act; empty for the second half but the last")

    def covers(self, seen: int) -> bool:
        return self.tail == 0 or seen <= self.least + self.window

    def attend(self, site: Site, state: LayerState) -> Float[Tensor, "B H Q Dv"]:
        if site.later or site.buffer is None or site.layer not in self._acting(site.model):
            return site.dense()
        self.refuse_evicted(site)
        if self.covers(site.buffer.seen):
            return site.dense()
        return each_alone(site, lambda _, part: self._read(part))

    def _read(self, site: Site) -> Float[Tensor, "1 H Q Dv"]:
        """The pass of one sequence, head by head."""
        kept = self._kept(site)
        if kept is None:
            return site.dense()
        out = site.q.new_zeros(*site.q.shape[:3], site.v.shape[-1])
        before = site.k.shape[2] - site.q.shape[2]
        for head, rows in enumerate(kept):
            queries = rows[rows >= before] - before
            part = _of_head(site, head, rows, queries)
            out[:, head, queries] = part.dense()[:, 0]
            if site.reads is not None:
                pairs = len(queries) * (len(rows) - (len(queries) - 1) / 2)
                site.reads.bytes += part.k.nbytes + part.v.nbytes
                site.reads.pairs += pairs / len(kept)
        return out

    def _kept(self, site: Site) -> Int[Tensor, "H L"] | None:
        """The rows that each head keeps, ascending; None where all do."""
        n = site.k.shape[2] - self.window
        if n <= self.least:
            return None
        asking = site.for_queries(slice(-self.window, None))
        scores = sum(part.probs()[..., :n].sum(2)[0] for _, part in _filled(asking)) / asking.q.shape[2]
        scores = avg_pool1d(scores, self.kernel, stride=1, padding=self.kernel // 2)
        total = scores.mean(0)
        given_up = int(((total / total.sum()).sort().values.cumsum(0) < self.tail).sum())
        count = max(self.least, n - given_up)
        if count >= n:
            return None
        best = scores.topk(count, -1).indices.sort(-1).values
        window = torch.arange(n, n + self.window, device=best.device).expand(len(best), -1)
        return torch.cat((best, window), -1)

    def _acting(self, model: Any) -> range | tuple[int, ...]:
        count = ModelAdapter.of(model).depth
        return self.layers or range((count + 1) // 2, max(count - 1, (count + 1) // 2))

    def _adapter(self, model: Any) -> Any:
        adapter = super()._adapter(model)
        refuse_missing(self, adapter, "layers", max(self.layers, default=0))
        return adapter


def _filled(site: Site) -> Any:
    """Some queries at a time, over all keys."""
    for some, part in site.streamed():
        yield some, replace(part, k=site.k, v=site.v, columns=site.columns, first=site.first)


def _of_head(site: Site, head: int, rows: Int[Tensor, "L"], queries: Int[Tensor, "N"]) -> Site:
    """One query head over some rows, for some queries."""
    assert site.facts is not None
    own, group = slice(head, head + 1), slice(head // site.groups, head // site.groups + 1)
    columns = site.key_columns()[0, 0]
    asking = columns[site.k.shape[2] - site.q.shape[2] :][queries]
    return replace(
        site, q=site.q[:, own, queries], k=site.k[:, group, rows], v=site.v[:, group, rows], first=0,
        columns=columns[rows].view(1, 1, -1), facts=site.facts.over(asking[None]), own=len(queries) == len(rows),
        reads=None, sinks=None if site.sinks is None else site.sinks[own],
        bias=None if site.bias is None else site.bias[:, own, queries],
    )  # fmt: skip
