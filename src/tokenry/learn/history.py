"""Histories: the losses that today's are compared with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from tokenry.core.method import Part
from tokenry.learn.base import Batch
from tokenry.learn.selection.labels import Labelled


class Past:
    """The history of one training."""

    @abstractmethod
    def losses(self, labelled: Labelled, inputs: Mapping[str, Any]) -> Float[Tensor, "B N"]:
        """-log p of every label that counts, by the history; 0 for all others.

        Args:
            inputs: what the model that learns was called with.
        """

    def prepare(self, batches: Iterable[Batch]) -> None:
        """What must be measured before the first step."""

    def stepped(self) -> None:
        """The optimiser made a step."""

    def tensors(self) -> dict[str, Tensor]:
        """What must be kept for an interrupted training."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""


@dataclass(frozen=True, kw_only=True)
class History(Part):
    """A part of `ss_token`: who gives the losses that the model's own are subtracted from."""

    room: ClassVar[str] = "learn"

    @abstractmethod
    def begin(self, model: Any) -> Past:
        """The history of a training of `model` that begins now."""
