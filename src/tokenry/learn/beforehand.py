"""Beforehand: the losses of the model as it was before training, measured once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import setting
from tokenry.learn.base import Batch
from tokenry.learn.history import History, Past
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.selection.loss_table import LossTable


@dataclass(frozen=True, kw_only=True)
class Beforehand(History):
    """Compare with losses that were measured before the first step.

    What it does
        L_history(i) = -log p_0(i), by the model that the training begins with.  Samples are known by their ids and
        labels, not by their number.
    Where it acts
        As `history` of `ss_token`. `fit` and the trainer measure by themselves; a loop of your own calls
        `watch.prepare(batches)`. Losses of any other model, measured with `LossTable.measure`, may be read from a
        `file`.
    Shapes
        labels (B, N) -> losses (B, N).
    Guarantees
        One pass over the data before training and none during it. Order, batches and padding do not matter.
    Raises
        InvalidValue: nothing was measured, or other samples were.
        StorageError: the file is missing or damaged.
    Relations
        `moving_average` reads every batch twice and needs no pass before.
    """

    part = Card(
        title="ssToken: Self-modulated and Semantic-aware Token Selection for LLM Fine-tuning",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="losses of the model as it was before training",
        trial={},
    )

    file: str = setting("", doc="losses written by LossTable.save; empty to measure the model before the first step")

    def begin(self, model: Any) -> Past:
        return _Measured(model, LossTable.load(self.file) if self.file else None)


class _Measured(Past):
    def __init__(self, model: Any, table: LossTable | None) -> None:
        self.model, self.table = model, table

    def prepare(self, batches: Iterable[Batch]) -> None:
        if self.table is None:
            self.table = LossTable.measure(self.model, batches, who="beforehand")

    def losses(self, labelled: Labelled, inputs: Mapping[str, Any]) -> Float[Tensor, "B N"]:
        if self.table is None:
            raise InvalidValue(
                "beforehand: losses must be measured before training; got none; call watch.prepare(batches) with all "
                "data first, name a file, or use history=moving_average."
            )
        return self.table.losses(labelled, "beforehand")

    def tensors(self) -> dict[str, Tensor]:
        return {} if self.table is None else self.table.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.table = LossTable.of(tensors, "beforehand") if tensors else None
