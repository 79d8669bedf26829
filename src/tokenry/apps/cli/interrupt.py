"""Ctrl-C that is heard: libraries swallow it while they are imported, so it is raised again until somebody ends."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

AGAIN = 0.5
"""Seconds after which an interruption that nothing came of is raised again."""


@contextmanager
def heard() -> Iterator[None]:
    """Inside the block Ctrl-C ends what runs, whatever swallows it the first time."""
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler or not hasattr(signal, "setitimer"):
        yield
        return
    alarms = []

    def stop(*_: object) -> None:
        alarms.append(signal.signal(signal.SIGALRM, again))
        signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise KeyboardInterrupt

    def again(*_: object) -> None:
        # What is cleaned up because of it is not disturbed.
        if not _unwinding(sys.exc_info()[1]):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if alarms:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarms[0])


@contextmanager
def ending() -> Iterator[None]:
    """Inside the block Ctrl-C is how what runs ends, and no fault; what closes it is not disturbed."""
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _unwinding(error: BaseException | None) -> bool:
    """Whether an exception came of an interruption."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
