"""Lines that say that something went wrong, and the lines around them that say what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from tokenry.compress.units.shown import uncoloured_at

Bounds = Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"]

_ALARM = re.compile(
    r"""\b(?:ERROR|FATAL|CRITICAL|SEVERE|EMERG|PANIC|FAILED|FAILURE|Traceback|Segmentation\sfault|core\sdumped)\b
    | \bERR!
    | \b(?:[A-Z]\w*)?(?:Error|Exception)\b(?![^\S\n]*=)
    | ^[^\S\n]*(?:[^\s:]+:\d+(?::\d+)?:\s*)?(?:fatal\s)?error\b
    | \b(?:exit(?:ed)?|return(?:ed)?)\s(?:with\s)?(?:code|status)\s[1-9]
    | "(?:level|severity)"\s*:\s*"(?:error|fatal|critical)" | \blevel=(?:error|fatal|critical)\b
    | (?P<word>\b(?:panic(?:ked)?|fatal|failed|failure|denied|refused|timed\sout|out\sof\smemory|oom-?kill\w*|killed)
        \b)""",
    re.VERBOSE | re.MULTILINE,
)
_NONE = re.compile(
    r"\b(?:0|no|without)\s(?:errors?|failures?|failed)\b|\bPASSED\b|\s\.{2,}\s?ok\s*$", re.IGNORECASE | re.MULTILINE
)
STAMP = re.compile(
    r"\[?(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)\]? ?"
)
_FIRST_WORD = re.compile(r"\s*\S+")
_FIRST_WORDS = re.compile(r"\s*(?:\S+\s+){0,2}\S*")
_FIRST_LINE = re.compile(r".{0,200}")
_WORDS = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
_OFTEN = 4
"""Lines that are alike which are the usual ones, or 2 % of all."""
BEFORE, AFTER, LONGEST = 3, 1, 12
"""Lines around one that reports an error that are important too; more after it, until the usual ones come again."""


def alarming(text: str, bounds: Bounds) -> Bool[np.ndarray, "U"]:
    """Which lines, or lines that belong together, report an error; `bounds` are ascending and apart.

    Of lines that begin alike and only use a word such as `failed`, which may come all the time, it is the first.
    """
    text, where = uncoloured_at(text, np.asarray(bounds, dtype=np.int64).reshape(-1, 2))
    found = np.zeros(len(where) + 1, dtype=bool)
    sure = found.copy()
    matches = [(m.start(), m["word"] is None) for m in _ALARM.finditer(text)]
    at = np.searchsorted(where[:, 0], [start for start, _ in matches], side="right")
    found[at] = True
    sure[at[np.array([s for _, s in matches], dtype=bool)]] = True
    seen: set[str] = set()
    for u in np.flatnonzero(found[1:]).tolist():
        low, high = where[u].tolist()
        found[u + 1] = _NONE.search(text, low, high) is None
        if found[u + 1] and not sure[u + 1]:
            beginning = _beginning(text, low, high, _FIRST_WORDS)
            found[u + 1] = beginning not in seen
            seen.add(beginning)
    return found[1:]


def surrounded(text: str, bounds: Bounds, errors: Bool[np.ndarray, "U"]) -> Bool[np.ndarray, "U"]:
    """Units that report an error with those around them; behind it all that explains it, until the log goes on."""
    if not errors.any():
        return errors
    where = np.asarray(bounds, dtype=np.int64).reshape(-1, 2)
    common = usual(text, where)
    found = errors.copy()
    for u in np.flatnonzero(errors).tolist():
        found[max(0, u - BEFORE) : u + AFTER + 1] = True
        for v in range(u + AFTER + 1, min(len(where), u + LONGEST + 1)):
            if common[v]:
                break
            found[v] = True
    return found


def usual(text: str, bounds: Bounds) -> list[bool]:
    """Units of which there are many with the same first word, or with the same signs between other words."""
    text, where = uncoloured_at(text, np.asarray(bounds, dtype=np.int64).reshape(-1, 2))
    keys = [
        (_beginning(text, a, b, _FIRST_WORD), _WORDS.sub("w", _beginning(text, a, b, _FIRST_LINE)))
        for a, b in where.tolist()
    ]
    first, signs = Counter(a for a, _ in keys), Counter(b for _, b in keys)
    often = max(_OFTEN, len(keys) // 50)
    return [first[a] >= often or signs[b] >= often for a, b in keys]


def _beginning(text: str, low: int, high: int, pattern: re.Pattern[str]) -> str:
    """The first words of a unit behind its time, whatever their numbers are."""
    stamp = STAMP.match(text, low, high)
    match = pattern.match(text, low if stamp is None else stamp.end(), high)
    return "" if match is None else _DIGITS.sub("#", match[0])
