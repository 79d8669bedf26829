"""Where frames of a sound lie in the samples that it had before its rate was changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class SampleGrid:
    """Frame f begins at sample floor(f hop original / rate) of the original.

    Args:
        hop: samples of a frame, at `rate`.
        rate: samples a second of the frames.
        original: samples a second of the original.
        length: samples of the original.
    """

    hop: int
    rate: int
    original: int
    length: int

    @property
    def count(self) -> int:
        """How many frames the original has, the last of which may not be whole."""
        return -(-self.length * self.rate // self.step)

    @property
    def step(self) -> int:
        """Samples of the original in `rate` frames."""
        return self.hop * self.original

    def starts(self, frames: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """First samples of frames."""
        return frames * self.step // self.rate

    def spans(self, frames: Int[Tensor, "N"], ends: Int[Tensor, "N"]) -> Int[Tensor, "N 2"]:
        """Samples from each frame to before another; at least one sample each."""
        starts = self.starts(frames)
        return torch.stack((starts, torch.maximum(self.starts(ends), starts + 1).clamp_max(self.length)), 1)

    def frames(self, spans: Int[Tensor, "N 2"]) -> Int[Tensor, "N 2"]:
        """The first frame of each span, and the one behind its last."""
        return -(-spans * self.rate // self.step)

    def check(self, spans: Int[Tensor, "N 2"], books: Int[Tensor, "N"], *, merged: bool) -> None:
        """Refuse spans that are none of frames on this grid.

        Args:
            books: the codebook of each token, of which every frame has one.
            merged: a span may be of several frames, and one token says all of them.

        Raises:
            InvalidValue: a span off the grid or beyond the end, or with more tokens of a codebook than frames.
        """
        first, behind = self.frames(spans).unbind(1)
        fits = (first < behind) & (self.spans(first, behind) == spans).all(1)
        begin, end = (books * (self.count + 1) + frame for frame in (first, behind))
        if self.step < self.rate:
            # Frames shorter than a sample of the original share it, so that nobody could tell runs of them apart.
            _, which, tokens = begin.unique(return_inverse=True, return_counts=True)
            fits &= (tokens[which] <= behind - first) & (not merged)
        else:
            order = begin.argsort()
            fits[order[1:]] &= begin[order[1:]] >= end[order[:-1]]
            fits &= (behind == first + 1) | merged
        if not bool(fits.all()):
            raise InvalidValue(
                f"spans: must be those of frames of {self.hop} samples at rate {self.rate}, each with one token of a "
                f"codebook, in a sound of {self.length} samples at rate {self.original}; got "
                f"{spans[~fits][0].tolist()}; decode tokens of one sound with the tokenizer that made them."
            )
