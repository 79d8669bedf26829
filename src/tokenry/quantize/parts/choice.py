"""Which code a vector gets."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.core.method import Part
from tokenry.quantize.search.nearest import middle, nearest_code

SCORES = 1 << 22
"""Numbers of one block of scores."""


@dataclass(frozen=True, kw_only=True)
class Choice(Part):
    """Which code a vector gets."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def codes(
        self, rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], generator: torch.Generator | None
    ) -> Int[Tensor, "T"]:
        """A code for each vector.

        Args:
            generator: in training, of what is drawn; None in evaluation, where the nearest code is chosen.
        """


@dataclass(frozen=True, kw_only=True)
class Closest(Choice):
    """Choose the nearest code, in training too: argmin |z - c_k|^2."""

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="a vector gets the nearest code",
    )

    def codes(
        self, rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], generator: torch.Generator | None
    ) -> Int[Tensor, "T"]:
        return nearest_code(rows, table)


@dataclass(frozen=True, kw_only=True)
class Stochastic(Choice):
    """Draw codes in training by how near they are.

    What it does
        P(k) = exp(-|z - c_k|^2 / t) / sum_l exp(-|z - c_l|^2 / t), drawn as argmax of z.c_k - |c_k|^2 / 2 + g t / 2
        with noise g of the Gumbel distribution. In `rvq` what was drawn at a level decides what is left over.
    Guarantees
        In evaluation, and at temperature 0, it is the nearest code. What is drawn depends on the saved seed and step
        alone. The probabilities of a batch are never held at once.
    Relations
        The temperature is a squared distance: what 0.1 means depends on how long vectors are, unless `metric=cosine`.
        With `gradient=rotation_trick` others have seen training diverge.
    """

    part = Card(
        title="Autoregressive Image Generation using Residual Quantization",
        year=2022,
        url="https://arxiv.org/abs/2203.01941",
        summary="in training a vector gets a code that is drawn, near ones more often than far ones",
        deviations=(
            "codes are drawn when the quantizer is trained, as in a later library; the paper draws those that a model "
            "learns to predict, of a quantizer that is finished",
            "the temperature is 0.1, as in that library, unless another is given",
        ),
    )

    temperature: float = between(0.0, 1e6, default=0.1, doc="squared distance that makes a code e times rarer")

    def codes(
        self, rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], generator: torch.Generator | None
    ) -> Int[Tensor, "T"]:
        if generator is None or not self.temperature:
            return nearest_code(rows, table)
        # In 64-bit floats, so that codes near each other and far from the others are told apart.
        centre = middle(table.detach()).double()
        moved = table.detach() - centre
        half, found = 0.5 * moved.square().sum(1), [rows.new_zeros(0, dtype=torch.long)]
        for some in rows.detach().split(max(1, SCORES // len(table))):
            noise = torch.empty(len(some), len(table)).exponential_(generator=generator).log_().to(rows.device)
            found.append(((some - centre) @ moved.T - half - self.temperature / 2 * noise).argmax(1))
        return torch.cat(found)
