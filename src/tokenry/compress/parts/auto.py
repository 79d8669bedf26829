"""Whatever a text is: each part of it is cut by the kind that knows its format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tokenry.compress.parts.code import Code
from tokenry.compress.parts.diff import Diff
from tokenry.compress.parts.json import Json
from tokenry.compress.parts.kind import Kind, Lines, Sentence
from tokenry.compress.parts.log import Log
from tokenry.compress.parts.table import Table
from tokenry.compress.units.cut import Cut, Gap
from tokenry.core.card import Card

_FENCE = re.compile(r"^(?P<mark>```+|~~~+)[^\n]*\n(?P<inside>.*?)^(?P=mark)[ \t]*$\n?", re.MULTILINE | re.DOTALL)
_SHORT_LINES = 120


@dataclass(frozen=True, kw_only=True)
class Auto(Kind):
    """Look at a text and choose; a document of several kinds, such as prose with fenced blocks, is cut into them."""

    part = Card(
        title="Choice by content (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Content_sniffing",
        summary="whatever a text is, each part by its own kind",
    )
    counts = "parts"

    def cut(self, text: str) -> Cut:
        return Cut.joined([(at, kind.cut(text[at:end])) for at, end, kind in parts(text)])

    def mark(self, text: str, gap: Gap) -> str:
        raise AssertionError("gaps are those of the kinds that it chose")


def parts(text: str) -> Iterator[tuple[int, int, Kind]]:
    """Characters of each part of a text, from and to, and its kind; together they are the text."""
    whole = kind_of(text)
    fences = [] if not isinstance(whole, Sentence) else list(_FENCE.finditer(text))
    at = 0
    for fence in fences:
        start, end = fence.span("inside")
        if end > start:
            if start > at:
                yield at, start, kind_of(text[at:start])
            yield start, end, kind_of(text[start:end], within="fence")
            at = end
    if at < len(text):
        yield at, len(text), whole if at == 0 else kind_of(text[at:])


def kind_of(text: str, within: str = "") -> Kind:
    """The kind of a text as a whole; prose where nothing else is seen."""
    for kind in (Json(), Diff(), Table(), Log(), Code()):
        if kind.is_one(text):
            return kind
    return Lines() if within == "fence" or _of_lines(text) else Sentence()


def _of_lines(text: str) -> bool:
    """Whether lines are what it is made of: many, short, and hardly one ends a sentence."""
    lines = [line.rstrip() for line in text[:100_000].split("\n") if line.strip()]
    if len(lines) < 5:
        return False
    short = sum(len(line) <= _SHORT_LINES for line in lines)
    ends = sum(line.endswith((".", "?", "!", ":", ",", ";")) for line in lines)
    spaced = sum(line.count(" ") for line in lines) / len(lines)
    return short > 0.9 * len(lines) and ends < 0.1 * len(lines) and spaced < 6
