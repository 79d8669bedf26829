"""Where frames of a sound lie in the samples that it had before its rate was changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.data.sound import HIGHEST_RATE

USUAL = (192000, 96000, 88200, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
PROBES, BLOCK = 16, 1 << 15


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

    def explains(self, spans: Int[Tensor, "N 2"], merged: bool) -> bool:
        """Whether these are spans of frames of this grid; the last may be cut off by the end of the sound."""
        return bool(_explained(spans, self.hop, self.rate, torch.tensor([self.original]), spans.max(), merged)[0])


def grid_of(spans: Int[Tensor, "N 2"], hop: int, rate: int, merged: bool) -> SampleGrid:
    """The grid that spans lie on, which tells the rate of the original.

    Where several do, because there are few spans, it is that of the rate itself, or else that of the highest rate,
    which leaves the fewest frames missing.

    Args:
        merged: a span may be of several frames.

    Raises:
        InvalidValue: no grid explains them.
    """
    spans = spans.unique(dim=0)
    for original in (rate, *USUAL):
        grid = SampleGrid(hop, rate, original)
        if grid.explains(spans, merged):
            return grid
    few = spans[torch.linspace(0, len(spans) - 1, min(PROBES, len(spans))).round().long()]
    for top in range(HIGHEST_RATE, 0, -BLOCK):
        originals = torch.arange(top, max(0, top - BLOCK), -1)
        for original in originals[_explained(few, hop, rate, originals, spans.max(), merged)].tolist():
            grid = SampleGrid(hop, rate, original)
            if grid.explains(spans, merged):
                return grid
    raise InvalidValue(
        f"spans: must be those of frames of {hop} samples at rate {rate}; got {spans[:3].tolist()} and so on; decode "
        "with the tokenizer that made the tokens."
    )


def _explained(
    spans: Int[Tensor, "N 2"], hop: int, rate: int, originals: Int[Tensor, "C"], last: Tensor, merged: bool
) -> Bool[Tensor, "C"]:
    """For each original rate, whether all spans lie on its grid."""
    step = (hop * originals).unsqueeze(1)
    start, end = spans[:, 0], spans[:, 1]
    first, behind = (-(-t * rate // step) for t in (start, end))
    begins = (first * step // rate == start) & (start >= 0) & (behind > first)
    ends = (behind * step // rate == end) | (end == last)
    # Frames shorter than a sample of the original share it.
    single = (behind - first == 1) | (step < rate) | merged
    return (begins & ends & single).all(1)
