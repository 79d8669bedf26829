"""Templates of lines: what lines have in common, and the values in which they differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

VARIES = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{7,}(?:-[0-9a-f]{4,})*\b|\d+")
_HOLE = "\0"
_LEAST = 3
"""Lines that a template stands for at least."""
_ALIKE = 0.6
"""Words that lines of one template share at least."""
_COMPARED = 30
"""Templates of as many words with which a new line is compared."""


@dataclass(slots=True)
class Template:
    """Lines that have words in common.

    Args:
        words: what they have in common, a hole for each value within a word, or None for a word that differs.
        lines: which they are.
    """

    words: list[str | None]
    lines: list[int] = field(default_factory=list)


def templates(lines: Sequence[str], which: Iterable[int], slot: str) -> list[tuple[str, list[tuple[int, list[str]]]]]:
    """Templates with a slot for each value, and the lines of each with their values; only where it is shorter."""
    shapes: dict[str, list[int]] = {}
    for i in which:
        shapes.setdefault(VARIES.sub(_HOLE, lines[i]), []).append(i)
    found = []
    for template in _alike(shapes):
        if len(template.lines) < _LEAST:
            continue
        rows = [_values(template.words, lines[i].split(" ")) for i in template.lines]
        text, rows = _told(template.words, rows, slot)
        before = sum(len(lines[i]) for i in template.lines)
        if len(text) + 6 + sum(sum(map(len, row)) + len(row) + 3 for row in rows) < before:
            found.append((text, list(zip(template.lines, rows, strict=True))))
    return found


def _alike(shapes: dict[str, list[int]]) -> list[Template]:
    """Shapes that have most words in common as one template."""
    by_count: dict[int, list[Template]] = {}
    for shape, lines in shapes.items():
        words = shape.split(" ")
        known = by_count.setdefault(len(words), [])
        for template in known[-_COMPARED:]:
            same = sum(a == b for a, b in zip(template.words, words, strict=True))
            if same >= max(2, _ALIKE * len(words)):
                template.words = [a if a == b else None for a, b in zip(template.words, words, strict=True)]
                template.lines += lines
                break
        else:
            known.append(Template(list(words), list(lines)))
    return [template for known in by_count.values() for template in known]


def _values(words: list[str | None], line: list[str]) -> list[str]:
    found: list[str] = []
    for word, own in zip(words, line, strict=True):
        if word is None:
            found.append(own)
        elif _HOLE in word:
            found += VARIES.findall(own)
    return found


def _told(words: list[str | None], rows: list[list[str]], slot: str) -> tuple[str, list[list[str]]]:
    """The template as text, with what all lines have the same in it, and the values that are left."""
    pieces = " ".join(_HOLE if word is None else word for word in words).split(_HOLE)
    columns = list(zip(*rows, strict=True))
    fixed = [min(column) == max(column) for column in columns]
    text = pieces[0]
    for piece, column, same in zip(pieces[1:], columns, fixed, strict=True):
        text += (column[0] if same else slot) + piece
    return text, [[v for v, same in zip(row, fixed, strict=True) if not same] for row in rows]
