"""Masks are facts first, tensors last: who may see whom, made into booleans only where asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map_only

from tokenry.core.errors import Incompatible

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(batch, head, query column, key column) -> may attend; broadcasts over its arguments."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskFacts:
    """What one forward pass knows about visibility, shared by all layers of one kind.

    Columns count tokens of the padded sequence from its start, whatever a cache still holds. Code that expects a mask
    may treat this as the boolean tensor (B, 1, Q, K) it stands for: that is made as soon as anything is done with it.

    Args:
        rows: B, the sequences of the batch.
        queries: Q, new tokens in this pass.
        keys: K, keys that the model's own cache layer returns.
        first_query: column of the first query.
        first_key: column of the first key the model's own cache layer returns.
        rule: the model's pattern without padding.
        causal: the pattern is plainly causal, perhaps within `window`.
        window: how far back a query sees at most, itself included: a window that slides, or a chunk that it stands in;
            None without limit.
        padding: True for real tokens of columns 0…K; None when all are real.
        columns: where the queries stand, -1 for none; None when they stand at `first_query` and after.
        tells_padding: whether `padding` is known; it is not where somebody made the mask for queries and keys, or for
            fewer tokens than there are.
    """

    rows: int
    queries: int
    keys: int
    first_query: int
    first_key: int
    rule: Rule
    causal: bool
    window: int | None
    padding: Bool[Tensor, "B K"] | None
    device: torch.device
    columns: Int[Tensor, "B Q"] | None = None
    tells_padding: bool = True

    def real(self, columns: Int[Tensor, "B G K"] | None, first: int, count: int) -> Bool[Tensor, "B #G K"] | None:
        """Which rows hold real tokens; None when all do. A column of -1 marks an empty row."""
        if columns is None:
            if self.padding is None:
                return None
            return self.padding[:, None, first : first + count]
        held = columns >= 0
        if self.padding is None:
            return held
        b, g, k = columns.shape
        padding = self.padding if self.padding.shape[0] == b else self.padding.expand(b, -1)
        at = columns.clamp_min(0).reshape(b, g * k)
        return held & padding.gather(1, at).view(b, g, k)

    def sees_all(self, first: int, count: int) -> bool:
        """Whether every query may see every one of the keys `first` … `first + count`."""
        return (
            self.columns is None
            and self.causal
            and self.padding is None
            and first + count <= self.first_query + 1
            and self._last_sees(first)
        )

    def plain_causal(self, first: int, count: int) -> bool:
        """Whether queries and keys are the same columns under a plain causal mask."""
        same = first == self.first_query and count == self.queries
        return self.causal and self.padding is None and same and self._last_sees(first)

    def _last_sees(self, first: int) -> bool:
        """Whether the last query sees a column; then, under windows and chunks alike, all see what is between."""
        if self.window is None:
            return True
        batch = torch.arange(self.rows, device=self.device).view(-1, 1, 1, 1)
        last, key = (batch.new_full((1, 1, 1, 1), at) for at in (self.first_query + self.queries - 1, first))
        return bool(self.rule(batch, torch.zeros_like(last), last, key).all())

    def allowed(self, columns: Int[Tensor, "B G K"], queries: slice = slice(None)) -> Bool[Tensor, "B G Q K"]:
        """The mask of some queries over the keys of any columns."""
        b, g, k = columns.shape
        query = self._query_columns(columns.device)[:, queries]
        key = columns.clamp_min(0)[:, :, None, :]
        batch = torch.arange(b, device=columns.device)[:, None, None, None]
        head = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=columns.device)
        seen = self.rule(batch, head, query[:, None, :, None], key)
        real = self.real(columns, 0, k)
        if real is not None:
            seen = seen & real[:, :, None, :]
        return seen.expand(b, g, query.shape[1], k)

    def over(self, columns: Int[Tensor, "B Q"]) -> MaskFacts:
        """The facts of the queries at `columns` alone."""
        return replace(self, queries=columns.shape[1], columns=columns)

    def _query_columns(self, device: torch.device) -> Int[Tensor, "#B Q"]:
        if self.columns is not None:
            return self.columns.clamp_min(0)
        return torch.arange(self.first_query, self.first_query + self.queries, device=device)[None]

    def sequences(self, some: slice) -> MaskFacts:
        """The facts of some sequences of the batch."""

        def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return self.rule(batch + some.start, head, query, key)

        padding, columns = (t if t is None or len(t) == 1 else t[some] for t in (self.padding, self.columns))
        return replace(self, rows=some.stop - some.start, padding=padding, rule=rule, columns=columns)

    def alone(self, sequence: int) -> MaskFacts:
        """The facts of one sequence whose keys hold no padding."""
        return replace(self.sequences(slice(sequence, sequence + 1)), padding=None)

    def to(self, device: Any = None, *others: Any, **more: Any) -> Any:
        """Follow the layers of a model that is spread over devices; other types are made of the tensor."""
        types = set(more) - {"non_blocking", "copy"}
        if others or types or not isinstance(device, torch.device | str | int) or isinstance(device, bool):
            return self.tensor().to(device, *others, **more)
        padding = None if self.padding is None else self.padding.to(device)
        return replace(self, padding=padding, device=torch.device(device))

    def tensor(self) -> Bool[Tensor, "B 1 Q K"]:
        """The mask itself, over the keys that the model's own cache layer returns."""
        columns = torch.arange(self.first_key, self.first_key + self.keys, device=self.device)
        return self.allowed(columns.expand(self.rows, 1, -1))

    @property
    def ndim(self) -> int:
        return 4

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.rows, 1, self.queries, self.keys))

    @property
    def dtype(self) -> torch.dtype:
        return torch.bool

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        beside = next((a for a in args if isinstance(a, Tensor)), None)
        added = "add" in getattr(func, "__name__", "") and beside is not None
        args, kwargs = tree_map_only(cls, lambda m: m._added(beside) if added else m.tensor(), (args, kwargs or {}))
        return func(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.tensor(), name)

    def __getitem__(self, index: Any) -> Tensor:
        return self.tensor()[index]

    def __invert__(self) -> Tensor:
        return ~self.tensor()

    def __and__(self, other: Any) -> Tensor:
        return self.tensor() & other

    def __or__(self, other: Any) -> Tensor:
        return self.tensor() | other

    def __add__(self, logits: Tensor) -> Tensor:
        return self._added(logits) + logits

    def _added(self, logits: Tensor) -> Float[Tensor, "B 1 Q K"]:
        """What is added to logits: nothing where a query sees a key, the lowest number elsewhere."""
        seen = self.tensor()
        return logits.new_zeros(seen.shape).masked_fill(~seen, torch.finfo(logits.dtype).min)

    def __mul__(self, other: Any) -> Tensor:
        return self.tensor() * other

    __rand__, __ror__, __radd__, __rmul__ = __and__, __or__, __add__, __mul__


@torch.compiler.disable  # type: ignore[untyped-decorator]
def note_facts(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Rule | None = None,
    attention_mask: Tensor | MaskFacts | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    device: torch.device | str = "cpu",
    **_: Any,
) -> MaskFacts:
    """The mask function registered with transformers: it keeps the facts and makes no tensor."""
    assert mask_function is not None
    if isinstance(attention_mask, MaskFacts):
        # Prepared before, as `generate` does for caches of a fixed size.
        return attention_mask
    told = attention_mask is None or attention_mask.shape[1] >= int(q_offset) + q_length
    padding = None if attention_mask is None else attention_mask.to(device=device, dtype=torch.bool)
    if padding is not None and padding.shape[1] < kv_offset + kv_length:
        missing = kv_offset + kv_length - padding.shape[1]
        padding = torch.nn.functional.pad(padding, (0, missing), value=False)
    if padding is not None and bool(padding.all()):
        padding = None
    return MaskFacts(
        rows=batch_size,
        queries=q_length,
        keys=kv_length,
        first_query=int(q_offset),
        first_key=int(kv_offset),
        rule=mask_function,
        causal=allow_is_causal_skip,
        window=local_size,
        padding=padding,
        device=torch.device(device),
        tells_padding=told,
    )


def everything(query: Tensor, key: Tensor) -> MaskFacts:
    """The facts of attention without a mask: every query sees every key."""
    return MaskFacts(
        rows=query.shape[0], queries=query.shape[2], keys=key.shape[2], first_query=0, first_key=0,
        rule=lambda batch, head, query_at, key_at: torch.ones_like(query_at + key_at, dtype=torch.bool),
        causal=False, window=None, padding=None, device=query.device,
    )  # fmt: skip


def only_these(mask: MaskFacts | Tensor, indices: Int[Tensor, "B Q M"], key: Tensor) -> Tensor:
    """The mask of queries that see a few keys only, as models choose them that have an indexer; -1 is none."""
    seen = mask.tensor() if isinstance(mask, MaskFacts) else mask if mask.dtype == torch.bool else mask >= 0
    k = key.shape[2]
    chosen = torch.zeros(*indices.shape[:2], k + 1, dtype=torch.bool, device=key.device)
    chosen.scatter_(-1, torch.where(indices >= 0, indices.long(), k), True)
    return seen & chosen[:, None, :, :k]


def given_mask(mask: Tensor, query: Tensor, key: Tensor) -> MaskFacts:
    """Facts from a four-axis mask that the caller made; additive ones must be 0 or about minus infinity.

    Raises:
        Incompatible: the mask holds finite biases, which are not a question of who sees whom, or heads see otherwise.
    """
    seen = mask if mask.dtype == torch.bool else mask >= 0
    if mask.dtype != torch.bool and bool(((mask != 0) & (mask > torch.finfo(mask.dtype).min / 2)).any()):
        raise Incompatible("attend: a four-axis attention mask must hold 0 or the lowest number; got other biases.")
    if seen.shape[1] > 1 and bool((seen != seen[:, :1]).any()):
        raise Incompatible("attend: a four-axis attention mask must be the same for all heads; got another for some.")
    b, q = query.shape[0], query.shape[2]
    first = max(0, seen.shape[-1] - q)
    # One row may stand for all queries.
    seen = seen[:, :1].expand(b, 1, q if seen.shape[2] == 1 else -1, -1)

    def rule(batch: Tensor, _: Tensor, query_at: Tensor, key_at: Tensor) -> Tensor:
        row = query_at - first
        if bool(((row < 0) | (row >= q)).any()) or bool((key_at >= seen.shape[-1]).any()):
            raise Incompatible(
                f"attend: a four-axis attention mask must tell what every token sees that is asked for; got one of "
                f"{q} queries, asked for those of an earlier pass; give the two-axis mask that tells padding apart."
            )
        return seen[batch, 0, row, key_at]

    return MaskFacts(
        rows=b, queries=q, keys=key.shape[2], first_query=first, first_key=max(0, seen.shape[-1] - key.shape[2]),
        rule=rule, causal=False, window=None, padding=None, device=query.device, tells_padding=False,
    )  # fmt: skip
