"""Whatever a text is: it is cut by the kind that knows its format."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from tokenry.compress.parts.code import Code
from tokenry.compress.parts.diff import Diff
from tokenry.compress.parts.folded import Folded
from tokenry.compress.parts.json import Json
from tokenry.compress.parts.kind import Kind, Lines, Sentence
from tokenry.compress.parts.log import Log
from tokenry.compress.parts.sections import Sections
from tokenry.compress.parts.table import Table
from tokenry.compress.units.alarms import usual
from tokenry.compress.units.cut import Cut, Gap
from tokenry.core import fields
from tokenry.core.card import Card

_SHORT_LINES = 120
_LOOKED_AT = 100_000
_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d]+")


@dataclass(frozen=True, kw_only=True)
class Auto(Kind):
    """Look at a text and choose; what is fenced in a document is looked at by itself."""

    part = Card(
        title="Choice by content (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Content_sniffing",
        summary="whatever a text is, each part by its own kind",
    )
    counts = "parts"

    rest: Kind = fields.part(Sentence(), doc="what cuts a text in which no format is seen")

    def cut(self, text: str) -> Cut:
        return kind_of(text, self.rest).cut(text)

    def mark(self, text: str, gap: Gap) -> str:
        raise AssertionError("gaps are those of the kinds that it chose")


def kind_of(text: str, rest: Kind | None = None) -> Kind:
    """The kind of a text; `rest`, which is sentences where not given, where nothing else is seen."""
    fenced = Auto(rest=Lines())
    for kind in (Folded(), Json(), Diff(), Table(), Log(), Sections(format="html"), Code(), Sections(inside=fenced)):
        if kind.is_one(text):
            return kind
    begin = text[:_LOOKED_AT]
    lines = Lines().cut(begin)
    if not _of_lines(begin, lines):
        return rest or Sentence()
    # Lines of which one reports an error are what a tool said as it worked.
    return Log() if lines.strong.any() else Lines()


def _of_lines(text: str, cut: Cut) -> bool:
    """Whether lines are what it is made of: many, short, and hardly one ends a sentence, or most are alike."""
    lines = [line.strip() for line in cut.texts(text)]
    if len(lines) < 5:
        return False
    if sum(len(line) <= _SHORT_LINES for line in lines) <= 0.9 * len(lines):
        return False
    if 2 * _in_columns(lines) > len(lines):
        return True
    if sum(len(line.split()) - 1 for line in lines) >= 6 * len(lines):
        return False
    ends = sum(line.endswith((".", "?", "!", ":", ",", ";")) for line in lines)
    return ends < 0.1 * len(lines) or 2 * sum(usual(text, np.stack((cut.start, cut.end), 1))) > len(lines)


def _in_columns(lines: list[str]) -> int:
    """Lines with numbers that are otherwise words and signs in the same places, as those of a listing are."""
    shapes = Counter(" ".join(_LETTERS.sub("w", _DIGITS.sub("#", line)).split()) for line in lines)
    return sum(count for shape, count in shapes.items() if count > 3 and "#" in shape)
