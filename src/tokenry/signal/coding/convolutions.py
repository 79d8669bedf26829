"""Convolutions that read nothing ahead: samples to one vector a frame, and vectors to samples again."""

from __future__ import annotations

import math
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu

from tokenry.core.sequence import there

KERNEL = 7
"""Places that the branch of a residual unit reads."""
ENDS = 3
"""Frames that the last convolution of the encoder reads, and the first one of the decoder."""


def widths(strides: tuple[int, ...], channels: int, most: int) -> list[int]:
    """Channels of a sound and behind each stride: every one doubles them."""
    return [1, *(min(channels << i, most) for i in range(len(strides)))]


class Encoder(nn.Module):
    """One vector for every `hop` samples, without padding: `reach` samples must stand before the first frame.

    Each stride is a convolution over two of its steps, and behind all but the last stands a residual unit.
    """

    def __init__(self, strides: tuple[int, ...], wide: list[int], width: int) -> None:
        super().__init__()
        self.hop, self.reach = math.prod(strides), reach_of(strides)
        layers: list[nn.Module] = []
        for i, (stride, (one, other)) in enumerate(zip(strides, pairwise(wide), strict=True)):
            layers += [nn.ELU()] * (i > 0) + [nn.Conv1d(one, other, 2 * stride, stride)]
            layers += [Residual(other)] * (i + 1 < len(strides))
        self.layers = begun(nn.Sequential(*layers, nn.ELU(), nn.Conv1d(wide[-1], width, ENDS)))

    def forward(self, samples: Float[Tensor, "B T"]) -> Float[Tensor, "B F E"]:
        found: Tensor = self.layers(samples.unsqueeze(1))
        return found.mT


class Decoder(nn.Module):
    """`hop` samples for every frame, the encoder's layers in reverse order: `past` frames stand before the first."""

    def __init__(self, strides: tuple[int, ...], wide: list[int], width: int) -> None:
        super().__init__()
        self.hop, self.past = math.prod(strides), past_of(strides)
        layers: list[nn.Module] = [nn.Conv1d(width, wide[-1], ENDS)]
        for i in reversed(range(len(strides))):
            layers += [nn.ELU(), Raised(wide[i + 1], wide[i], strides[i])] + [Residual(wide[i])] * (i > 0)
        self.layers = begun(nn.Sequential(*layers))

    def forward(self, frames: Float[Tensor, "B F E"]) -> Float[Tensor, "B T"]:
        samples: Tensor = self.layers(frames.mT)
        return samples[:, 0, samples.shape[2] - (frames.shape[1] - self.past) * self.hop :]


class Residual(nn.Module):
    """x + a pointwise map of a convolution over seven places up to x, with half as many channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.wide, self.point = nn.Conv1d(channels, inner, KERNEL), nn.Conv1d(inner, channels, 1)

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C U"]:
        branch: Tensor = self.point(elu(self.wide(elu(x))))
        return x[..., KERNEL - 1 :] + branch


class Raised(nn.ConvTranspose1d):
    """`stride` places for each but the first; every one is made of its own and the one before."""

    def __init__(self, channels: int, made: int, stride: int) -> None:
        super().__init__(channels, made, 2 * stride, stride)
        self.step = stride

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B D U"]:  # type: ignore[override]
        return super().forward(x)[..., self.step : -self.step]


def begun(layers: nn.Sequential) -> nn.Sequential:
    """Layers whose outputs vary as much as their inputs, residual units that add nothing yet, and no biases."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            # Of the taps of a transposed convolution two meet in every place.
            taps = 2 if isinstance(layer, Raised) else layer.kernel_size[0]
            nn.init.normal_(layer.weight, std=(layer.in_channels * taps) ** -0.5)
            nn.init.zeros_(there(layer.bias))
    for layer in layers.modules():
        if isinstance(layer, Residual):
            nn.init.zeros_(layer.point.weight)
    return layers


def reach_of(strides: tuple[int, ...]) -> int:
    """Samples before a frame that the encoder reads."""
    reach, step = 0, 1
    for i, stride in enumerate(strides):
        reach, step = reach + stride * step, step * stride
        reach += (KERNEL - 1) * step * (i + 1 < len(strides))
    return reach + (ENDS - 1) * step


def past_of(strides: tuple[int, ...]) -> int:
    """Frames before one that the decoder reads."""
    places, step = 0.0, 1
    for i in reversed(range(len(strides))):
        places, step = places + 1 / step, step * strides[i]
        places += (KERNEL - 1) / step * (i > 0)
    return ENDS - 1 + math.ceil(places)
