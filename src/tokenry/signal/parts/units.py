"""A content of sounds: what is said at each moment, found by k-means over the frames of a speech encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, positive, setting
from tokenry.core.learned import LearnedPart
from tokenry.models.signals.encoders import SpeechEncoder, load_speech
from tokenry.quantize.base import Quantizer
from tokenry.quantize.codebooks.codebook import MOST
from tokenry.quantize.parts.metric import Cosine
from tokenry.quantize.vq import VQ
from tokenry.signal.parts.sound_content import MISSING, SoundContent
from tokenry.signal.sounds.griffin_lim import griffin_lim
from tokenry.signal.sounds.mel import Mel, mel

PARTS = 2
"""Log-mel frames for each frame of the encoder: 10 ms each."""


@dataclass(eq=False, repr=False, kw_only=True)
class Units(SoundContent, LearnedPart):
    """Give each frame of a speech encoder the nearest of a few means; equal neighbours become one token.

    What it does
        The encoder of a Whisper gives 50 vectors a second. Each of their numbers is brought to mean 0 and deviation 1
        over the sounds of training; k-means over the angles of these vectors is the codebook. "a a b" becomes "a b";
        how long a unit lasted stands in its span. Decoding says each unit with the mean log-mel frame that it had in
        training, through Griffin-Lim.
    Where it acts
        As `content` of `audio_frames`, at the rate of the encoder, 16000.
    Raises
        InvalidValue: another rate than the encoder's, an encoder of another width than it was fitted with, or a
        quantizer with several codebooks.
    """

    part = Card(
        title="HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units",
        year=2021,
        url="https://arxiv.org/abs/2106.07447",
        summary="k-means over frames of a speech encoder, equal neighbours merged",
        deviations=(
            "the encoder is Whisper's last layer, trained to transcribe, not one trained by masked prediction",
            "the encoder is not trained further on its units",
            "features are standardized, and compared by their angles",
        ),
        training=True,
    )

    causal: ClassVar[bool] = False
    merges: ClassVar[bool] = True

    model: str = setting("whisper", doc="the speech encoder: an alias, a folder or a hub id")
    quantizer: Quantizer = fields.part(
        VQ(codes=200, metric=Cosine()), doc="a method of room quantize with one codebook"
    )
    bands: int = positive(64, doc="mel bands with which a unit is made audible")
    iterations: int = between(1, 1000, default=32, doc="of Griffin-Lim")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.codebook_sizes) != 1:
            raise InvalidValue(
                f"units: quantizer must have one codebook; {self.quantizer.name()} has {len(self.codebook_sizes)}."
            )

    def make(self, *, width: int) -> None:
        if self.codebook_sizes[0] * self.bands > MOST:
            raise InvalidValue(f"units: codes times bands must be at most {MOST}; got {self.bands} bands.")
        self.quantizer.build(width=width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("heard", torch.zeros(sum(self.codebook_sizes), self.bands))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    def width(self, rate: int) -> int:
        return self._features(torch.zeros(self.hop(rate)), rate).shape[1]

    def hop(self, rate: int) -> int:
        return self._encoder(rate).hop

    @torch.no_grad()
    def codes(self, samples: Float[Tensor, "T"], rate: int) -> Int[Tensor, "F R"]:
        return self._nearest(self._features(samples, rate))

    @torch.no_grad()
    def sound(self, codes: Int[Tensor, "F R"], rate: int) -> Float[Tensor, "T"]:
        how = self._mel(rate)
        known = codes[:, 0] != MISSING
        magnitudes = torch.zeros(len(codes), how.fft // 2 + 1)
        magnitudes[known] = how.magnitudes(self.heard.float().cpu()[codes[known, 0]])
        return griffin_lim(magnitudes.repeat_interleave(PARTS, 0), how, self.iterations)

    def learn(self, sounds: Sequence[Float[Tensor, "T"]], rate: int, seed: int, *, progress: bool = True) -> None:
        hop, how = self.hop(rate), self._mel(rate)
        whole = [pad(samples, (0, -len(samples) % hop)) for samples in sounds]
        features = torch.cat([self._features(samples, rate) for samples in whole]).to(self.mean.device)
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0, correction=0).clamp_min(1e-6))
        self.quantizer.fit(self._standard(features), seed=seed, progress=progress)
        frames = torch.cat([how.frames(how.framed(samples)).unflatten(0, (-1, PARTS)).mean(1) for samples in whole])
        units = self._nearest(features)[:, 0]
        counts = torch.bincount(units, minlength=len(self.heard)).unsqueeze(1)
        sums = torch.zeros(self.heard.shape).index_add_(0, units, frames)
        # A unit that nobody said sounds like all of them.
        self.heard.copy_(torch.where(counts > 0, sums / counts.clamp_min(1), frames.mean(0)))

    def _features(self, samples: Float[Tensor, "T"], rate: int) -> Float[Tensor, "F E"]:
        return self._encoder(rate).features(samples).float().cpu()

    def _nearest(self, features: Float[Tensor, "F E"]) -> Int[Tensor, "F 1"]:
        if features.shape[1] != len(self.mean):
            raise InvalidValue(
                f"units: the encoder must give vectors of width {len(self.mean)}, as it did in training; "
                f"{self.model} gives {features.shape[1]}."
            )
        return self.quantizer.quantize(self._standard(features.to(self.mean.device))).codes.cpu()

    def _standard(self, features: Float[Tensor, "F E"]) -> Float[Tensor, "F E"]:
        """Features of mean 0 and deviation 1: otherwise a few of them, which are large everywhere, decide alone."""
        return (features - self.mean) / self.deviation

    def _encoder(self, rate: int) -> SpeechEncoder:
        encoder = load_speech(self.model)
        if encoder.rate != rate:
            raise InvalidValue(f"units: rate must be {encoder.rate}, which {self.model} reads; got {rate}.")
        return encoder

    def _mel(self, rate: int) -> Mel:
        hop = self.hop(rate) // PARTS
        return mel(rate, hop * 5 // 2, hop, self.bands)
