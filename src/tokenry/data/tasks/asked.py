"""Rows of ids in which some places ask for what is right there, and how many answers are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

NOTHING = -100
"""The label of a place that asks for nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Rows, and for each place the id that is right behind it, or -100."""

    ids: Int[Tensor, "B N"]
    labels: Int[Tensor, "B N"]

    def loss(self, logits: Float[Tensor, "B N V"]) -> Float[Tensor, ""]:
        """Cross-entropy of the answers, in nats."""
        return cross_entropy(logits.flatten(0, 1).float(), self.labels.flatten(), ignore_index=NOTHING)

    def right(self, logits: Float[Tensor, "B N V"]) -> float:
        """The share of answers that are the most likely ids."""
        asked = self.labels != NOTHING
        return float((logits.argmax(-1)[asked] == self.labels[asked]).float().mean())


class Task(ABC):
    """A source of such rows; the same generator gives the same rows."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids."""

    @abstractmethod
    def sample(self, rows: int, generator: torch.Generator) -> Asked:
        """Some rows."""
