"""Diffs: hunks stay or go as a whole under the names of their files, and what is left applies."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from tokenry.compress.parts.kind import Kind, Lines, own_line
from tokenry.compress.units.cut import ROOT, Cut, Gap
from tokenry.compress.units.lines import lines
from tokenry.core.card import Card

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_FILE = re.compile(r"diff -\S+ |--- [^\n]*\n\+\+\+ [^\n]*\n@@ -")
_COMMIT = re.compile(r"commit [0-9a-f]{7,}|From [0-9a-f]{40} ")
_ANY = re.compile(rf"^(?:{_FILE.pattern})", re.MULTILINE)
_LOOKED_AT = 100_000


@dataclass(frozen=True, kw_only=True)
class Diff(Kind):
    """Hunks of unified diffs under their files, and files under the message of their commit.

    A file stays only with a hunk, or where it has none, as when it was renamed. Patch tools suffer no line between the
    name of a file and its hunks, nor between these. So only behind the last of them a mark stands in place; others
    stand above the file and say so: `[hunks 2–3 of the next file left out]`.
    """

    part = Card(
        title="Unified format of GNU diffutils",
        year=2002,
        url="https://www.gnu.org/software/diffutils/manual/html_node/Unified-Format.html",
        summary="hunks of unified diffs under their files; what is left applies",
    )
    counts = "hunks"

    def is_one(self, text: str) -> bool:
        if not _ANY.search(text[:_LOOKED_AT]):
            return False
        found = _read(text)
        return found is not None and 2 * found.changes >= len(text)

    def valid(self, text: str) -> bool:
        """Whether hunks have the lines that they say, below a file; messages alone do."""
        return _read(text) is not None

    def cut(self, text: str) -> Cut:
        found = _read(text)
        if found is None or not found.changes:
            return Lines().cut(text)
        return Cut.of(self, text, found.bounds, parent=found.parent, number=found.number, hollow=found.hollow)

    def mark(self, text: str, gap: Gap) -> str:
        if _HUNK.match(text, gap.start):
            said = self.wording(gap, more="" if gap.last else " of the next file")
            return own_line(text, gap, f"[{said}]") if gap.last else f"[{said}]\n"
        return own_line(text, gap, f"[{self.wording(gap, 'files' if _FILE.match(text, gap.start) else 'messages')}]")

    def place(self, text: str, gap: Gap) -> int:
        return gap.above if _HUNK.match(text, gap.start) and not gap.last else gap.start


@dataclass(slots=True)
class _Units:
    """Units of a diff as they are found, and how many characters are files and hunks."""

    bounds: list[tuple[int, int]] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    number: list[tuple[int, int]] = field(default_factory=list)
    hollow: list[bool] = field(default_factory=list)
    changes: int = 0

    def add(self, start: int, parent: int, number: int) -> int:
        """Begin a unit where the one before ends."""
        if self.bounds:
            self.bounds[-1] = self.bounds[-1][0], start
        self.bounds.append((start, start))
        self.parent.append(parent)
        self.number.append((number, number))
        self.hollow.append(False)
        return len(self.bounds) - 1


@lru_cache(maxsize=8)
def _read(text: str) -> _Units | None:
    """The messages, files and hunks of a text; None where a hunk has other lines than it says, or no file."""
    found, every = _Units(), lines(text)
    message, file = ROOT, ROOT
    roots = files = hunks = i = at = 0
    while i < len(every):
        start, line = at, every[i]
        hunk = _HUNK.match(line)
        if hunk:
            size = _hunk_lines(every, i, int(hunk[1] or 1), int(hunk[2] or 1))
            if file == ROOT or not size:
                return None
            hunks += 1
            found.hollow[file] = True
            found.add(start, file, hunks)
        elif _FILE.match(text, at):
            files, roots = files + 1, roots + (message == ROOT)
            file, hunks = found.add(start, message, files if message != ROOT else roots), 0
            size = _header_lines(every, i)
        else:
            roots, files, file = roots + 1, 0, ROOT
            message, size = found.add(start, ROOT, roots), 1
            while i + size < len(every) and not _begins_file(every, i + size):
                size += 1
        at += sum(map(len, every[i : i + size]))
        found.changes += (at - start) * (file != ROOT)
        i += size
    if found.bounds:
        found.bounds[-1] = found.bounds[-1][0], len(text)
    return found


def _hunk_lines(every: list[str], i: int, old: int, new: int) -> int:
    """How many lines a hunk takes; 0 where they are not as many as its head says."""
    n = i + 1
    while (old > 0 or new > 0) and n < len(every):
        sign = every[n][0]
        if sign not in " +-\\\r\n":
            return 0
        old -= sign in " -\r\n"
        new -= sign in " +\r\n"
        n += 1
    if n < len(every) and every[n].startswith("\\ "):
        n += 1
    return n - i if old == new == 0 else 0


def _header_lines(every: list[str], i: int) -> int:
    """How many lines name a file and what became of it."""
    n = i + 1
    if every[i].startswith("--- "):
        return 2
    while n < len(every) and not (every[n].startswith(("@@ -", "diff ")) or _COMMIT.match(every[n])):
        n += 1
        if every[n - 1].startswith("+++ "):
            break
    return n - i


def _begins_file(every: list[str], i: int) -> bool:
    return _FILE.match("".join(every[i : i + 3])) is not None
