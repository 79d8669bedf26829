"""A content of sounds: a network writes each frame as codes, and another one makes the wave of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, counts, positive
from tokenry.core.learned import LearnedPart
from tokenry.quantize.base import Quantizer
from tokenry.quantize.codebooks.codebook import MOST
from tokenry.quantize.parts.revival import Restart
from tokenry.quantize.parts.update import Ema
from tokenry.quantize.rvq import RVQ
from tokenry.quantize.vq import VQ
from tokenry.signal.coding.convolutions import Decoder, Encoder, reach_of, widths
from tokenry.signal.coding.training import Lessons, train_codec
from tokenry.signal.parts.sound_content import MISSING, SoundContent
from tokenry.signal.sounds.code_order import usable

WIDEST = 512
"""Channels, however many strides double them."""
TOGETHER = 1024
"""Frames that are decoded at once."""


@dataclass(eq=False, repr=False, kw_only=True)
class Codec(SoundContent, LearnedPart):
    """Learn an encoder, a quantizer and a decoder together, so that codes give the wave itself back.

    What it does
        Convolutions with the given strides turn each frame into a vector, a quantizer turns it into codes, and
        transposed convolutions turn the codes' vectors into samples. All three learn from the mean distance of the
        samples and from the distance of their spectra at windows of 512, 256, 128 and 64 samples. The first fifth of
        the steps has no quantizer; then it begins with k-means over what the encoder gives.
    Shapes
        samples (T,) -> codes (F, R), F = T / hop rounded up; hop is the product of the strides. The default strides
        give 25 frames a second at rate 8000.
    Guarantees
        A frame reads nothing behind its own samples, and its samples are made of its own codes and earlier ones: what
        comes out stands where it was, without delay. Before the first sample there is silence. With `rvq` the first
        codes of a frame are a coarser sound.
    Raises
        InvalidValue: strides or channels that make too large a network.
    Relations
        `mel_codes` keeps the spectrum and invents the phases; it learns in seconds, this one in minutes.
    """

    part = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="an encoder, a quantizer and a decoder that learn together",
        trial={
            "channels": 2, "latent": 8, "steps": 1, "batch": 2, "frames": 4, "speed": 1e-4,
            "quantizer": "rvq[of=vq[codes=16],levels=2]",
        },
        deviations=(
            "no discriminators: the losses are those of the samples and of their spectra",
            "one residual unit behind each stride instead of three, none at the rate of the samples, and far fewer "
            "channels",
            "a fifth of the training has no quantizer, which then begins with k-means",
            "strides (2, 4, 5, 8) are for 8000 samples a second; there is no denoising",
        ),
        claims=(
            "learnt from 22 minutes of one voice in four minutes of one core, 8 codes of 256 for each of 25 frames a "
            "second give held-out clips back with an SI-SNR of 5 dB; log-mel codes at 2000 bits a second, which keep "
            "no phases, reach -20 dB, and are nearer in the spectra (benchmarks/signal/audio_frames.py)",
            "twice as many levels add at least 1.5 dB, random codes give -37 dB, and nothing comes out later than it "
            "went in (benchmarks/signal/audio_frames.py)",
        ),
        training=True,
    )  # fmt: skip

    strides: tuple[int, ...] = counts(
        1, 16, product=4096, default=(2, 4, 5, 8), doc="samples that each layer makes one of; together a frame"
    )
    channels: int = positive(16, doc="channels behind the first stride; every other stride doubles them, up to 512")
    latent: int = positive(64, doc="numbers of the vector of a frame")
    quantizer: Quantizer = fields.part(
        RVQ(
            of=VQ(codes=256, update=Ema(decay=0.95), revive=Restart(threshold=0.05)), levels=8, dropout=0.5,
        ),
        doc="a method of room quantize",
    )  # fmt: skip
    steps: int = positive(3500, doc="steps of training")
    batch: int = positive(4, doc="examples of a step")
    frames: int = positive(25, doc="frames of an example")
    speed: float = between(0.0, 1.0, default=2e-3, doc="highest learning rate")
    wave: float = between(0.0, 1e6, default=20.0, doc="weight of the samples beside their spectra")

    def make(self, *, width: int) -> None:
        if width != self.latent:
            raise InvalidValue(f"codec: width must be its {self.latent} numbers of a frame; got {width}.")
        wide = widths(self.strides, self.channels, WIDEST)
        largest = max(a * b * 2 * stride for stride, (a, b) in zip(self.strides, pairwise(wide), strict=True))
        if max(largest, 3 * wide[-1] * width) > MOST:
            raise InvalidValue(f"codec: layers must have at most {MOST} numbers; got more; make latent smaller.")
        self.encoder = Encoder(self.strides, wide, width)
        self.decoder = Decoder(self.strides, wide, width)
        self.quantizer.build(width=width)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    def width(self, rate: int) -> int:
        return self.latent

    def hop(self, rate: int) -> int:
        return torch.Size(self.strides).numel()

    def reach(self, rate: int) -> int:
        return reach_of(self.strides)

    @torch.no_grad()
    def codes(self, samples: Float[Tensor, "T"], rate: int) -> Int[Tensor, "F R"]:
        weight = next(self.encoder.parameters())
        return self.quantizer.quantize(self.encoder(samples.to(weight).unsqueeze(0))[0]).codes.cpu()

    @torch.no_grad()
    def sound(self, codes: Int[Tensor, "F R"], rate: int) -> Float[Tensor, "T"]:
        weight, past = next(self.decoder.parameters()), self.decoder.past
        codes = usable(codes, self.quantizer)
        frames = self.quantizer.dequantize(codes.to(weight.device)).to(weight)
        parts = [
            self.decoder(pad(frames, (0, 0, past, 0))[first : first + past + TOGETHER].unsqueeze(0))[0]
            for first in range(0, len(frames), TOGETHER)
        ]
        known = (codes[:, 0] != MISSING).repeat_interleave(self.hop(rate))
        return torch.cat([part.float().cpu() for part in parts]) * known

    def learn(self, sounds: Sequence[Float[Tensor, "T"]], rate: int, seed: int, *, progress: bool = True) -> None:
        lessons = Lessons(
            steps=self.steps, batch=self.batch, frames=self.frames, rate=self.speed, wave=self.wave
        )  # fmt: skip
        train_codec(self.encoder, self.decoder, self.quantizer, sounds, lessons, seed, progress)
