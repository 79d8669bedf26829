"""Models while they are measured: without dropout, without gradients of their own, with narrow windows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenry.models import private

EDGES = ("sliding_window", "sliding_window_size", "attention_chunk_size", "local_attention", "index_topk")
"""What configurations and layers call the number of tokens that some layers look at."""

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


@contextmanager
def trial(model: nn.Module) -> Iterator[None]:
    """A model that is not training reads something, and notes nothing about it.

    Some keep how far the positions of a picture's tokens are off, which a text that is read later would take for its
    own.
    """
    before = [(m, {name: value for name, value in vars(m).items() if _is_note(value)}) for m in model.modules()]
    try:
        with evaluating(model):
            yield
    finally:
        for m, notes in before:
            for name in [n for n, value in vars(m).items() if _is_note(value) and n not in notes]:
                del m.__dict__[name]
            m.__dict__.update(notes)


def _is_note(value: Any) -> bool:
    return value is None or isinstance(value, Tensor)


@contextmanager
def narrowed(model: PreTrainedModel, width: int) -> Iterator[None]:
    """Layers that look at a number of tokens only look at `width`, so that a short text shows what they do beyond."""
    before: list[tuple[Any, str, int]] = []
    try:
        for owner in (*private.configurations(model), *model.modules()):
            for name in EDGES:
                value = getattr(owner, name, None)
                if isinstance(value, int) and not isinstance(value, bool) and value > width:
                    setattr(owner, name, width)
                    before.append((owner, name, value))
        yield
    finally:
        # The last first: two names of one configuration may mean one number.
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
