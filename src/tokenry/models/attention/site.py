"""One attention layer in one forward pass: all that a method may see and ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from tokenry.models.attention.mask import MaskFacts
from tokenry.models.attention.place import Kind
from tokenry.models.attention.products import by_head, products, read_once
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.packed import gathered
from tokenry.models.cache.reads import Reads

MASK_ELEMENTS = 1 << 26
"""Queries are taken in slices so that no boolean mask grows beyond this many elements."""

PROBABILITIES = MASK_ELEMENTS // 16
"""Attention probabilities that exist at once: they are floats, and pass through several copies."""


@dataclass(slots=True, eq=False)
class Site:
    """Attention after projections, positions and the cache update, before anything is attended to.

    Three words are kept apart. A *column* is the place of a token in the padded sequences of the batch, counted from
    their start; it never changes. A *row* is a place among the keys that this site holds, 0 … K - 1; after an eviction
    row i holds another column than i. A *sequence* is an entry of the batch.

    Shapes:
        q (B, H, Q, D), k (B, G, K, D), v (B, G, K, Dv); H is a multiple of G.
        columns (B, G, K): original column of the key in each row, None when row i is column `first + i`.

    Args:
        layer: index of the layer in its stack, for `self` and `cross` also in its cache.
        kind: `self` reads what is being decoded, `cross` an encoder's output, `encoder` its own input.
        stack: name of the list of layers.
        scale: factor on query-key products.
        facts: who may see whom; None for attention without any mask.
        first: column of row 0 where `columns` is None.
        holes: some of `columns` may be -1.
        own: the keys are those of the query tokens and no others, in the same order.
        buffer: the layer's cache, None without cache or in a native sliding window.
        expand: makes keys and values of all heads of what the cache holds, where that is latents: rows (B, 1, K) that
            serve all heads; None where the cache holds keys and values.
        cache: the cache that `buffer` is part of.
        model: the model whose attention this is.
        hidden: the input (B0, Q0, E) of the whole layer, before projections, also where the site is a part; None
            where it is no batch.
        hidden_first: the column of the first of these.
        cap: soft cap on logits, or None.
        sinks: learned extra logits (H), or (B, H) where sequences have other heads, or None.
        bias: learned extra logits (1 or B, H, Q, N) of every column for each query, or None.
        bias_first: the column of the first of these.
        reads: the account that attention is entered into.
        decoding: the pass brings one token on top of tokens seen before.
        later: the tokens of the pass come after the prompt.
        prompt: columns of the whole prompt, where known.
    """

    layer: int
    q: Float[Tensor, "B H Q D"]
    k: Float[Tensor, "B G K D"]
    v: Float[Tensor, "B G K Dv"]
    scale: float
    facts: MaskFacts | None
    columns: Int[Tensor, "B G K"] | None = None
    first: int = 0
    holes: bool = False
    own: bool = False
    buffer: KVBuffer | None = None
    expand: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = field(default=None, repr=False)
    cache: Cache | None = None
    model: PreTrainedModel | None = field(default=None, repr=False)
    hidden: Float[Tensor, "B0 Q0 E"] | None = field(default=None, repr=False)
    hidden_first: int = 0
    cap: float | None = None
    sinks: Float[Tensor, "H"] | Float[Tensor, "B H"] | None = None
    bias: Float[Tensor, "#B H Q N"] | None = field(default=None, repr=False)
    bias_first: int = 0
    reads: Reads | None = field(default=None, repr=False)
    prompt: int | None = None
    decoding: bool = False
    later: bool = False
    kind: Kind = "self"
    stack: str = ""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def groups(self) -> int:
        """Query heads that share one KV head."""
        return self.q.shape[1] // self.k.shape[1]

    def real(self) -> Bool[Tensor, "B #G K"] | None:
        """Which rows hold real tokens; None when all do."""
        if self.facts is None or (self.facts.padding is None and not self.holes):
            return None
        return self.facts.real(self.columns, self.first, self.k.shape[2])

    def key_columns(self) -> Int[Tensor, "B G K"]:
        """The column of every row, -1 for an empty one."""
        if self.columns is not None:
            return self.columns
        b, g, k, _ = self.k.shape
        return torch.arange(self.first, self.first + k, device=self.k.device).expand(b, g, -1)

    def query_columns(self) -> Int[Tensor, "Q"]:
        """The column of every query, where all sequences have the same."""
        assert self.facts is None or self.facts.columns is None
        start = 0 if self.facts is None else self.facts.first_query
        return torch.arange(start, start + self.q.shape[2], device=self.q.device)

    def positions(self) -> Int[Tensor, "B #G K"]:
        """How many real tokens of its sequence stand before the key of every row."""
        columns = self.key_columns()
        if self.facts is None or self.facts.padding is None:
            return columns
        padding = (
            self.facts.padding
            if len(self.facts.padding) == len(columns)
            else self.facts.padding.expand(len(columns), -1)
        )
        before = padding.cumsum(1) - 1
        return before.gather(1, columns.clamp_min(0).flatten(1)).view_as(columns)

    def seen(self, end: int) -> int | Int[Tensor, "B 1 1"]:
        """Real tokens among the first `end` columns, evicted ones included."""
        if self.facts is None or self.facts.padding is None:
            return end
        return self.facts.padding[:, :end].sum(1).view(-1, 1, 1)

    def mask(self, queries: slice = slice(None)) -> Bool[Tensor, "B #G Q K"] | None:
        """Which keys some queries may see; None when all."""
        if self.facts is None:
            return None
        if self.columns is None:
            if self.facts.sees_all(self.first, self.k.shape[2]):
                return None
            return self.facts.allowed(self.key_columns()[:, :1], queries)
        if self.q.shape[2] == 1 and not self.holes and self.facts.sees_all(0, self.facts.first_query + 1):
            return None
        return self.facts.allowed(self.columns, queries)

    def logits(self, queries: slice = slice(None)) -> Float[Tensor, "B H Q K"]:
        """Scaled, capped and masked query-key products of some queries, in floats of 32 bits or more.

        A query that may see nothing gets the finite minimum everywhere, so its softmax is uniform, not NaN. The keys
        are entered into the account, since whoever asks reads them beside what attention reads.
        """
        if self.reads is not None:
            self.reads.bytes += self.k.nbytes
        return self._logits(queries)

    def probs(self, queries: slice = slice(None)) -> Float[Tensor, "B H Q K"]:
        """Attention probabilities of some queries; learned sinks take their part of each.

        Where the output is wanted as well, `dense_and_probs` and `dense_and_received` read the keys once for both.
        """
        return self.softmax(self.logits(queries))

    def _logits(self, queries: slice) -> Float[Tensor, "B H Q K"]:
        q = self.q[:, :, queries]
        b, h, n, d = q.shape
        g = self.k.shape[1]
        scores = products(q.reshape(b, g, (h // g) * n, d), self.k)
        return self.logits_of(wide(scores).view(b, h, n, -1), queries)

    def logits_of(self, products: Float[Tensor, "B H Q K"], queries: slice = slice(None)) -> Float[Tensor, "B H Q K"]:
        """What attention makes of the products of some queries with the keys: scaled, capped, biased and masked."""
        scores = products if self.scale == 1 else products * self.scale
        if self.cap is not None:
            scores = torch.tanh(scores / self.cap) * self.cap
        if self.bias is not None:
            scores = scores + self._bias(queries)
        mask = self.mask(queries)
        if mask is not None:
            seen = mask if mask.shape[1] == 1 else mask.repeat_interleave(self.groups, 1)
            scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        return scores

    def _bias(self, queries: slice) -> Float[Tensor, "#B H Q K"]:
        """The extra logits of the keys that this site holds."""
        assert self.bias is not None
        bias = wide(self.bias[:, :, queries])
        if self.columns is None:
            low = self.first - self.bias_first
            return bias[..., low : low + self.k.shape[2]]
        n = bias.shape[2]
        columns = (self.columns - self.bias_first).clamp_min(0).repeat_interleave(self.groups, 1).unsqueeze(2)
        return bias.expand(columns.shape[0], -1, -1, -1).gather(-1, columns.expand(-1, -1, n, -1))

    def softmax(self, scores: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        """Probabilities of logits, of which learned sinks take their part."""
        if self.sinks is None:
            return scores.softmax(-1)
        sinks = wide(self.sinks).view(-1, scores.shape[1], 1, 1).expand(*scores.shape[:3], 1)
        return torch.cat((scores, sinks), -1).softmax(-1)[..., :-1]

    def dense(self) -> Float[Tensor, "B H Q Dv"]:
        """Exact attention over all keys of this site."""
        self._account()
        if self.cap is not None or self.sinks is not None or self.bias is not None:
            return self._slices(self._explicit)
        b, h, n, d = self.q.shape
        g = self.k.shape[1]
        if n == 1:
            # One query per head: the heads of a group are the rows of one small attention, so keys are read once.
            q, mask = self.q.reshape(b, g, h // g, d), self.mask()
            out = read_once(q, self.k, self.v, self.scale) if mask is None else None
            if out is None:
                out = scaled_dot_product_attention(q, self.k, self.v, attn_mask=mask, scale=self.scale)
            return out.reshape(b, h, 1, -1)
        if self._plain_causal():
            return scaled_dot_product_attention(
                self.q, self.k, self.v, is_causal=True, scale=self.scale, enable_gqa=h != g
            )
        return self._slices(self._masked)

    def _plain_causal(self) -> bool:
        facts = self.facts
        if facts is None:
            return False
        if self.columns is None:
            return facts.plain_causal(self.first, self.k.shape[2])
        # Tokens were dropped between layers: what is left stands in the same order, queries and keys alike.
        return self.own and not self.holes and facts.causal and facts.padding is None and facts.window is None

    def dense_and_probs(self) -> tuple[Float[Tensor, "B H Q Dv"], Float[Tensor, "B H Q K"]]:
        """Exact attention and the probabilities it is made with; the whole map, so only for few queries."""
        self._account()
        return self._both()

    def dense_and_received(self) -> tuple[Float[Tensor, "B H Q Dv"], Float[Tensor, "B G K"]]:
        """Exact attention, and the probability that every row receives, without a whole map.

        The sum is over the queries that are real tokens and over the query heads of each KV head.
        """
        self._account()
        b, h = self.q.shape[:2]
        g, k = self.k.shape[1:3]
        real = self.real_queries()
        received = torch.zeros(b, g, k, device=self.q.device)
        parts = []
        for queries, part in self.streamed():
            out, probs = part._both()
            parts.append(out)
            probs = probs.detach()
            if real is not None:
                probs = probs * real[:, None, queries, None]
            seen = probs.shape[-1]
            received[..., :seen] += probs.sum(2).view(b, g, h // g, seen).sum(2)
        return torch.cat(parts, 2), received

    def reweighted(
        self, change: Callable[[slice, Site, Float[Tensor, "B H Q K"]], Float[Tensor, "B H Q K"]]
    ) -> Float[Tensor, "B H Q Dv"]:
        """Attention with the probabilities that `change` makes of the exact ones, some queries at a time.

        Args:
            change: gets which queries, the site for them, as `streamed` yields both, and their probabilities.
        """
        self._account()
        parts = ((some, part, part.softmax(part._logits(slice(None)))) for some, part in self.streamed())
        return torch.cat([part._weighted(change(some, part, probs)) for some, part, probs in parts], 2)

    def _both(self) -> tuple[Float[Tensor, "B H Q Dv"], Float[Tensor, "B H Q K"]]:
        probs = self.softmax(self._logits(slice(None)))
        return self._weighted(probs), probs

    def real_queries(self) -> Bool[Tensor, "B Q"] | None:
        """Which queries are tokens; a padded one would spread its attention over everything."""
        if self.facts is None:
            return None
        padding, columns = self.facts.padding, self.facts.columns
        if columns is None:
            return None if padding is None else padding[:, self.query_columns()].expand(self.q.shape[0], -1)
        there = columns >= 0
        return there if padding is None else there & padding.expand(len(columns), -1).gather(1, columns.clamp_min(0))

    def narrow(self, rows: Int[Tensor, "B #G M"]) -> Site:
        """The same site holding only some of its rows, -1 for none. A middle axis of 1 serves all heads."""
        b, g, _, _ = self.k.shape
        rows = rows.expand(b, g, -1)
        at = rows.clamp_min(0)
        k, v = gathered(self.k, at), gathered(self.v, at)
        columns = rows + self.first if self.columns is None else self.columns.gather(-1, at)
        holes = self.holes or bool((rows < 0).any())
        if holes:
            columns = torch.where(rows >= 0, columns, -1)
        return replace(self, k=k, v=v, columns=columns, first=0, holes=holes, own=False)

    def now(self) -> Site:
        """The same site over what its cache holds now."""
        assert self.buffer is not None
        k, v = self.buffer.rows() if self.expand is None else self.expand(*self.buffer.rows())
        columns = self.buffer.columns
        columns = None if columns is None else columns.expand(-1, k.shape[1], -1)
        return replace(self, k=k, v=v, columns=columns, first=0, holes=self.buffer.ragged)

    def between(self, low: int, high: int) -> Site:
        """The same site holding only the rows `low` … `high - 1`; nothing is copied."""
        columns = None if self.columns is None else self.columns[..., low:high]
        return replace(
            self, k=self.k[:, :, low:high], v=self.v[:, :, low:high], columns=columns, first=self.first + low,
            own=False,
        )  # fmt: skip

    def sequences(self, some: slice) -> Site:
        """The same site for some sequences of the batch; nothing is copied."""
        return replace(
            self, q=self.q[some], k=self.k[some], v=self.v[some], facts=self.facts and self.facts.sequences(some),
            columns=None if self.columns is None else self.columns[some],
            bias=self.bias if self.bias is None or len(self.bias) == 1 else self.bias[some],
            sinks=self.sinks if self.sinks is None or self.sinks.ndim == 1 else self.sinks[some],
        )  # fmt: skip

    def alone(self, sequence: int) -> tuple[Site, slice | Int[Tensor, "N"]] | None:
        """One sequence without its padding, and which of the queries are its own; None where none is.

        Only for sites that hold every column in the row of its number. Nothing is copied where no padding stands
        between tokens.
        """
        assert self.facts is not None
        one = self.sequences(slice(sequence, sequence + 1))
        real = one.real()
        rows = torch.arange(self.k.shape[2], device=self.k.device) if real is None else real[0, 0].nonzero()[:, 0]
        ahead = self.facts.first_query - self.first
        own = rows[rows >= ahead] - ahead
        if not len(own):
            return None
        facts, (low, high) = self.facts.alone(sequence), (int(rows[0]), int(rows[-1]) + 1)
        if len(rows) == high - low:
            queries = slice(int(own[0]), int(own[-1]) + 1)
            part = replace(one, facts=facts, columns=None, holes=False).for_queries(queries)
            return part.between(low, high), queries
        part = replace(
            one.narrow(rows[None, None]), facts=facts.over((own + self.facts.first_query)[None]), holes=False
        )
        return replace(part, q=part.q[:, :, own], bias=None if part.bias is None else part.bias[:, :, own]), own

    def last(self) -> tuple[Site, Bool[Tensor, "B"] | None]:
        """The site of the last token of every sequence, and which have one in this pass; None when all have."""
        real = self.real_queries()
        if real is None or bool(real[:, -1].all()):
            return self.for_queries(slice(-1, None)), None
        assert self.facts is not None
        at = torch.where(real, torch.arange(real.shape[1], device=real.device), 0).amax(1, keepdim=True)
        wide = at[:, None, :, None]
        return replace(
            self, q=self.q.gather(2, wide.expand(-1, self.q.shape[1], -1, self.q.shape[3])), own=False,
            facts=self.facts.over(at + self.facts.first_query),
            bias=None if self.bias is None else self.bias.expand(len(at), -1, -1, -1).gather(
                2, wide.expand(-1, self.bias.shape[1], -1, self.bias.shape[3])
            ),
        ), real.any(1)  # fmt: skip

    def streamed(self, queries: range | None = None) -> Iterator[tuple[slice, Site]]:
        """Some queries at a time, so that their probabilities stay small, with the keys that they may see.

        Args:
            queries: which queries; all where not given.

        Yields:
            Which queries, and the site for them. Keys behind all of them are left out, so the rows of the part are the
            first ones of the whole.
        """
        b, h, n, _ = self.q.shape
        k = self.k.shape[2]
        queries = range(n) if queries is None else queries
        size = max(1, PROBABILITIES // (b * h * k))
        causal = self.columns is None and self.facts is not None and self.facts.causal
        for low in range(queries.start, queries.stop, size):
            some = slice(low, min(low + size, queries.stop))
            part = self.for_queries(some)
            if causal and self.facts is not None:
                part = part.between(0, min(k, self.facts.first_query + some.stop - self.first))
            yield some, part

    def for_queries(self, queries: slice) -> Site:
        """The same site for some of its queries only."""
        q = self.q[:, :, queries]
        facts = self.facts
        if facts is not None:
            start = queries.indices(self.q.shape[2])[0]
            columns = None if facts.columns is None else facts.columns[:, queries]
            facts = replace(facts, first_query=facts.first_query + start, queries=q.shape[2], columns=columns)
        return replace(self, q=q, facts=facts, bias=None if self.bias is None else self.bias[:, :, queries], own=False)

    def _masked(self, queries: slice) -> Tensor:
        mask = self.mask(queries)
        h, g = self.q.shape[1], self.k.shape[1]
        if mask is not None and mask.shape[1] not in (1, h):
            mask = mask.repeat_interleave(h // g, 1)
        return scaled_dot_product_attention(
            self.q[:, :, queries], self.k, self.v, attn_mask=mask, scale=self.scale, enable_gqa=h != g
        )

    def _explicit(self, queries: slice) -> Tensor:
        return self._weighted(self.softmax(self._logits(queries)))

    def _weighted(self, probs: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q Dv"]:
        b, h, n, k = probs.shape
        g = self.v.shape[1]
        return by_head(probs.to(self.v.dtype).view(b, g, (h // g) * n, k), self.v).view(b, h, n, -1)

    def _slices(self, attend: Any) -> Tensor:
        b, h, n, _ = self.q.shape
        size = max(1, MASK_ELEMENTS // (b * h * self.k.shape[2]))
        parts = [attend(slice(i, min(i + size, n))) for i in range(0, n, size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def _account(self) -> None:
        if self.reads is None:
            return
        b, g, k, d = self.k.shape
        n = self.q.shape[2]
        row = (d + self.v.shape[-1]) * self.k.element_size()
        causal = (self.columns is None or self.own) and self.facts is not None and self.facts.causal and n > 1
        self.reads.note(n, k, g, row, b, causal)
        self.note_step()

    def note_step(self) -> None:
        """Enter the rows of this site into the account of every token that comes after the prompt."""
        if self.reads is None or not (self.later or self.decoding):
            return
        b, g, k, _ = self.k.shape
        n = self.q.shape[2]
        end = k if self.buffer is None else self.buffer.seen
        for column in range(end - n, end):
            real = self.real()
            if n > 1:
                real = (self.key_columns() <= column) if real is None else real & (self.key_columns() <= column)
            self.reads.step(self.layer, column, k, g, b, real, self.columns)


def wide(values: Tensor) -> Tensor:
    """Numbers to be summed or compared, in floats of 32 bits or more."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
