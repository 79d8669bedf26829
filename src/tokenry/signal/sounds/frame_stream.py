"""The frames of a sound that arrives in pieces."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.signal.parts.sound_content import SoundContent

BLOCK = 1 << 14
"""Samples whose frames are computed together."""


class FrameStream:
    """Codes of frames as soon as their samples are there: bit for bit the same, however the sound is cut.

    Frames are computed in blocks that begin at fixed places and have a fixed size, the missing samples being zero. A
    frame is therefore always computed at the same place of an equal operation, whatever is known behind it.
    """

    def __init__(self, content: SoundContent, rate: int) -> None:
        self.content, self.rate, self.hop = content, rate, content.hop(rate)
        self.block = max(1, BLOCK // self.hop)
        self.held = torch.zeros(content.reach(rate))
        """Samples since `reach` before the block."""
        self.past = len(self.held)
        self.done = 0
        """Frames of the block that were given out."""

    def feed(self, samples: Float[Tensor, "T"]) -> Int[Tensor, "F R"]:
        """Codes of the frames that these samples complete."""
        self.held = torch.cat((self.held, samples))
        found = [torch.zeros(0, len(self.content.codebook_sizes), dtype=torch.long)]
        while (ready := min((len(self.held) - self.past) // self.hop, self.block)) > self.done:
            found.append(self._codes()[self.done : ready])
            self.done = ready
            if ready == self.block:
                self.held, self.done = self.held[self.block * self.hop :], 0
        return torch.cat(found)

    def finish(self) -> Int[Tensor, "F R"]:
        """The frame that the end of the sound leaves unfinished, if there is one; silence fills it up."""
        return self.feed(torch.zeros(-(len(self.held) - self.past) % self.hop))

    def _codes(self) -> Int[Tensor, "F R"]:
        whole = self.past + self.block * self.hop
        block = self.held[:whole]
        return self.content.codes(pad(block, (0, whole - len(block))), self.rate)
