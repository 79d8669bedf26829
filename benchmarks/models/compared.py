"""What one way of reading gives beside another, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from benchmarks.models.alone import said
from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.models.attention.call import NAME

Course = Callable[[], list[Tensor]]
Way = Callable[[], AbstractContextManager[Any]]

EXACT, TOLERANCE = 1e-5, 1e-3
"""Two runs of a model itself may differ by the first; one through tokenry by the second, which other orders of
summation stay below."""


class NotThere(Exception):
    """A model has no such way of reading."""


def itself(course: Course) -> list[Tensor] | str:
    """What the model says by itself, or why that is nothing to compare with."""
    try:
        first, again = seeded(course), seeded(course)
    except NotThere as error:
        return str(error)
    except Exception as error:
        return f"does not run: {said(error)}"
    if any(bool(t.isnan().any()) for t in first):
        return "gives numbers that are none"
    return first if equal(first, again, EXACT) else "says something else each time"


def through(way: Way, course: Course, own: list[Tensor], allowed: float = TOLERANCE) -> str:
    """`exact`, or what is to be said: refused, wrong or crash, and why."""
    try:
        with way():
            found = seeded(course)
    except (UnsupportedModel, Incompatible) as error:
        return f"refused: {error}"
    except Exception as error:
        # transformers refuses by name what it cannot do with this attention.
        what = "refused" if f"Implementation {NAME} " in str(error) else "crash"
        return f"{what}: {said(error)}"
    return "exact" if equal(own, found, allowed) else f"wrong: {_apart(own, found)}"


def seeded(course: Course) -> list[Tensor]:
    """What it gives when it draws from the beginning."""
    torch.manual_seed(0)
    return course()


def equal(some: list[Tensor], others: list[Tensor], allowed: float) -> bool:
    """Whether all are of one shape and near each other."""
    if [a.shape for a in some] != [b.shape for b in others]:
        return False
    return all(_distance(a, b) <= allowed for a, b in zip(some, others, strict=True) if a.numel())


def _distance(a: Tensor, b: Tensor) -> float:
    """Relative to the largest value where that is more than one; infinite where it is no number."""
    found = float((a - b).abs().max() / a.abs().max().clamp_min(1))
    return found if found == found else float("inf")


def _apart(some: list[Tensor], others: list[Tensor]) -> str:
    if [a.shape for a in some] != [b.shape for b in others]:
        return "other shapes"
    return f"off by {max(_distance(a, b) for a, b in zip(some, others, strict=True) if a.numel()):.2g}"
