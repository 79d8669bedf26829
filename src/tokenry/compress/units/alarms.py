"""Lines that say that something went wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

_ALARM = re.compile(
    r"""\b(?:ERROR|FATAL|CRITICAL|SEVERE|EMERG|PANIC|FAILED|FAILURE|Traceback|Segmentation\sfault|core\sdumped)\b
    | \b(?:[A-Z]\w*)?(?:Error|Exception)\b(?!\s*=)
    | ^[^\S\n]*(?:[^\s:]+:\d+(?::\d+)?:\s*)?(?:fatal\s)?error\b
    | \b(?:panic(?:ked)?|fatal|failed|failure|denied|refused|timed\sout|out\sof\smemory|oom-?kill\w*|killed)\b
    | \b(?:exit(?:ed)?|return(?:ed)?)\s(?:with\s)?(?:code|status)\s[1-9]
    | "(?:level|severity)"\s*:\s*"(?:error|fatal|critical)" | \blevel=(?:error|fatal|critical)\b""",
    re.VERBOSE | re.MULTILINE,
)
_NONE = re.compile(
    r"\b(?:0|no|without)\s(?:errors?|failures?|failed)\b|\bPASSED\b|\s\.{2,}\s?ok\s*$", re.IGNORECASE | re.MULTILINE
)


def alarming(text: str, bounds: Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"]) -> Bool[np.ndarray, "U"]:
    """Which lines, or lines that belong together, report an error; `bounds` are ascending and apart."""
    where = np.asarray(bounds, dtype=np.int64).reshape(-1, 2)
    found = np.zeros(len(where) + 1, dtype=bool)
    found[np.searchsorted(where[:, 0], [m.start() for m in _ALARM.finditer(text)], side="right")] = True
    for u in np.flatnonzero(found[1:]).tolist():
        found[u + 1] = _NONE.search(text, *where[u].tolist()) is None
    return found[1:]
