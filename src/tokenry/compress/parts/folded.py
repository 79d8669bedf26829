"""Folded texts: lines and rows stay or go as before they were folded, with what tells how to read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from tokenry.compress.folding import lines as folded_lines
from tokenry.compress.folding import records
from tokenry.compress.folding.folded import is_folded
from tokenry.compress.parts.code import Code
from tokenry.compress.parts.json import Json
from tokenry.compress.parts.kind import Kind, Lines, own_line
from tokenry.compress.parts.log import Log
from tokenry.compress.units.cut import ROOT, Cut, Gap
from tokenry.compress.units.lines import lines
from tokenry.core.card import Card

_SHORT = 2000
"""Characters of JSON around tables that always stay."""


@dataclass(frozen=True, kw_only=True)
class Folded(Kind):
    """Lines of the text that was folded, cut as that text is, and rows of tables under their heads.

    The line that tells how to read a folded text always stays. A template or a passage stays where a line that cannot
    be read without it does, and lines of code stay below their definition. Marks count lines of the text as it was:
    `[lines 41–118 left out]`.
    """

    part = Card(
        title="Folded texts (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Code_folding",
        summary="lines and rows of what `fold` wrote, with what tells how to read them",
    )
    counts = "lines"

    def is_one(self, text: str) -> bool:
        return is_folded(text)

    def cut(self, text: str) -> Cut:
        if records.is_folded(text):
            return _tables(self, text)
        try:
            return _lines(self, text)
        except (ValueError, KeyError):
            return Lines().cut(text)

    def mark(self, text: str, gap: Gap) -> str:
        if gap.numbers == (0, 0):  # templates that nothing needs
            return ""
        counts = ("rows" if gap.above >= 0 else "tables") if records.is_folded(text) else ""
        return own_line(text, gap, f"[{self.wording(gap, counts)}]")


@dataclass(slots=True)
class _Units:
    """Units as they are found: characters, lines of the source, what they need and what they are called."""

    bounds: list[tuple[int, int]] = field(default_factory=list)
    number: list[tuple[int, int]] = field(default_factory=list)
    needs: list[set[str]] = field(default_factory=list)
    called: dict[str, int] = field(default_factory=dict)

    def add(self, line: folded_lines.Line, begins: bool, at: int) -> None:
        """Enter a line, as a unit of its own or with the one before; `at` lines of the source stand before it."""
        last = at + len(line.says)
        if begins:
            self.bounds.append((line.start, line.end))
            self.number.append((at + 1, last))
            self.needs.append(set())
        else:
            self.bounds[-1] = self.bounds[-1][0], line.end
            self.number[-1] = self.number[-1][0], last
        self.needs[-1] |= {line.needs} - {""}
        if line.name[:1] != ")" and line.name:
            self.called[line.name] = len(self.bounds) - 1


def _lines(kind: Kind, text: str) -> Cut:
    every = list(folded_lines.read(text))
    heads = [line for line in every if line.name.endswith(":")]
    body = every[len(heads) :]
    source = "\n".join(said for line in body for said in line.says)
    whole = next((kind for kind in (Log(), Code()) if kind.is_one(source)), Lines()).cut(source)
    starts = set((whole.number[:, 0] - 1).tolist())
    units = _Units()
    for line in heads:
        units.add(line, True, -1)
    at, inside = 0, False
    for i, line in enumerate(body):
        units.add(line, i == 0 or (not inside and at in starts), at)
        at, inside = at + len(line.says), bool(line.inside)
    number = np.array(units.number, dtype=np.int64).reshape(-1, 2)
    number[: len(heads)] = 0
    ends = np.cumsum([0, *map(len, lines(source))], dtype=np.int64)
    first, last = (ends[np.minimum(n, len(ends) - 1)] for n in (np.maximum(number[:, 0] - 1, 0), number[:, 1]))
    of = np.searchsorted(number[len(heads) :, 0], whole.number[:, 0], side="right") - 1 + len(heads)
    count = len(units.bounds)
    again = np.bincount(of, ~whole.again, minlength=count) == 0
    again[: len(heads)] = False
    middle = units.bounds[len(heads)][0] if body else len(text)
    says = {u: source[first[u] : last[u]] for u in range(len(heads), count)}
    parent = _parents(whole, of, count)
    for u in reversed(range(count)):
        if parent[u] >= 0:
            number[parent[u], 1] = max(number[parent[u], 1], number[u, 1])
    return replace(
        Cut.of(
            kind, text, units.bounds, parent=parent.tolist(), number=number, again=again,
            hollow=np.arange(count) < len(heads),
            strong=np.bincount(of, whole.strong, minlength=count) > 0,
            alarms=np.bincount(of, whole.alarms, minlength=count) > 0,
        ),
        kinds=(kind, kind),
        kind=(np.arange(count) >= len(heads)).astype(np.int64),
        parts=((0, middle), (middle, len(text))),
        needs={u: tuple({units.called[name] for name in needs} - {u}) for u, needs in enumerate(units.needs) if needs},
        says=says,
        titles={int(of[u]): name for u, name in reversed(list(whole.titles.items()))},
    )  # fmt: skip


def _parents(whole: Cut, of: Int[np.ndarray, "W"], count: int) -> Int[np.ndarray, "U"]:
    """What folded units stand under, as the first unit of the source does that each of them holds."""
    found = np.full(count, ROOT)
    held, first = np.unique(of, return_index=True)
    above = whole.parent[first]
    found[held[above >= 0]] = of[above[above >= 0]]
    return found


def _tables(kind: Kind, text: str) -> Cut:
    begin = text.index("\n") + 1
    around = text.find("\n", begin) + 1 or len(text)
    bounds: list[tuple[int, int]] = []
    parent: list[int] = []
    number: list[int] = []
    heads = 0
    for start, end, row in _rows(text, around):
        above = parent[-1] if parent and parent[-1] >= 0 else len(bounds) - 1
        bounds.append((start, end))
        parent.append(above if row else ROOT)
        heads += not row
        number.append(row or heads)
    counted = np.repeat(np.array(number, dtype=np.int64)[:, None], 2, 1)
    tables = Cut.of(kind, text, bounds, parent=parent, number=counted, hollow=np.array(parent, dtype=np.int64) < 0)
    if around - begin <= _SHORT:
        return tables
    skeleton = Json().cut(text[begin:around])
    return Cut.joined([(begin, skeleton), (0, tables)])


def _rows(text: str, at: int) -> Iterator[tuple[int, int, int]]:
    """Characters of every head and row of tables, and the number of the row, 0 of a head."""
    sign, row = records.sign_of(text), 0
    for line in lines(text[at:]):
        row = 0 if line[:1] == sign else row + 1
        yield at, at + len(line), row
        at += len(line)
