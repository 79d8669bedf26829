"""Buffers that are too precise for 16-bit floats: averages would stand still in them, and rotations turn elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class WholeBuffers(nn.Module):
    """A module whose buffers stay in 32-bit floats at least, whatever its parameters are brought to."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, now in self.named_buffers(recurse=False):
            if now.is_floating_point() and now.itemsize < 4:
                setattr(self, name, held[name].to(now.device, torch.float32))
        return self
