"""Models while they are measured: without dropout, and without gradients of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

proving = threading.RLock()
"""Held while a model is tried out. That changes its settings for a moment, which no other thread may take for its own.
"""


_lock = threading.Lock()
_resting: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()
"""How many blocks keep a model from training now, and which of its modules train otherwise."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No module of the model is training; each is as before when the last block around the model is left."""
    with _lock:
        blocks, training = _resting.get(model, (0, []))
        found = [m for m in model.modules() if m.training]
        _resting[model] = blocks + 1, training + found
        for m in found:
            m.training = False
    try:
        yield
    finally:
        with _lock:
            blocks, training = _resting.pop(model)
            if blocks > 1:
                _resting[model] = blocks - 1, training
            else:
                for m in training:
                    m.training = True


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """No module is training and no parameter asks for a gradient; all is as before when the block is left."""
    learning = [p for p in model.parameters() if p.requires_grad]
    with evaluating(model):
        for p in learning:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in learning:
                p.requires_grad_(True)
