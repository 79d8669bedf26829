"""mu-law: each sample is a token; quiet ones are told apart more finely than loud ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.signal.sound_content import MISSING, SoundContent

MU = 255


@dataclass(frozen=True, kw_only=True)
class MuLaw(SoundContent):
    """Compress each sample by a logarithm and round it to 8 bits.

    What it does
        y = sign(x) ln(1 + 255 |x|) / ln 256; the code is round(255 (y + 1) / 2). Samples beyond -1 and 1 are clipped.
    Where it acts
        As `content` of `audio_frames`.
    Shapes
        samples (T,) -> codes (T, 1).
    Guarantees
        Encoding what was decoded gives the same codes, for all 256 of them. No code is exactly zero: silence becomes
        the smallest level, 0.00009.
    Raises
        Nothing.
    Relations
        `pcm` rounds the samples as they are.
    """

    part = Card(
        title="ITU-T G.711: Pulse code modulation (PCM) of voice frequencies",
        year=1988,
        url="https://www.itu.int/rec/T-REC-G.711",
        summary="each sample in 8 bits, quiet ones more finely than loud ones",
        deviations=("the formula itself with 256 levels, not its approximation by straight pieces",),
    )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (MU + 1,)

    def hop(self, rate: int) -> int:
        return 1

    def codes(self, samples: Float[Tensor, "T"], rate: int) -> Int[Tensor, "F R"]:
        x = samples.clamp(-1, 1)
        y = x.sign() * torch.log1p(MU * x.abs()) / math.log1p(MU)
        return ((y + 1) * (MU / 2)).round().long().unsqueeze(1)

    def sound(self, codes: Int[Tensor, "F R"], rate: int) -> Float[Tensor, "T"]:
        y = codes[:, 0] * (2 / MU) - 1
        x = y.sign() * torch.expm1(y.abs() * math.log1p(MU)) / MU
        return x.masked_fill(codes[:, 0] == MISSING, 0)
