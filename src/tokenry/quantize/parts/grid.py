"""Levels of one number: even steps, or L bins of a distribution.

Bins have equal shares: with a share p of the distribution below z, q = sqrt(12) ((floor(p L) + 1/2) / L - 1/2).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.method import Part

MARGIN = 1e-3
"""Share by which the bound of `tanh_grid` is wider than the outermost levels."""


@dataclass(frozen=True, kw_only=True)
class Grid(Part):
    """Levels of one number: any number stands at a position, whose nearest whole number in [0, L) is its level."""

    room: ClassVar[str] = "quantize"
    least: ClassVar[int] = 2
    """Fewest levels for which it is defined."""
    spread: ClassVar[float] = 1.0
    """Standard deviation of numbers that suit it."""

    @abstractmethod
    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        """Where numbers stand, in steps from the lowest level; with its gradient."""

    @abstractmethod
    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        """What positions stand for: a number that grows evenly from level to level."""


@dataclass(frozen=True, kw_only=True)
class ClampedGrid(Grid):
    """Cut off at -1 and 1 and take the nearest of L even levels with both ends; nothing is bent.

    What is on the grid stays, and a number beyond has no gradient. It suits numbers that are bounded already, above all
    in the levels of `rvq`: with `scaling=grid_steps` every further one fills one step of the level before.
    """

    part = Card(
        title="Scaling Transformers for Low-Bitrate High-Quality Speech Coding",
        year=2024,
        url="https://arxiv.org/abs/2411.19842",
        summary="the nearest of evenly spaced numbers from -1 to 1",
    )

    spread: ClassVar[float] = 0.5

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return (levels - 1) * (numbers.clamp(-1, 1) + 1) / 2

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return 2 * position / (levels - 1) - 1


@dataclass(frozen=True, kw_only=True)
class SymmetricGrid(ClampedGrid):
    """Bound by tanh, and take the same levels.

    Published together with noise in place of rounding, `noise=0.5` of `fsq`.
    """

    part = Card(
        title="Scaling Transformers for Low-Bitrate High-Quality Speech Coding",
        year=2024,
        url="https://arxiv.org/abs/2411.19842",
        summary="levels from -1 to 1, as many on either side of zero",
    )

    spread: ClassVar[float] = 0.907

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return super().position(torch.tanh(numbers), levels)


@dataclass(frozen=True, kw_only=True)
class TanhGrid(Grid):
    """Bound by tanh, with half a level of shift where the levels are even in number.

    What it does
        y = h tanh(z + s) - o with h = (L - 1)(1 + 1e-3) / 2, o = 1/2 for even L and 0 for odd, s = artanh(o / h), so
        that zero stays zero; then q = round(y) / floor(L / 2).
    Guarantees
        dq/dz = h (1 - tanh^2(z + s)) / floor(L / 2) when rounding passes the gradient. For L = 3 it is the sign of z,
        or 0 between -0.55 and 0.55. For L = 2 the shift has no meaning, and `fsq` refuses it.
    Relations
        For even L there is one level more below zero than above; `symmetric_grid` has as many on either side.
    """

    part = Card(
        title="Finite Scalar Quantization: VQ-VAE Made Simple",
        year=2023,
        url="https://arxiv.org/abs/2309.15505",
        summary="a hyperbolic tangent bounds a number, which is rounded",
    )

    least: ClassVar[int] = 3
    spread: ClassVar[float] = 0.907

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        half = (levels - 1) * (1 + MARGIN) / 2
        offset = 0.5 * (levels % 2 == 0)
        # The paper's listing has tan, which its first author calls a mistake, and takes the margin away; added, the
        # outermost levels can be met exactly.
        shift = torch.atanh(offset / half)
        return half * torch.tanh(numbers + shift) - offset + levels // 2

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return (position - levels // 2) / (levels // 2)


@dataclass(frozen=True, kw_only=True)
class Bins(Grid):
    """A grid of bins that hold equal shares of one distribution."""

    @abstractmethod
    def share(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """The share of the distribution below each number."""

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return self.share(numbers) * levels - 0.5

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        # Even shares have a standard deviation of 1 / sqrt(12) for many levels, which is brought to one.
        return ((position + 0.5) / levels - 0.5) * math.sqrt(12)


@dataclass(frozen=True, kw_only=True)
class NormalGrid(Bins):
    """Cut the standard normal distribution into bins, for channels that `batch_moments` brings there."""

    part = Card(
        title="VP-VAE: Rethinking Vector Quantization via Adaptive Vector Perturbation",
        year=2026,
        url="https://arxiv.org/abs/2602.17133",
        summary="bins that hold equal shares of a normal distribution",
    )

    def share(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        return torch.special.ndtr(numbers)


@dataclass(frozen=True, kw_only=True)
class LogisticGrid(Bins):
    """Cut the logistic distribution of variance pi^2 / 12, with the share (tanh z + 1) / 2 below z, into bins.

    The paper trains it with noise and no rounding, `noise=1`, and with `moment_loss`, which asks for the variance.
    """

    part = Card(
        title="VP-VAE: Rethinking Vector Quantization via Adaptive Vector Perturbation",
        year=2026,
        url="https://arxiv.org/abs/2602.17133",
        summary="bins that hold equal shares of a logistic distribution",
    )

    spread: ClassVar[float] = 0.907

    def share(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        return (torch.tanh(numbers) + 1) / 2
