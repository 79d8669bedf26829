"""Objectives that learn from some of the labels: a share of every sample, and cross-entropy over these."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.learn.base import Batch, Loss, Objective, Watch
from tokenry.learn.selection.labels import Labelled


@dataclass(frozen=True, kw_only=True)
class Selective(Objective):
    """Keep the ceil(rho n) best of the n labels of each sample; a method says only what a label is worth: `score`.

    The value is the cross-entropy averaged over all kept labels of an optimiser step.
    """

    rho: float

    @abstractmethod
    def score(self, losses: Float[Tensor, "B N"], labelled: Labelled, watch: Watch) -> list[Float[Tensor, "T"]]:
        """For each row, what each label that counts is worth, from left to right; higher is learned.

        Args:
            losses: of the labels, without gradients.
        """

    def kept(self, labels: int) -> int:
        """How many of a sample's labels are learned."""
        # Products such as 0.55 * 20 come out a little above the whole number they are.
        return math.ceil(self.rho * labels - 1e-9)

    def count(self, batch: Batch) -> Counter[str]:
        labels = Labelled.of(batch, self.name()).counted.sum(1)
        return Counter(tokens=sum(map(self.kept, labels.tolist())))

    def loss(self, outputs: Any, batch: Batch, watch: Watch, of: Counter[str] | None = None) -> Loss:
        labelled = Labelled.of(batch, self.name())
        losses = labelled.losses(outputs.logits, self.name())
        total = (self.count(batch) if of is None else of)["tokens"]
        if not total:
            raise InvalidValue(
                f"{self.name()}: batch must hold a label after the first token of a row; all are -100; leave out "
                f"samples without a response."
            )
        kept = self._choose(losses.detach(), labelled, watch)
        value = losses[kept].sum() / total
        return Loss(value, {"kept": value.detach()}, kept.float())

    @torch.no_grad()
    def _choose(self, losses: Float[Tensor, "B N"], labelled: Labelled, watch: Watch) -> Bool[Tensor, "B N"]:
        if self.rho == 1.0:
            return labelled.counted
        kept = torch.zeros_like(labelled.counted)
        for row, scores in enumerate(self.score(losses, labelled, watch)):
            columns = labelled.counted[row].nonzero()[:, 0]
            # Equal scores keep the first.
            best = scores.argsort(descending=True, stable=True)[: self.kept(len(columns))]
            kept[row, columns[best]] = True
        return kept
