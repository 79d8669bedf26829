"""Documents that users paste: told from their own words with care, so that what people say is never cut.

A document is what stands in a part for documents, in an element `<document>`, `<document_content>`, `<file>` or
`<attachment>`, or in a fence; and, outside of these, JSON, a log, a table, a diff or code, with the first and the last
paragraph around it taken as words. Prose that nothing sets apart is what somebody says, however long it is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Any

from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.log import heads
from tokenry.pipeline.messages.places import Path, Span, parts

_OPENS = re.compile(
    r"<(?P<element>document_content|document|file|attachment)(?:\s[^<>]{0,1000})?>"
    r"|^ {0,3}(?P<fence>`{3,}(?=[^`\n]*\n)|~{3,})[^\n]*\n",
    re.MULTILINE,
)
_CLOSES = re.compile(r"</(document_content|document|file|attachment)>|^ {0,3}(`{3,}|~{3,})[ \t\r]*$", re.MULTILINE)
_MADE = ("json", "log", "table", "diff", "code")
LEAST = 400
"""Characters below which a text is not looked at, and counts as words."""


def pasted(message: Mapping[str, Any]) -> Iterator[tuple[Path, Span, str]]:
    """Path, characters from and to, and text of every document in a message of a user."""
    if message.get("role") != "user":
        return
    for path, text in parts(message, "content"):
        yield from ((path, (a, b), text[a:b]) for a, b in spans(text))
    content = message.get("content")
    for i, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, Mapping) or part.get("type") != "document" or part.get("citations"):
            continue  # citations name characters of the document
        source = part.get("source")
        if isinstance(source, Mapping) and source.get("type") == "text" and isinstance(source.get("data"), str):
            yield ("content", i, "source", "data"), (0, len(source["data"])), source["data"]
        elif isinstance(source, Mapping) and source.get("type") == "content":
            for path, text in parts(source, "content"):
                yield ("content", i, "source", *path), (0, len(text)), text


def is_turn(message: Any) -> bool:
    """Whether a user says something in a message; one with results of tools needs words of its own for that."""
    if not isinstance(message, Mapping) or message.get("role") != "user":
        return False
    content = message.get("content")
    if isinstance(content, list) and any(isinstance(p, Mapping) and p.get("type") == "tool_result" for p in content):
        return any(text.strip() for _, text in parts(message, "content"))
    return bool(content)


def words(message: Mapping[str, Any]) -> str:
    """What a user says beside the documents."""
    if message.get("role") != "user":
        return ""
    found = []
    for _, text in parts(message, "content"):
        at = 0
        for start, end in spans(text):
            found.append(text[at:start])
            at = end
        found.append(text[at:])
    return " ".join(" ".join(found).split())


@lru_cache(maxsize=16)
def spans(text: str) -> tuple[Span, ...]:
    """Characters of the documents in what a user says, in order and apart; a turn is sent again in each request."""
    if len(text) < LEAST:
        return ()
    found: list[Span] = []
    at = 0
    for start, end in _set_apart(text):
        found += [*_made(text, at, start), (start, end)]
        at = end
    found += _made(text, at, len(text))
    return tuple((a, b) for a, b in found if b - a >= LEAST)


def _set_apart(text: str) -> Iterator[Span]:
    """What stands in elements and fences, whichever opens first."""
    closing: dict[str, list[tuple[int, int, str]]] = {}  # by element, or by the character of a fence
    for m in _CLOSES.finditer(text):
        closing.setdefault(m[1] or m[2][0], []).append((m.start(), m.end(), m[1] or m[2]))
    never: set[str] = set()  # what has no end any more
    at = 0
    while opens := _OPENS.search(text, at):
        at = opens.end()
        mark = opens["element"] or opens["fence"]
        if mark in never:
            continue
        ends = closing.get(opens["element"] or mark[0], [])
        behind = (ends[i] for i in range(bisect_left(ends, (at,)), len(ends)))
        closes = next((end for end in behind if end[2].startswith(mark)), None)
        if closes is None:
            never.add(mark)
            continue
        inner = _OPENS.search(text, at, closes[0]) if opens["element"] else None
        if inner is not None and inner["element"] and (mark == "document" or inner["element"] == mark):
            continue  # the innermost holds the text
        low, high = at, closes[0]
        low += text.startswith("\n", low)
        high -= text.endswith("\n", low, high)
        yield low, high
        at = closes[1]


def _made(text: str, low: int, high: int) -> list[Span]:
    """What no person types, in a stretch without fences: all of it, or what is left without words around it."""
    if high - low < LEAST:
        return []
    stretch = text[low:high]
    starts = sorted({0, stretch.find("\n") + 1, stretch.find("\n\n") + 2 if "\n\n" in stretch else 0})
    ends = sorted({len(stretch), stretch.rfind("\n"), stretch.rfind("\n\n")} - {-1}, reverse=True)
    for start, end in sorted(product(starts, ends), key=lambda s: s[0] - s[1]):
        if end - start < LEAST:
            continue
        kind = kind_of(stretch[start:end]).name()
        if kind == "log":
            start, end = _headed(stretch, start, end)
        if kind in _MADE and not (kind == "table" and _of_sentences(stretch[start:end])):
            return [(low + start, low + end)]
    return []


def _headed(text: str, start: int, end: int) -> Span:
    """A log from its first line to its last, with what is indented below; what stands around it may be words."""
    lines, at = [], start
    for line in re.findall(r"[^\n]*\n|[^\n]+", text[start:end]):
        lines.append((at, at + len(line), heads(line), line[:1] in " \t"))
        at += len(line)
    first = next(low for low, _, headed, _ in lines if headed)
    while lines and not (lines[-1][2] or lines[-1][3]):
        lines.pop()
    return first, lines[-1][1]


def _of_sentences(text: str) -> bool:
    """Whether what looks like a table is a list of sentences, in which a space follows the commas."""
    return not text.lstrip().startswith("|") and 2 * text.count(", ") > text.count(",")
