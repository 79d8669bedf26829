"""Whatever a text is: it is cut by the kind that knows its format."""

from __future__ import annotations

from dataclasses import dataclass

from tokenry.compress.parts.code import Code
from tokenry.compress.parts.diff import Diff
from tokenry.compress.parts.folded import Folded
from tokenry.compress.parts.json import Json
from tokenry.compress.parts.kind import Kind, Lines, Sentence
from tokenry.compress.parts.log import Log
from tokenry.compress.parts.sections import Sections
from tokenry.compress.parts.table import Table
from tokenry.compress.units.cut import Cut, Gap
from tokenry.core import fields
from tokenry.core.card import Card

_SHORT_LINES = 120


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
    return Lines() if _of_lines(text) else rest or Sentence()


def _of_lines(text: str) -> bool:
    """Whether lines are what it is made of: many, short, and hardly one ends a sentence."""
    lines = [line.rstrip() for line in text[:100_000].split("\n") if line.strip()]
    if len(lines) < 5:
        return False
    short = sum(len(line) <= _SHORT_LINES for line in lines)
    ends = sum(line.endswith((".", "?", "!", ":", ",", ";")) for line in lines)
    spaced = sum(line.count(" ") for line in lines) / len(lines)
    return short > 0.9 * len(lines) and ends < 0.1 * len(lines) and spaced < 6
