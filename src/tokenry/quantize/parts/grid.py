"""Levels of one number: even steps, or bins of a distribution."""

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
    """Cut off at -1 and 1 and round to L levels with both ends; nothing is bent.

    What it does
        q = 2 / (L - 1) floor((L - 1)(clamp(z, -1, 1) + 1) / 2 + 1/2) - 1.
    Where it acts
        As `grid` of `fsq` on numbers that are bounded already, above all in the levels of `rvq`.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        The nearest level of all; what is on the grid stays. Between -1 and 1 the error is at most 1 / (L - 1). A number
        beyond has no gradient.
    Raises
        Nothing.
    Relations
        With `scaling=grid_steps` of `rvq` every further level fills one step of the level before.
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
class SymmetricGrid(Grid):
    """Bound by tanh, and round to L levels from -1 to 1 with both ends.

    What it does
        q = 2 / (L - 1) floor((L - 1)(tanh z + 1) / 2 + 1/2) - 1.
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Any L of at least 2 works. The level of -z is that of z seen from the other end, ties aside.
    Raises
        Nothing.
    Relations
        Published together with noise in place of rounding: `noise=0.5` of `fsq`. `clamped_grid` is this without tanh.
    """

    part = Card(
        title="Scaling Transformers for Low-Bitrate High-Quality Speech Coding",
        year=2024,
        url="https://arxiv.org/abs/2411.19842",
        summary="levels from -1 to 1, as many on either side of zero",
    )

    spread: ClassVar[float] = 0.907

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return (levels - 1) * (torch.tanh(numbers) + 1) / 2

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return 2 * position / (levels - 1) - 1


MARGIN = 1e-3


"""Share by which the bound is wider than the outermost levels."""


@dataclass(frozen=True, kw_only=True)
class TanhGrid(Grid):
    """Bound by tanh, with half a level of shift where the levels are even in number.

    What it does
        y = h tanh(z + s) - o with h = (L - 1)(1 + 1e-3) / 2, o = 1/2 for even L and 0 for odd, s = artanh(o / h), so
        that zero stays zero; then q = round(y) / floor(L / 2).
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Zero is a level. dq/dz = h (1 - tanh^2(z + s)) / floor(L / 2) when rounding passes the gradient. For L = 3 it
        is the sign of z, or 0 between -0.55 and 0.55.
    Raises
        InvalidValue: two levels, for which the shift has no meaning.
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
        # Even shares have a standard deviation of 1 / sqrt(12), which is brought to one.
        return ((position + 0.5) / levels - 0.5) * math.sqrt(12)


@dataclass(frozen=True, kw_only=True)
class NormalGrid(Bins):
    """Take a number's share of the standard normal distribution, and cut shares into L even bins.

    What it does
        p = (1 + erf(z / sqrt 2)) / 2; the level is floor(p L), and q = sqrt(12) ((level + 1/2) / L - 1/2).
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Normal numbers of variance one use all levels alike. Any L of at least 2 works.
    Raises
        Nothing.
    Relations
        Made for channels that `batch_moments` brings to mean zero and variance one.
    """

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
    """Take a number's share of a logistic distribution, and cut shares into L even bins.

    What it does
        p = (tanh z + 1) / 2 is the distribution function of a logistic variable of variance pi^2 / 12; the level is
        floor(p L), and q = sqrt(12) ((level + 1/2) / L - 1/2), which has variance one for even shares and many levels.
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Numbers of that distribution use all levels alike. Any L of at least 2 works.
    Raises
        Nothing.
    Relations
        The paper trains it with noise and no rounding, `noise=1`, and with `moment_loss`, which asks for the variance.
        `normal_grid` is the same for a normal distribution.
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
