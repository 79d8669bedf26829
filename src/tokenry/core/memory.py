"""How much memory a process took, without torch."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most memory this process held so far.

    On Linux it is read from the process itself: what `getrusage` says there includes the parent before `exec`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
