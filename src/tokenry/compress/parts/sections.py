"""Documents with headings, in Markdown and HTML: paragraphs stay or go as a whole under the headings over them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from tokenry.compress.parts.kind import Kind, Lines, Sentence, own_line
from tokenry.compress.parts.table import Table
from tokenry.compress.units import markup
from tokenry.compress.units.cut import ROOT, Cut, Gap
from tokenry.compress.units.lines import lines
from tokenry.compress.units.outline import FENCE, HEADING, Block, outline
from tokenry.compress.units.shown import unescaped_html
from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.fields import choice, positive

_BEGIN = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!doctype\s+html|<html\b)", re.IGNORECASE | re.DOTALL)
_CLOSED = re.compile(r"</(?:p|div|li|h[1-6]|td|tr|ul|ol|table|section|article|body|head|span|a|b)\s*>", re.IGNORECASE)
_UNDERLINED = re.compile(r"^\S[^\n]*\n(?:={3,}|-{3,})[ \t]*\r?$", re.MULTILINE)
_LOOKED_AT = 100_000


@dataclass(frozen=True, kw_only=True)
class Sections(Kind):
    """Paragraphs, list items, fenced blocks and tables under their headings; in HTML, blocks under headings and around.

    What is kept stands under all headings over it, and an item under the items around it. A long paragraph is cut into
    sentences under its first. A long fenced block is cut by `inside`, a table by its rows. A mark stands on a line of
    its own: `[lines 41–118 left out]`, in HTML `<!-- lines 41–118 left out -->`.
    """

    part = Card(
        title="CommonMark Spec",
        year=2014,
        url="https://spec.commonmark.org",
        summary="paragraphs, items, fenced blocks and tables under the headings of Markdown and HTML",
    )
    counts = "lines"

    format: str = choice("auto", "markdown", "html", default="auto", doc="of the document")
    inside: Kind = fields.part(Lines(), doc="how fenced blocks are cut")
    whole: int = positive(12, doc="lines up to which a fenced block stays or goes as a whole")
    longest: int = positive(500, doc="characters beyond which a paragraph is cut into sentences")

    def is_one(self, text: str) -> bool:
        found = (_is_html(text) and "html") or (_is_markdown(text) and "markdown")
        return bool(found) and self.format in ("auto", found)

    def shown(self, texts: list[str]) -> list[str]:
        return unescaped_html(texts)

    def valid(self, text: str) -> bool:
        """Whether tags of HTML match; Markdown is always well formed."""
        return self.format != "html" or markup.read(text)[1] == 0

    def cut(self, text: str) -> Cut:
        kind = replace(self, format=_format(self.format, text))
        if not text.strip():
            return Cut.of(kind, text, [])
        return _html(kind, text) if kind.format == "html" else _markdown(kind, text)

    def mark(self, text: str, gap: Gap) -> str:
        said = self.wording(gap)
        return own_line(text, gap, f"<!-- {said} -->" if _format(self.format, text) == "html" else f"[{said}]")


@dataclass(slots=True)
class _Units:
    """Units as they are found, parents first."""

    bounds: list[tuple[int, int]] = field(default_factory=list)
    tail: list[tuple[int, int]] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    hollow: list[bool] = field(default_factory=list)

    def add(self, start: int, end: int, parent: int, tail: tuple[int, int] = (0, 0), hollow: bool = False) -> int:
        self.bounds.append((start, end))
        self.tail.append(tail if tail[1] > tail[0] else (0, 0))
        self.parent.append(parent)
        self.hollow.append(hollow)
        return len(self.bounds) - 1

    def cut(self, kind: Kind, text: str) -> Cut:
        """The units with the lines that each holds with all under it."""
        found = Cut.of(kind, text, self.bounds, parent=self.parent, tail=self.tail, hollow=self.hollow)
        ends = np.cumsum(list(map(len, lines(text))), dtype=np.int64)
        first, last = (np.searchsorted(ends, at, side="right") + 1 for at in (found.start, found.reach - 1))
        return replace(found, number=np.stack((first, last), 1))


def _markdown(kind: Sections, text: str) -> Cut:
    """The blocks of Markdown, with what other kinds cut under them."""
    found, place = _Units(), list[int]()
    inner: list[tuple[int, Cut, int]] = []
    for block in outline(text):
        parent = place[block.parent] if block.parent >= 0 else ROOT
        low, cut = _inside(kind, text, block)
        if not len(cut):
            place.append(found.add(block.start, block.end, parent))
            continue
        tail = (block.inside[1], block.end)
        place.append(found.add(block.start, low, parent, tail, hollow=block.form in ("fence", "table")))
        inner.append((low, cut, place[-1]))
    return found.cut(kind, text).holding(inner)


def _inside(kind: Sections, text: str, block: Block) -> tuple[int, Cut]:
    """Where the part of a block begins that may go by itself, and its units; none of a block that stays whole."""
    low, high = block.inside
    if block.form == "fence" and text.count("\n", low, high) > kind.whole:
        return low, kind.inside.cut(text[low:high])
    if block.form == "table" and high > low:
        header = text.rfind("\n", 0, text.rfind("\n", 0, low - 1)) + 1
        return low, replace(Lines().cut(text[low:high]), kinds=(Table(),), parts=((header - low, high - low),))
    if block.form in ("text", "item") and block.end - block.start > kind.longest:
        first = int(Sentence().cut(text[block.start : block.end]).end[0])
        return block.start + first, Sentence().cut(text[block.start + first : block.end])
    return low, Cut.of(kind, "", [])


def _html(kind: Sections, text: str) -> Cut:
    """The blocks of HTML; a heading stands over what follows it in the same element."""
    found, root = _Units(), markup.read(text)[0]
    stack = [(_items(text, root, 0, len(text)), [(0, ROOT)])]
    while stack:
        items, above = stack[-1]
        if not items:
            stack.pop()
            continue
        start, end, element = items.pop()
        level = 0 if element is None else element.level
        while level and above[-1][0] >= level:
            above.pop()
        inside = [] if element is None or not element.opens else _items(text, element, element.opened, element.closed)
        if element is not None and inside:
            tail = (element.closed, end)
            stack.append((inside, [(0, found.add(start, inside[-1][0], above[-1][1], tail, hollow=True))]))
            continue
        unit = found.add(start, end, above[-1][1])
        if level:
            above.append((level, unit))
    return found.cut(kind, text)


def _items(text: str, box: markup.Element, low: int, high: int) -> list[tuple[int, int, markup.Element | None]]:
    """What stands in an element, the last first: blocks, and text between them, each up to where the next begins."""
    starts: list[tuple[int, markup.Element | None]] = []
    at = low
    for child in [*box.children, None]:
        if markup.visible(text[at : high if child is None else child.start]):
            starts.append((at, None))
        if child is not None:
            starts.append((child.start, child))
            at = child.end
    if not starts:
        return [] if box.tag else [(0, high, None)]
    if not box.tag:
        starts[0] = 0, starts[0][1]
    ends = [*(start for start, _ in starts[1:]), high]
    return [(start, end, element) for (start, element), end in zip(starts, ends, strict=True) if end > start][::-1]


def _format(said: str, text: str) -> str:
    return said if said != "auto" else "html" if _is_html(text) else "markdown"


@lru_cache(maxsize=16)
def _is_html(text: str) -> bool:
    if _BEGIN.match(text[:_LOOKED_AT]):
        return True
    return text[:_LOOKED_AT].lstrip("\ufeff \t\r\n")[:1] == "<" and len(_CLOSED.findall(text[:_LOOKED_AT])) > 2


@lru_cache(maxsize=16)
def _is_markdown(text: str) -> bool:
    """Whether headings stand apart from what is around them, unlike comments, or blocks are fenced."""
    begin = text[:_LOOKED_AT]
    if _UNDERLINED.search(begin):
        return True
    every = ["", *begin.split("\n"), ""]
    signs = [i for i in range(1, len(every) - 1) if HEADING.match(every[i])]
    apart = [i for i in signs if not every[i - 1].strip() and (not every[i + 1].strip() or HEADING.match(every[i + 1]))]
    fences = sum(FENCE.match(line) is not None for line in every)
    return fences > 1 or (2 * len(apart) >= max(1, len(signs)) and bool(apart))
