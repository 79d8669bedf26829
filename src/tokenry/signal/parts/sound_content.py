"""What the samples of a sound are turned into, frame by frame: here into codes of single samples.

Contents that are long have files of their own beside this one: `mel_codes`, `codec` and `units`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.core.method import Part

MISSING = -1
"""The code of a frame that nothing is known of."""
MU = 255
"""The mu of the law; its codes are 0 to 255."""


class SoundContent(Part):
    """Codes of frames of samples, and samples of codes.

    A sound is cut into frames of `hop` samples, the last one filled up with silence. Each frame has one code from each
    of R codebooks. A content that learns is a `LearnedPart` too.
    """

    room: ClassVar[str] = "signal"
    causal: ClassVar[bool] = True
    """Whether the codes of a frame depend on its own samples and on earlier ones only."""
    merges: ClassVar[bool] = False
    """Whether equal neighbours become one token."""

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """The number of codes of each of R codebooks."""

    def width(self, rate: int) -> int:
        """Numbers of the vectors that become codes."""
        return 1

    @abstractmethod
    def hop(self, rate: int) -> int:
        """Samples of a frame.

        Raises:
            InvalidValue: it does not work at this rate.
        """

    def reach(self, rate: int) -> int:
        """Samples before a frame that its codes depend on too."""
        return 0

    @abstractmethod
    def codes(self, samples: Float[Tensor, "T"], rate: int) -> Int[Tensor, "F R"]:
        """The codes of whole frames, which `reach` earlier samples precede."""

    @abstractmethod
    def sound(self, codes: Int[Tensor, "F R"], rate: int) -> Float[Tensor, "T"]:
        """The samples of frames; a frame whose codes are all `MISSING` is silent."""

    def learn(self, sounds: Sequence[Float[Tensor, "T"]], rate: int, seed: int, *, progress: bool = True) -> None:
        """Learn from whole sounds; a content that has nothing to learn does nothing.

        Args:
            progress: show a bar on standard error, if it takes long.
        """


@dataclass(frozen=True, kw_only=True)
class Pcm(SoundContent):
    """Round each sample to one of 2^bits equal steps: the code is floor((x + 1) / 2 * 2^bits), and shows their middle.

    Samples beyond -1 and 1 are clipped. Each bit is worth 20 log10 2 = 6.02 dB.
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


@dataclass(frozen=True, kw_only=True)
class MuLaw(SoundContent):
    """Round sign(x) ln(1 + 255 |x|) / ln 256 to one of 256 equal steps, so that quiet samples lose least.

    Samples beyond -1 and 1 are clipped. No level is zero: silence becomes 0.00009.
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
