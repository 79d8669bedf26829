"""What an answer cost, in the three ways that charts show, and what none beats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenry.report import figures

if TYPE_CHECKING:
    from tokenry.pipeline.compare import Arm


@dataclass(frozen=True)
class Cost:
    """A cost of an arm, and how people read it."""

    of: Callable[[Arm], float]
    show: Callable[[float | None], str]


COSTS: dict[str, Cost] = {
    "tokens read per step": Cost(lambda arm: figures.mean(arm.receipt.read_per_step) or 0.0, figures.count),
    "keys and values read": Cost(lambda arm: float(arm.receipt.bytes_read), figures.size),
    "time for the answer": Cost(lambda arm: arm.receipt.seconds.first_token + arm.receipt.seconds.decode,
                                figures.seconds),
}  # fmt: skip


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that none beats in both cost and loss, cheapest first."""
    best, found = float("inf"), []
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        if points[i][1] < best:
            best = points[i][1]
            found.append(i)
    return found


def short(text: str) -> str:
    """A round number as an axis says it: 20 s for 20.0 s."""
    return text.replace(".0 ", " ")
