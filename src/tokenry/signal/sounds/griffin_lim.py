"""Griffin-Lim: samples whose spectra have given magnitudes, as nearly as there are any."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import fold

from tokenry.signal.sounds.mel import Mel

MOMENTUM = 0.99


@torch.no_grad()
def griffin_lim(magnitudes: Float[Tensor, "F S"], how: Mel, iterations: int, seed: int = 0) -> Float[Tensor, "T"]:
    """`hop` samples for each frame.

    Phases are drawn, then taken again and again from the spectra of the samples that they give, each time carried
    beyond by 0.99 of the last change (Perraudin, Balazs and Sondergaard 2013). Frames whose magnitudes are zero are
    silent where no other one reaches.
    """
    if not len(magnitudes):
        return magnitudes.new_zeros(0)
    # What lies behind the last frame is needed for the fading end of its window.
    behind = math.ceil(how.past / how.hop)
    magnitudes = torch.cat((magnitudes, magnitudes[-1:].expand(behind, -1)))
    count = len(magnitudes)
    envelope = _added(how.hann.square().expand(count, -1), how).clamp_min(1e-3)
    generator = torch.Generator().manual_seed(seed)
    phases = torch.polar(torch.ones_like(magnitudes), torch.rand(magnitudes.shape, generator=generator) * 2 * math.pi)
    before = torch.zeros_like(phases)
    for _ in range(iterations):
        found = how.spectra(_samples(magnitudes * phases, envelope, how))
        ahead = found + MOMENTUM * (found - before)
        phases, before = ahead / ahead.abs().clamp_min(1e-12), found
    return _samples(magnitudes * phases, envelope, how)[how.past :][: (count - behind) * how.hop]


def _samples(spectra: Tensor, envelope: Float[Tensor, "T"], how: Mel) -> Float[Tensor, "T"]:
    windows = torch.fft.irfft(spectra, how.fft)[:, : how.window]
    return _added(windows * how.hann, how) / envelope


def _added(windows: Float[Tensor, "F W"], how: Mel) -> Float[Tensor, "T"]:
    """Windows laid over each other, `hop` apart."""
    length = (len(windows) - 1) * how.hop + how.window
    return fold(windows.T.unsqueeze(0), (1, length), (1, how.window), stride=(1, how.hop)).flatten()
