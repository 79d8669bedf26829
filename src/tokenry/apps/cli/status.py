"""A sign of life: one line on standard error of a terminal that says what goes on, and nothing elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from tokenry.apps.cli.tables import shortened
from tokenry.core.progress import watched


class Tell(Protocol):
    """Shows how far something is; `said` stands in place of its name."""

    def __call__(self, what: str, done: int, of: int, said: str = "") -> None: ...


class Status:
    """What goes on, with seconds; it makes way for what is printed."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._bar = _bar(SpinnerColumn(), *columns, TextColumn("{task.description}", table_column=Column(no_wrap=True)))
        self._task = self._bar.add_task("", total=None)
        self._head = ""

    def say(self, what: str) -> None:
        """Begin something larger, in which smaller things happen."""
        # What happens in it has room on the line too.
        self._head = shortened(what, max(20, shutil.get_terminal_size().columns // 2))
        self.watch("")

    def watch(self, part: str) -> None:
        """Show what happens in it right now."""
        self._bar.update(self._task, description=": ".join(filter(None, (self._head, part))))

    def stop(self) -> None:
        """Clear the line."""
        self._bar.stop()

    def resume(self, what: str) -> None:
        """Show the line again."""
        self.say(what)
        self._bar.start()

    def counting(self, of: int) -> Callable[[str], None]:
        """Begin one of several larger things after the other."""
        numbers = count(1)
        return lambda what: self.say(f"{next(numbers)} of {of}: {what}")

    def beside(self, say: Callable[..., None]) -> Callable[..., None]:
        """A function that prints, with the line out of its way."""

        def said(*words: str) -> None:
            with self.aside():
                say(*words)

        return said

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Clear the line for something that is printed."""
        self._bar.stop()
        yield
        self._bar.start()


@contextmanager
def working(what: str = "") -> Iterator[Status]:
    """Show what goes on inside the block."""
    status = Status(TimeElapsedColumn())
    status.say(what)
    status._bar.start()
    try:
        with watched(status.watch):
            yield status
    finally:
        status.stop()


@contextmanager
def bars() -> Iterator[Tell]:
    """A bar for each long part; the callback gets its name, how much of it is done, and how much there is."""
    with _bar(TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, of: int, said: str = "") -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of or None)
            bar.update(tasks[what], completed=done, total=of or None, description=said or what)

        yield tell


def warn(text: str) -> None:
    """One line for people, on standard error."""
    Console(stderr=True, highlight=False).print(text, markup=False, style="dim", soft_wrap=True)


def _bar(*columns: ProgressColumn) -> Progress:
    # What is printed goes where it belongs: a status line on standard error takes no standard output.
    return Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
