"""How many bytes of tensors are alive at once: the peak over what runs inside."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Counts the storage of every tensor that an operation makes, until the last tensor on it is gone.

    What was there before is not counted, nor is what an operation holds and frees within itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._tensors: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(t) for t in args if isinstance(t, torch.Tensor)}
        out = func(*args, **kwargs or {})
        for t in tree_iter(out):
            if isinstance(t, torch.Tensor) and (_storage(t) in self._tensors or _storage(t) not in given):
                self._enter(t)
        self.peak = max(self.peak, self.now)
        return out

    def _enter(self, t: torch.Tensor) -> None:
        at, size = _storage(t), t.untyped_storage().nbytes()
        if size:
            self.now += 0 if at in self._tensors else size
            self._tensors[at] = self._tensors.get(at, 0) + 1
            weakref.finalize(t, self._leave, at, size)

    def _leave(self, at: int, size: int) -> None:
        self._tensors[at] -= 1
        if not self._tensors[at]:
            del self._tensors[at]
            self.now -= size


def _storage(t: torch.Tensor) -> int:
    return t.untyped_storage().data_ptr()
