"""Where frames of a sound lie in the samples that it had before its rate was changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.data.sound_file import HIGHEST_RATE

USUAL = (192000, 96000, 88200, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
LOWEST = 1000
PROBES = 4


@dataclass(frozen=True, slots=True)
class SampleGrid:
    """Frame f begins at sample floor(f hop original / rate) of the original.

    Args:
        hop: samples of a frame, at `rate`.
        rate: samples a second of the frames.
        original: samples a second of the original.
    """

    hop: int
    rate: int
    original: int

    def starts(self, frames: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """First samples of frames."""
        return frames * (self.hop * self.original) // self.rate

    def spans(self, frames: Int[Tensor, "N"], ends: Int[Tensor, "N"], length: int) -> Int[Tensor, "N 2"]:
        """Samples from each frame to before another, in a sound of a length; at least one sample each."""
        starts = self.starts(frames)
        return torch.stack((starts, torch.maximum(self.starts(ends), starts + 1).clamp_max(length)), 1)

    def frames(self, spans: Int[Tensor, "N 2"]) -> Int[Tensor, "N 2"]:
        """The first frame of each span, and the one behind its last."""
        return -(-spans * self.rate // (self.hop * self.original))


def grid_of(spans: Int[Tensor, "N 2"], books: Int[Tensor, "N"], hop: int, rate: int, merged: bool) -> SampleGrid:
    """The grid that spans lie on, which tells the rate of the original.

    Where several do, because there are only one or two spans, it is that of the rate itself, or else that of the
    highest rate, which leaves the fewest frames missing.

    Args:
        books: the codebook of each token: as many tokens of one as have the same span are frames of it.
        merged: a span may be of several frames, and one token says all of them.

    Raises:
        InvalidValue: no grid explains them.
    """
    held, last = _held(spans, books), spans.max()
    for originals in (torch.tensor([rate, *USUAL]), torch.arange(HIGHEST_RATE, 0, -1)):
        which = torch.linspace(0, len(held) - 1, PROBES).round().long()
        # Each wrong guess names spans that all further ones must explain too.
        while len(originals := originals[_explained(held[which], hop, rate, originals, last, merged).all(1)]):
            wrong = (~_explained(held, hop, rate, originals[:1], last, merged)[0]).nonzero()[:, 0]
            if not len(wrong):
                return SampleGrid(hop, rate, int(originals[0]))
            which = wrong[[0, len(wrong) // 2, -1]]
    raise InvalidValue(
        f"spans: must be those of frames of {hop} samples at rate {rate}, each with one token of a codebook; got "
        f"{spans[:3].tolist()} and so on; decode tokens of one sound with the tokenizer that made them."
    )


def _held(spans: Int[Tensor, "N 2"], books: Int[Tensor, "N"]) -> Int[Tensor, "M 3"]:
    """Each span once for each codebook, with the number of its tokens."""
    # Rows of one number are sorted many times faster than rows of three.
    longest = int(spans.max()) + 1
    boxes, which = (spans[:, 0] * longest + spans[:, 1]).unique(return_inverse=True)
    several = int(books.max()) + 1
    known, counts = (which * several + books).unique(return_counts=True)
    box = boxes[known // several]
    return torch.stack((box // longest, box % longest, counts), 1)


def _explained(
    held: Int[Tensor, "N 3"], hop: int, rate: int, originals: Int[Tensor, "C"], last: Tensor, merged: bool
) -> Bool[Tensor, "C N"]:
    """For each original rate, which spans lie on its grid and have room for their tokens."""
    step = (hop * originals).unsqueeze(1)
    start, end, tokens = held.unbind(1)
    first, behind = (-(-t * rate // step) for t in (start, end))
    begins = (first * step // rate == start) & (start >= 0) & (behind > first)
    ends = (behind * step // rate == end) | (end == last)
    if merged:
        # Almost everything lies on the finest grids.
        fits = (tokens == 1) & (originals.unsqueeze(1) >= LOWEST)
    else:
        # Frames shorter than a sample of the original share it.
        shared = (step < rate) & (end - start == 1) & (tokens <= behind - first)
        fits = shared | ((behind - first == 1) & (tokens == 1))
    return begins & ends & fits
