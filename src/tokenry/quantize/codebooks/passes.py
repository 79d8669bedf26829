"""How often a fit goes through its vectors, and the bar that shows how far it has come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import Progress

T = TypeVar("T")


class Passes:
    """So many passes for each table, on a bar where there is one.

    Args:
        count: passes for each table.
        bar: where they are shown.
    """

    def __init__(self, count: int, bar: Progress | None = None) -> None:
        self.count = count
        self.bar = bar

    def __call__(self, what: str) -> Iterator[int]:
        """Each pass, shown under a name."""
        return self.shown(what, range(self.count), self.count)

    def shown(self, what: str, steps: Iterable[T], total: int) -> Iterator[T]:
        """Steps as they are, shown under a name while they are taken."""
        if self.bar is None:
            yield from steps
            return
        task = self.bar.add_task(what, total=total)
        try:
            for step in steps:
                yield step
                self.bar.advance(task)
        finally:
            self.bar.remove_task(task)
