"""Models while they are measured: without dropout, and without gradients of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No module of the model is training; each is as before when the block is left."""
    training = [m for m in model.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
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
