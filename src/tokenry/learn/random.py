"""Random: learn from labels chosen by chance; the control for every selection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between, natural
from tokenry.learn.base import Watch
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.selection.selective import Selective


@dataclass(frozen=True, kw_only=True)
class RandomLabels(Selective):
    """Learn from a random share of each sample's labels.

    What it does
        Draws a number for each label; the labels with the ceil(rho n) largest are kept.  The loss is their mean
        cross-entropy in nats.
    Where it acts
        On the labels of a causal model. Nothing inside the model is looked at.
    Shapes
        logits (B, N, V), labels (B, N) -> value (), token_weights (B, N).
    Guarantees
        `rho=1.0` is plain cross-entropy. The choice depends on the seed and the sample, not on the batch or its
        padding, and is the same each time a sample is seen.
    Raises
        InvalidValue: labels that do not fit the batch, packed rows, or no label.
    Relations
        The control for `ss_token`.
    """

    card = Card(
        title="Random choice of labels (control)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Scientific_control",
        summary="a random share of each sample's labels, the control for every other choice",
        identity_at={"rho": 1.0},
        trial={"rho": 0.5},
    )

    rho: float = between(0.01, 1.0, default=0.6, doc="share of each sample's labels that is learned, rounded up")
    seed: int = natural(0, doc="of the choice")

    def score(self, losses: Float[Tensor, "B N"], labelled: Labelled, watch: Watch) -> list[Float[Tensor, "T"]]:
        found = []
        for row, count in enumerate(labelled.counted.sum(1).tolist()):
            seed = int.from_bytes(labelled.key(row)[:7], "big") ^ self.seed
            found.append(torch.rand(count, generator=torch.Generator().manual_seed(seed)).to(losses.device))
        return found
