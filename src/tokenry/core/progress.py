"""What is going on right now, for whoever watches: a status line in a terminal, a log, another process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger("tokenry.progress")
_watcher: ContextVar[Callable[[str], None] | None] = ContextVar("_watcher", default=None)


def now(what: str) -> None:
    """Say what begins; where nobody watches, nothing happens."""
    log.debug(what)
    watcher = _watcher.get()
    if watcher is not None:
        watcher(what)


def counted(items: Iterable[T], what: str, of: int) -> Iterator[T]:
    """Say for each of several things which one begins: `reading chunk 3 of 9`; of one alone nothing is said."""
    for i, item in enumerate(items, 1):
        if of > 1:
            now(f"{what} {i:,} of {of:,}")
        yield item


@contextmanager
def watched(watcher: Callable[[str], None] | None) -> Iterator[None]:
    """Call `watcher` with what begins inside the block."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)
