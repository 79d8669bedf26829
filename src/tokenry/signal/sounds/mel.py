"""Log-mel frames of samples, and magnitudes of the spectrum from log-mel frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from tokenry.core.errors import InvalidValue

LOWEST = 60.0
"""Hz, where the first band begins."""

FLOOR = 1e-6
"""Added to the energy of a band before the logarithm: a hundred times the rounding noise of 16-bit samples."""

CORRECTIONS, TINY = 16, 1e-12


def hertz_to_mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def mel_bank(bands: int, rate: int, fft: int) -> Float[Tensor, "E S"]:
    """Triangles of height 1 over the bins of a spectrum, evenly apart in mel from 60 Hz to half the rate.

    Raises:
        InvalidValue: so many bands that one lies between two bins.
    """
    low, high = hertz_to_mel(LOWEST), hertz_to_mel(rate / 2)
    corners = 700 * (10 ** (torch.linspace(low, high, bands + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, rate / 2, fft // 2 + 1, dtype=torch.float64)
    left, middle, right = (corners[i : i + bands].unsqueeze(1) for i in range(3))
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    bank = torch.minimum(rising, falling).clamp_min(0)
    if low >= high or not bool((bank.sum(1) > 0).all()):
        raise InvalidValue(
            f"mel bands: each must hold a bin of the spectrum; got {bands} bands at rate {rate}; take fewer, a longer "
            "window or a higher rate."
        )
    return bank.float()


@dataclass(frozen=True)
class Mel:
    """A way of making log-mel frames.

    A frame's window ends where its own `hop` samples end, so that it reads nothing behind them.

    Args:
        window: samples that a frame reads, at least `hop`.
        hop: samples from one frame to the next.
        bands: numbers of a frame.
    """

    rate: int
    window: int
    hop: int
    bands: int

    def __post_init__(self) -> None:
        if not 1 <= self.hop <= self.window:
            raise InvalidValue(
                f"mel frames: the window must be at least the hop, and both at least a sample; got {self.window} and "
                f"{self.hop} samples at rate {self.rate}."
            )

    @property
    def past(self) -> int:
        """Samples that the first frame reads before its own."""
        return self.window - self.hop

    @property
    def fft(self) -> int:
        """Samples of a transform: a power of two, filled up with zeros."""
        return 1 << (self.window - 1).bit_length()

    @cached_property
    def hann(self) -> Float[Tensor, "W"]:
        return torch.hann_window(self.window)

    @cached_property
    def bank(self) -> Float[Tensor, "E S"]:
        return mel_bank(self.bands, self.rate, self.fft)

    def windows(self, samples: Float[Tensor, "T"]) -> Float[Tensor, "F W"]:
        """What each frame reads of samples that begin `past` samples before the first frame."""
        return samples.unfold(0, self.window, self.hop)

    def framed(self, samples: Float[Tensor, "T"]) -> Float[Tensor, "U"]:
        """A whole sound with silence before it, and behind it up to the end of a hop."""
        return pad(samples, (self.past, -len(samples) % self.hop))

    def spectra(self, samples: Float[Tensor, "T"]) -> Tensor:
        """Complex spectra (F, S) of the frames."""
        return torch.fft.rfft(self.windows(samples) * self.hann, self.fft)

    def frames(self, samples: Float[Tensor, "T"]) -> Float[Tensor, "F E"]:
        """ln(energy of each band + 0.000001), of samples that begin `past` samples before the first frame."""
        spectra = self.spectra(samples)
        return (spectra.real.square() + spectra.imag.square()).matmul(self.bank.T).add(FLOOR).log()

    def magnitudes(self, frames: Float[Tensor, "F E"]) -> Float[Tensor, "F S"]:
        """A spectrum without negative energies that has these bands.

        Energies are spread over the bins of each band and then multiplied, again and again, by what lowers the
        Itakura-Saito divergence: it counts relative errors, so that quiet bands are met as well as loud ones.
        """
        bands = frames.exp().sub(FLOOR).clamp_min(0)
        whole = self.bank.sum(0).clamp_min(TINY)
        power = bands.matmul(self.bank / self.bank.sum(1, keepdim=True) / whole)
        for _ in range(CORRECTIONS):
            had = power.matmul(self.bank.T).clamp_min(TINY)
            power = power * ((bands / had.square()).matmul(self.bank) / had.reciprocal().matmul(self.bank).add(TINY))
        return power.sqrt()


@lru_cache(maxsize=8)
def mel(rate: int, window: int, hop: int, bands: int) -> Mel:
    """The same object for the same sizes, with its tables."""
    return Mel(rate, window, hop, bands)
