"""How time grows with an input, which is the same on a fast processor, a slow one and a busy one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def growth(run: Callable[[int], Any], size: int, times: int = 8) -> float:
    """Time for `size` items over `times` the time for one part in `times`: 1 where it is linear, `times` where it is
    quadratic. Counted is what the processor does for this process, at its best of three."""
    parts, whole = (min(_seconds(run, n) for _ in range(3)) for n in (size // times, size))
    # Less than a millisecond says more about the clock.
    return whole / (times * max(parts, 1e-3))


def _seconds(run: Callable[[int], Any], n: int) -> float:
    start = time.process_time()
    run(n)
    return time.process_time() - start
