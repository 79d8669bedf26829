"""Markdown as blocks that stay or go together: paragraphs and items under their headings, fences, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from tokenry.compress.units.cut import ROOT
from tokenry.compress.units.lines import lines

FENCE = re.compile(r"[ \t]*(?P<mark>```+|~~~+)(?P<after>[^\n]*)")
HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|\r?\n|$)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*\r?$")
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\r?$")
_ITEM = re.compile(r"([ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+\S")

Form = Literal["heading", "fence", "table", "item", "text"]


@dataclass(slots=True)
class Block:
    """Characters that stay or go together.

    Args:
        form: what it is.
        start: its first character, and `end` the one behind the blank lines that follow it.
        inside: of a fence what it holds, of a table its rows; the end, twice, of others.
        depth: of a heading its level, of others their indentation.
        parent: index of the block that it stands under.
    """

    form: Form
    start: int
    end: int
    inside: tuple[int, int]
    depth: int
    parent: int = ROOT


def outline(text: str) -> list[Block]:
    """The blocks of a text, which they cover, each behind the one that it stands under."""
    found = list(_blocks(text))
    above: list[int] = []  # headings that are open, then items
    for i, block in enumerate(found):
        while above and not _holds(found[above[-1]], block):
            above.pop()
        block.parent = above[-1] if above else ROOT
        if block.form in ("heading", "item"):
            above.append(i)
    return found


def _holds(upper: Block, block: Block) -> bool:
    if upper.form == "heading":
        return block.form != "heading" or block.depth > upper.depth
    return block.form != "heading" and block.depth > upper.depth


def _blocks(text: str) -> Iterator[Block]:
    every = lines(text)
    at = [0, *accumulate(map(len, every))]
    first = next((i for i, line in enumerate(every) if not line.isspace()), len(every))
    i, begin = first, 0
    while i < len(every):
        form, stop, inside = _block(every, i)
        end = stop
        while end < len(every) and every[end].isspace():
            end += 1
        low, high = (at[inside[0]], at[inside[1]]) if inside else (at[end], at[end])
        yield Block(form, begin, at[end], (low, high), _depth(form, every[i]))
        i, begin = end, at[end]


def _block(every: list[str], i: int) -> tuple[Form, int, tuple[int, int] | None]:
    """What begins on a line, the line behind it, and the lines inside it."""
    line = every[i]
    fence = FENCE.match(line)
    if fence:
        stop = i + 1
        while stop < len(every) and not _closes(every[stop], fence["mark"]):
            stop += 1
        return "fence", min(stop + 1, len(every)), (i + 1, stop)
    if HEADING.match(line):
        return "heading", i + 1, None
    if i == 0 and line.strip() == "---":
        stop = next((n for n in range(1, len(every)) if every[n].strip() == "---"), 0)
        return "text", stop + 1, None
    if "|" in line and i + 1 < len(every) and _RULE.match(every[i + 1]) and "|" in every[i + 1]:
        stop = i + 2
        while stop < len(every) and "|" in every[stop]:
            stop += 1
        return "table", stop, (i + 2, stop)
    item = _ITEM.match(line) is not None
    stop = i + 1
    while stop < len(every) and not every[stop].isspace():
        if not item and _UNDERLINE.match(every[stop]):
            return "heading", stop + 1, None
        if _ITEM.match(every[stop]) or HEADING.match(every[stop]) or FENCE.match(every[stop]):
            break
        stop += 1
    return "item" if item else "text", stop, None


def _closes(line: str, mark: str) -> bool:
    fence = FENCE.match(line)
    return fence is not None and fence["mark"].startswith(mark) and not fence["after"].strip()


def _depth(form: Form, line: str) -> int:
    if form == "heading":
        sign = HEADING.match(line)
        return len(sign[1]) if sign else 1
    return len(line) - len(line.lstrip(" \t"))
