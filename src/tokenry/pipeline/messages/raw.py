"""JSON as it is written: where values stand in it, so that a few can be exchanged and every other byte stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tokenry.core.errors import InvalidValue
from tokenry.pipeline.messages.places import Path, Span

_SIGN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]|[^\s\[\]{},:"]+')
DEEPEST = 200
"""Brackets within brackets beyond which a text is refused."""


def spans(text: str) -> dict[Path, Span]:
    """Characters of every value of a JSON text, from and to, by its path; of equal names the last counts.

    Raises:
        InvalidValue: brackets that do not match, or too many within each other.
    """
    found: dict[Path, Span] = {}
    path: list[int | str] = []
    begins: list[int] = []
    names: list[bool] = []  # whether the next string of each object is a name
    for match in _SIGN.finditer(text):
        sign = match[0]
        if sign in "[{":
            if len(begins) == DEEPEST:
                raise InvalidValue(f"JSON: must have at most {DEEPEST} brackets within each other; got more.")
            begins.append(match.start())
            path.append(0 if sign == "[" else "")
            names.append(sign == "{")
        elif sign in "]}":
            if not begins:
                raise InvalidValue(f"JSON: brackets must match; got {sign} at character {match.start()}.")
            path.pop()
            names.pop()
            found[tuple(path)] = begins.pop(), match.end()
        elif sign == ",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
            elif names:
                names[-1] = True
        elif sign == ":":
            names[-1] = False
        elif names and names[-1] and sign[0] == '"' and isinstance(path[-1], str):
            path[-1] = json.loads(sign)
        else:
            found[tuple(path)] = match.span()
    if begins:
        raise InvalidValue("JSON: brackets must match; got one that is not closed.")
    return found


def exchanged(text: str, values: Mapping[Path, str]) -> str:
    """The text with other strings at some paths."""
    where = spans(text)
    parts, at = [], 0
    for path in sorted(values, key=lambda p: where[p]):
        start, end = where[path]
        parts += [text[at:start], quoted(values[path])]
        at = end
    return "".join([*parts, text[at:]])


def entered(text: str, path: Path, name: str, value: str) -> str:
    """The text with one more member in the object at a path, or, with no name, one more element in the array there.

    Args:
        value: as JSON.
    """
    start, end = spans(text)[path]
    item = f"{quoted(name)}: {value}" if name else value
    empty = not text[start + 1 : end - 1].strip()
    return text[: end - 1].rstrip() + ("" if empty else ", ") + item + text[end - 1 :]


def quoted(value: str) -> str:
    """A string as JSON; letters as they are, but half of a pair of surrogates by its number."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False)
