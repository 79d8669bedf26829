"""Tables: rows of CSV, TSV and Markdown stay or go as a whole, and the header stays."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from tokenry.compress.parts.kind import Kind
from tokenry.compress.units.cut import Cut, Gap
from tokenry.compress.units.shown import uncoloured
from tokenry.core.card import Card

_ROW = re.compile(r'(?:"(?:[^"]|"")*+"|[^"\n])*+(?:\n|\Z)')
_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_ITEM = re.compile(r"\s*(?:[-*+•]|\(?\d{1,3}[.)]|\(?[a-z]\))\s")
_ENDS = re.compile(r"[.!?][\"')\]]*$")
_SEPARATORS = ",\t;|"
_LOOKED_AT = 50
"""Rows by which a separator is found."""


@dataclass(frozen=True, kw_only=True)
class Table(Kind):
    """Rows below a header, which always stays; a line break within quotation marks ends no row.

    A mark is a row of as many fields, the first of which says what is missing.
    """

    part = Card(
        title="Common Format and MIME Type for Comma-Separated Values (CSV) Files",
        year=2005,
        url="https://www.rfc-editor.org/rfc/rfc4180",
        summary="rows of CSV, TSV and Markdown tables below their header",
    )
    counts = "rows"
    flows = False

    def is_one(self, text: str) -> bool:
        shape = _shape(text)
        return shape is not None and len(shape.rows) > 2 and not (shape.separator == "," and _of_sentences(text))

    def valid(self, text: str) -> bool:
        """Whether all rows have as many fields as the header."""
        return _shape(text) is not None

    def cut(self, text: str) -> Cut:
        shape = _shape(text)
        return Cut.of(self, text, [] if shape is None else shape.rows)

    def mark(self, text: str, gap: Gap) -> str:
        shape = _shape(text) or _Shape(",", 1, ())
        said = super().mark(text, gap)
        end = "\n" if text[gap.start : gap.end].endswith("\n") else ""
        if shape.separator == "markdown":
            return f"| {said} |" + " |" * (shape.fields - 1) + end
        said = f'"{said}"' if shape.separator in said else said
        return said + shape.separator * (shape.fields - 1) + end


@dataclass(frozen=True, slots=True)
class _Shape:
    """What sets fields apart, how many there are in a row, and the rows below the header."""

    separator: str
    fields: int
    rows: tuple[tuple[int, int], ...]


@lru_cache(maxsize=16)
def _shape(text: str) -> _Shape | None:
    """How a text is a table; None where it is none, or where rows differ in their number of fields."""
    lines = text.split("\n", 2)
    if len(lines) > 2 and "|" in lines[0] and _RULE.fullmatch(lines[1]):
        return _regular(text, "markdown", header=2)
    begin = [m[0] for m in _rows(text, _LOOKED_AT)]
    counts = {s: Counter(_fields(row, s) for row in begin if row.strip()) for s in _SEPARATORS}
    likely = max(_SEPARATORS, key=lambda s: (len(counts[s]) == 1) * next(iter(counts[s]), 0))
    if next(iter(counts[likely]), 1) < 2:
        return None
    return _regular(text, likely, header=1)


def _regular(text: str, separator: str, header: int) -> _Shape | None:
    rows = [m for m in _rows(text) if m[0].strip()]
    fields = {_fields(m[0], "|" if separator == "markdown" else separator) for m in rows}
    if len(fields) != 1 or len(rows) <= header:
        return None
    count = fields.pop() - (2 * rows[0][0].strip().startswith("|") if separator == "markdown" else 0)
    return _Shape(separator, max(1, count), tuple(m.span() for m in rows[header:]))


def _of_sentences(text: str) -> bool:
    """Whether rows are sentences or items of a list, which may well have the same number of commas."""
    rows = [m[0].strip() for m in _rows(text, _LOOKED_AT) if m[0].strip()]
    if 2 * sum(row.count(", ") for row in rows) <= sum(row.count(",") for row in rows):
        return False
    return _ITEM.match(rows[0]) is not None or 2 * sum(_ENDS.search(row) is not None for row in rows) > len(rows)


def _rows(text: str, most: int | None = None) -> list[re.Match[str]]:
    found: list[re.Match[str]] = []
    for match in _ROW.finditer(text):
        if match.end() == match.start() or len(found) == most:
            break
        found.append(match)
    return found


def _fields(row: str, separator: str) -> int:
    row = uncoloured(row)
    if '"' in row:
        row = re.sub(r'"(?:[^"]|"")*+"', "", row)
    if separator == "|":
        row = row.replace("\\|", "").strip()
    return row.count(separator) + 1
