"""JSON and JSON Lines: records and members stay or go as a whole, and what is left is JSON of the same shape."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tokenry.compress.parts.kind import UNCHANGED, Kind
from tokenry.compress.parts.log import shape_of
from tokenry.compress.units.cut import ROOT, Cut, Gap
from tokenry.compress.units.lines import lines as every_line
from tokenry.compress.units.shown import unescaped
from tokenry.core.card import Card

_SIGN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{},]')
_KEY = re.compile(r'"(?:[^"\\]++|\\.)*+"\s*:')
_ALARM = re.compile(
    r'"(?:level|severity|lvl|levelname|log\.level|@l)"\s*:\s*(?:"(?:error|err|fatal|critical|crit|alert|emerg\w*|panic|severe)"'
    r"|[56]0\b)",
    re.IGNORECASE,
)
_BOM = "\ufeff"
"""What some editors write in front of a text."""
_BLANK = " \t\r\n" + _BOM
_SHOWN = 8
"""Keys that a mark names."""


@dataclass(frozen=True, kw_only=True)
class Json(Kind):
    """Elements of arrays and members of objects; a record, which is an element of an array, is never torn.

    Objects that lead to an array, such as an envelope around results, are opened; what they hold stands under them. A
    single element that makes up more than half of the text is opened as well. The first record of each kind whose level
    is that of an error is kept before anything else. A mark is an element or a member like the
    others: `{"_left_out": "items 3–97"}`, or `"_left_out 2–5": "keys a, b"`. Numbers and strings stay as they are
    written.
    """

    part = Card(
        title="The JavaScript Object Notation (JSON) Data Interchange Format",
        year=2017,
        url="https://www.rfc-editor.org/rfc/rfc8259",
        summary="records and members of JSON and JSON Lines",
    )
    counts = "items"
    flows = False

    def is_one(self, text: str) -> bool:
        return text.lstrip(_BLANK)[:1] in ("{", "[") and self.valid(text)

    def shown(self, texts: list[str]) -> list[str]:
        return unescaped(texts)

    def valid(self, text: str) -> bool:
        return _parses(text) or _are_lines(text)

    def cut(self, text: str) -> Cut:
        if not self.valid(text):
            return Cut.of(self, text, [])
        root = _read(text, lines=not _parses(text))
        units = _Units(len(text))
        units.open(root, ROOT)
        alarms = _alarming(text, units)
        return Cut.of(
            self, text, units.bounds, parent=units.parent, tail=units.tail, number=units.number, strong=alarms,
            alarms=alarms,
        )  # fmt: skip

    def mark(self, text: str, gap: Gap) -> str:
        gone = text[gap.start : gap.end]
        bare = gone.rstrip()
        follows = ("," if bare.endswith(",") else "") + gone[len(bare) :]
        key = "" if gap.key is None else f', "id": {json.dumps(gap.key)}'
        if _KEY.match(gone):
            a, b = gap.numbers
            names = ", ".join(_keys(bare)) + (f", id {gap.key}" if gap.key else f"; {UNCHANGED}" if gap.opens else "")
            name = f"_left_out {a}" if a == b else f"_left_out {a}–{b}"
            return f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(names, ensure_ascii=False)}{follows}"
        said = self.ranged(gap) + (f"; {UNCHANGED}" if gap.opens and not gap.key else "")
        return f'{{"_left_out": {json.dumps(said, ensure_ascii=False)}{key}}}{follows}'


@dataclass(slots=True)
class _Container:
    """An array or an object: the characters of it, and of what it holds, each with the container that it is or has."""

    start: int
    opener: str
    end: int = -1
    children: list[tuple[int, int, _Container | None]] = field(default_factory=list)


class _Units:
    """Units as they are found, parents first."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.bounds: list[tuple[int, int]] = []
        self.tail: list[tuple[int, int]] = []
        self.parent: list[int] = []
        self.number: list[tuple[int, int]] = []

    def open(self, container: _Container, parent: int) -> None:
        """Enter what a container holds; an element of an array is opened only where it stands alone."""
        stack = [(container, parent, -1, 0)]
        while stack:
            box, above, upto, i = stack.pop()
            if i == len(box.children):
                continue
            stack.append((box, above, upto, i + 1))
            start, end, inner = box.children[i]
            follows = box.children[i + 1][0] if i + 1 < len(box.children) else end
            record = box.opener != "{" and 2 * (end - start) <= self.length
            opens = inner is not None and bool(inner.children) and not record
            self.number.append((i + 1, i + 1))
            self.parent.append(above)
            if opens and inner is not None:
                self.bounds.append((start, inner.children[0][0]))
                self.tail.append((inner.children[-1][1], follows))
                stack.append((inner, len(self.bounds) - 1, -1, 0))
            else:
                self.bounds.append((start, follows))
                self.tail.append((0, 0))


def _read(text: str, *, lines: bool) -> _Container:
    """The outermost container of a text that parses; of JSON Lines, one around all records."""
    outer = _Container(0, "lines", len(text))
    stack = [outer]
    begins: list[int] = []
    if lines:
        at = 0
        for line in every_line(text):
            if line.strip():
                lead = len(line) - len(line.lstrip(_BLANK))
                outer.children.append((at + lead, at + len(line.rstrip()), None))
            at += len(line)
        return outer
    for match in _SIGN.finditer(text):
        sign, at = match[0][0], match.start()
        if sign in "[{":
            stack.append(_Container(at, sign))
            begins.append(at + 1)
        elif sign in "]}":
            done = stack.pop()
            done.end = at + 1
            _enter(text, done, begins.pop(), at)
            stack[-1].children.append((done.start, done.end, done))
        elif sign == ",":
            _enter(text, stack[-1], begins[-1], at)
            begins[-1] = at + 1
    return outer.children[0][2] or outer if outer.children else outer


def _alarming(text: str, units: _Units) -> list[bool]:
    """Records that say by their level that something went wrong, the first of each kind."""
    seen: set[str] = set()
    found = []
    for (a, b), (closing, _) in zip(units.bounds, units.tail, strict=True):
        shape = shape_of(text[a:b]) if not closing and _ALARM.search(text, a, b) else ""
        found.append(bool(shape) and shape not in seen)
        seen.add(shape)
    return found


def _enter(text: str, container: _Container, low: int, high: int) -> None:
    """Enter the element or member between two signs, which may have been entered as a container without its key."""
    piece = text[low:high]
    start = low + len(piece) - len(piece.lstrip())
    end = low + len(piece.rstrip())
    inner = None
    if container.children and container.children[-1][0] >= start:
        inner = container.children.pop()[2]
    if end > start:
        container.children.append((start, end, inner))


def _keys(gone: str) -> list[str]:
    try:
        found = [str(key) for key in json.loads("{" + gone.rstrip(",") + "}", parse_int=str, parse_float=str)]
    except (ValueError, RecursionError):
        return ["keys"]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"{'keys' if len(found) > 1 else 'key'} {found[0]}", *found[1:_SHOWN], *more] if found else []


def _parses(text: str) -> bool:
    try:
        json.loads(text.removeprefix(_BOM), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _are_lines(text: str) -> bool:
    """Whether every line is a record of JSON Lines, of at least two."""
    lines = [line for line in every_line(text.removeprefix(_BOM)) if line.strip()]
    return len(lines) > 1 and all(line.lstrip()[0] in "{[" and _parses(line) for line in lines)
