"""A content of sounds: log-mel frames on the grid of any quantizer; Griffin-Lim makes them audible again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, positive
from tokenry.core.learned import LearnedPart
from tokenry.quantize.base import Quantizer
from tokenry.quantize.rvq import RVQ
from tokenry.quantize.vq import VQ
from tokenry.signal.parts.sound_content import MISSING, SoundContent
from tokenry.signal.sounds.code_order import usable
from tokenry.signal.sounds.griffin_lim import griffin_lim
from tokenry.signal.sounds.mel import Mel, mel

MOST_FRAMES = 30_000
"""Frames that a quantizer learns from; of more, as many are drawn."""


@dataclass(eq=False, repr=False, kw_only=True)
class MelCodes(SoundContent, LearnedPart):
    """Quantize what the ear hears of each frame, and find samples that sound like it.

    What it does
        |FFT|^2 of each Hann window, added up in triangular bands that are evenly apart in mel from 60 Hz to half the
        rate; its natural logarithm, less its mean over the sounds of training, is what a quantizer gets. Decoding
        finds a spectrum without negative energies that has these bands, and Griffin-Lim its phases, drawn from a fixed
        seed.
    Guarantees
        A frame reads nothing behind its own `hop_ms`: its window ends where they end. Before the first sample and
        behind the last one there is silence.
    Raises
        InvalidValue: a window shorter than the hop, or more bands than the spectrum has bins for.
    Relations
        `units` keeps what was said more than how it sounds; `mu_law`, `pcm` and `codec` keep the wave.
    """

    part = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="log-mel frames on the grid of any quantizer, made audible by Griffin-Lim",
        deviations=("log-mel frames and Griffin-Lim stand in the place of the trained encoder and decoder",),
        training=True,
    )

    window_ms: int = between(1, 200, default=25, doc="milliseconds that a frame reads")
    hop_ms: int = between(1, 200, default=10, doc="milliseconds from one frame to the next")
    bands: int = positive(64, doc="mel bands of a frame")
    quantizer: Quantizer = fields.part(RVQ(of=VQ(codes=256), levels=8), doc="a method of room quantize")
    iterations: int = between(1, 1000, default=32, doc="of Griffin-Lim")

    def make(self, *, width: int) -> None:
        if width != self.bands:
            raise InvalidValue(f"mel_codes: width must be its {self.bands} bands; got {width}.")
        self.quantizer.build(width=width)
        self.register_buffer("mean", torch.zeros(width))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    def width(self, rate: int) -> int:
        return self.bands

    def hop(self, rate: int) -> int:
        return self._mel(rate).hop

    def reach(self, rate: int) -> int:
        return self._mel(rate).past

    def frames(self, samples: Float[Tensor, "T"], rate: int) -> Float[Tensor, "F E"]:
        """Log-mel frames before they are quantized, of samples that `reach` earlier ones precede."""
        return self._mel(rate).frames(samples)

    @torch.no_grad()
    def codes(self, samples: Float[Tensor, "T"], rate: int) -> Int[Tensor, "F R"]:
        return self.quantizer.quantize(self.frames(samples, rate).to(self.mean.device) - self.mean).codes.cpu()

    @torch.no_grad()
    def sound(self, codes: Int[Tensor, "F R"], rate: int) -> Float[Tensor, "T"]:
        how = self._mel(rate)
        codes = usable(codes, self.quantizer)
        known = codes[:, 0] != MISSING
        frames = self.quantizer.dequantize(codes[known].to(self.mean.device)) + self.mean
        magnitudes = torch.zeros(len(codes), how.fft // 2 + 1)
        magnitudes[known] = how.magnitudes(frames.float().cpu())
        return griffin_lim(magnitudes, how, self.iterations)

    def learn(self, sounds: Sequence[Float[Tensor, "T"]], rate: int, seed: int, *, progress: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)
        how = self._mel(rate)
        frames = torch.cat([how.frames(how.framed(samples)) for samples in sounds])
        self.mean.copy_(frames.mean(0))
        drawn = frames[torch.randperm(len(frames), generator=generator)[:MOST_FRAMES]]
        self.quantizer.fit(drawn.to(self.mean.device) - self.mean, seed=seed, progress=progress)

    def _mel(self, rate: int) -> Mel:
        window, hop = (round(rate * ms / 1000) for ms in (self.window_ms, self.hop_ms))
        return mel(rate, window, hop, self.bands)
