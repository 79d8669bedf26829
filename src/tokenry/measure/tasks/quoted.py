"""Items in an answer: of a JSON list or object, between quotation marks, or separated by commas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

LONGEST = 1 << 20
"""Characters of an answer that are looked at."""

_QUOTED = re.compile(r'"([^"\n]*)"')


def said(answer: str) -> list[str]:
    """The items of an answer, in order: values of the first JSON object or list in it, else what is quoted, else what
    stands between commas."""
    answer = answer[:LONGEST]
    for start in (i for i, c in enumerate(answer) if c in "[{"):
        try:
            found, _ = json.JSONDecoder().raw_decode(answer, start)
        except (ValueError, RecursionError):
            break
        return list(_leaves(found))
    return quoted(answer) or [item for part in re.split(r"[,\n]", answer) if (item := part.strip(" \t'`.*"))]


def quoted(text: str) -> list[str]:
    """What stands between quotation marks."""
    return _QUOTED.findall(text)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a JSON value, without the keys of objects."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value if isinstance(value, str) else json.dumps(value)
