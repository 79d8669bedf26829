"""PCM: each sample is a token, rounded to a few bits."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.signal.sound_content import MISSING, SoundContent


@dataclass(frozen=True, kw_only=True)
class Pcm(SoundContent):
    """Round each sample to one of 2^bits equal steps.

    What it does
        The code is floor((x + 1) / 2 2^bits); it stands for the middle of its step. Samples beyond -1 and 1 are
        clipped.
    Where it acts
        As `content` of `audio_frames`.
    Shapes
        samples (T,) -> codes (T, 1).
    Guarantees
        An error is at most half a step, 2^-bits. Each bit is worth 20 log10 2 = 6.02 dB: where all values from -1 to 1
        are equally frequent, the signal is 2^(2 bits) times stronger than the error. Encoding what was decoded gives
        the same codes.
    Raises
        InvalidValue: fewer than 1 or more than 16 bits.
    Relations
        `mu_law` spends its steps where speech is, near zero.
    """

    part = Card(
        title="The Philosophy of PCM",
        year=1948,
        url="https://doi.org/10.1109/JRPROC.1948.231941",
        summary="each sample rounded to one of 2^bits equal steps",
    )

    bits: int = between(1, 16, default=8, doc="of a sample")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (1 << self.bits,)

    def hop(self, rate: int) -> int:
        return 1

    def codes(self, samples: Float[Tensor, "T"], rate: int) -> Int[Tensor, "F R"]:
        half = 1 << (self.bits - 1)
        return ((samples.clamp(-1, 1) + 1) * half).long().clamp_max(2 * half - 1).unsqueeze(1)

    def sound(self, codes: Int[Tensor, "F R"], rate: int) -> Float[Tensor, "T"]:
        half = 1 << (self.bits - 1)
        return ((codes[:, 0] + 0.5) / half - 1).masked_fill(codes[:, 0] == MISSING, 0)
