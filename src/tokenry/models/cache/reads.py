"""Count what attention reads: rows per decoding step, bytes, and on request every column."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class Reads:
    """The account of one attached method, or of dense attention.

    Args:
        by_column: also count, for each layer and KV head, how often every column was read while decoding.
    """

    by_column: bool = False
    bytes: int = 0
    pairs: float = 0.0
    counts: dict[int, Float[Tensor, "B G N"]] = field(default_factory=dict)
    _whole: dict[str, set[int]] = field(default_factory=dict, repr=False)
    """The columns for whose tokens everything was read by a rule, by what that says."""
    _steps: list[dict[int, Tensor | float]] = field(default_factory=list, repr=False)
    _at: dict[int, int] = field(default_factory=dict, repr=False)
    """The step that last read for the token of a column."""

    def note(self, queries: int, keys: int, heads: int, row_bytes: int, batch: int, causal: bool) -> None:
        """One attention call over `keys` rows of `heads` KV heads in `batch` sequences."""
        self.bytes += batch * heads * keys * row_bytes
        self.pairs += batch * queries * (keys - (queries - 1) / 2 if causal else keys)

    def step(
        self,
        layer: int,
        column: int,
        keys: int,
        heads: int,
        batch: int,
        held: Bool[Tensor, "B #G K"] | None,
        columns: Int[Tensor, "B G K"] | None,
    ) -> None:
        """What one layer reads for the token of one column; `held` is False for rows that hold no token."""
        if column not in self._at or layer in self._steps[self._at[column]]:
            self._at[column] = len(self._steps)
            self._steps.append({})
        self._steps[self._at[column]][layer] = float(keys) if held is None else held.float().sum(-1).mean()
        if self.by_column:
            self._count(layer, keys, heads, held, columns, batch)

    def note_whole(self, column: int, why: str) -> None:
        """A rule had everything read for the token of a column, whatever the budget."""
        self._whole.setdefault(why, set()).add(column)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of these numbers should know, in sentences."""
        steps = len(self._at)
        return tuple(f"{why}; so {len(at):,} of {steps:,} steps read everything." for why, at in self._whole.items())

    @property
    def per_step(self) -> list[float]:
        """Tokens read for each token after the prompt: mean over layers, KV heads and sequences."""
        return [sum(float(v) for v in step.values()) / len(step) for step in self._steps]

    def _count(
        self, layer: int, keys: int, heads: int, held: Tensor | None, columns: Tensor | None, batch: int
    ) -> None:
        device = columns.device if columns is not None else held.device if held is not None else torch.device("cpu")
        if columns is None:
            columns = torch.arange(keys, device=device).expand(batch, heads, -1)
        columns = columns.expand(batch, heads, -1)
        ones = torch.ones_like(columns, dtype=torch.float32) if held is None else held.float().expand_as(columns)
        width = int(columns.max()) + 1
        total = self.counts.get(layer)
        if total is None or total.shape[-1] < width:
            wider = torch.zeros(batch, heads, max(64, width + width // 4), device=device)
            if total is not None:
                wider[..., : total.shape[-1]] = total
            total = self.counts[layer] = wider
        total.scatter_add_(-1, columns.clamp_min(0), ones)
