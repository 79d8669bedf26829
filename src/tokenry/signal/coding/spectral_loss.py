"""How far two sounds are apart in their spectra, at several resolutions at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, pad

WINDOWS = (512, 256, 128, 64)
"""Samples of the windows; each begins a quarter of its length behind the one before."""
FLOOR, TINY = 1e-2, 1e-8
"""Added to magnitudes before the logarithm, and to energies before the root."""


def spectral_loss(made: Float[Tensor, "*B T"], wanted: Float[Tensor, "*B T"]) -> Float[Tensor, ""]:
    """The mean over windows of |A - B| / |B| + mean |ln(A + 0.01) - ln(B + 0.01)|, A and B magnitudes of the spectra.

    As in Parallel WaveGAN (https://arxiv.org/abs/1910.11480), with a floor under the logarithm, since of silence
    nothing else could be learnt.
    """
    total = made.new_zeros(())
    for window in WINDOWS:
        a, b = (_magnitudes(samples, window) for samples in (made, wanted))
        total = total + (a - b).norm() / b.norm() + l1_loss((a + FLOOR).log(), (b + FLOOR).log())
    return total / len(WINDOWS)


def _magnitudes(samples: Float[Tensor, "*B T"], window: int) -> Float[Tensor, "*B F S"]:
    samples = pad(samples, (0, max(0, window - samples.shape[-1])))
    hann = torch.hann_window(window, device=samples.device)
    spectra = torch.fft.rfft(samples.unfold(-1, window, window // 4) * hann)
    # The root has no slope at zero.
    return (spectra.real.square() + spectra.imag.square() + TINY).sqrt()
