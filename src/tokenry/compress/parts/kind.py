"""What a text is made of: how it is cut into units that may go, and how it says in place what is gone.

Sentences, words, tokens and lines stand here. A kind that reads a format has a file of its own beside this one.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokenry.compress.units.alarms import alarming, surrounded
from tokenry.compress.units.cut import Cut, Gap
from tokenry.compress.units.lines import lines
from tokenry.compress.units.sentences import sentence_bounds, words
from tokenry.core.card import Card
from tokenry.core.fields import positive
from tokenry.core.method import Part

UNCHANGED = "the source is unchanged"
_DEPTH = re.compile(r"^([ \t]*)\S", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Kind(Part):
    """How a text is cut into units that stay or go as a whole.

    What stays, stays byte for byte. What goes leaves a mark in its place, in the kind's own syntax, which counts what
    is missing in the source's own unit.
    """

    room: ClassVar[str] = "compress"
    counts: ClassVar[str] = "units"
    """What a mark counts, as in "lines 41–118"."""
    flows: ClassVar[bool] = True
    """Whether what stands beside a unit tells something about it, unlike records and rows in any order."""

    @abstractmethod
    def cut(self, text: str) -> Cut:
        """The units of a text; what none of them holds always stays."""

    def is_one(self, text: str) -> bool:
        """Whether a text is of this kind; what it can be told from is up to the kind."""
        return False

    def shown(self, texts: list[str]) -> list[str]:
        """What units tell a reader, such as the signs that a format escapes; by this they are scored."""
        return texts

    def valid(self, text: str) -> bool:
        """Whether a text parses. Where a text did and what is left of it does not, nothing is left out."""
        return True

    def mark(self, text: str, gap: Gap) -> str:
        """What stands in place of a gap, with the white space that sets it apart; `text` is the part that was cut."""
        return f"[{self.wording(gap)}]"

    def place(self, text: str, gap: Gap) -> int:
        """Where the mark of a gap stands: in its place, or before it where a format suffers nothing there."""
        return gap.start

    def wording(self, gap: Gap, counts: str = "", more: str = "") -> str:
        """The words of a mark; the first of a text says more."""
        ranged = self.ranged(gap, counts) + more
        if gap.key is not None:
            return f"{ranged} left out, id {gap.key}"
        return f"{ranged} left out; {UNCHANGED}" if gap.opens else f"… {ranged}"

    def ranged(self, gap: Gap, counts: str = "") -> str:
        """What is missing, counted: `lines 41–118`."""
        counts, (a, b) = counts or self.counts, gap.numbers
        return f"{counts.removesuffix('s')} {a}" if a == b else f"{counts} {a}–{b}"


@dataclass(frozen=True, kw_only=True)
class Sentence(Kind):
    """Sentences, list items, headings and lines of code; white space belongs to the one before."""

    part = Card(
        title="Sentences (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Sentence_boundary_disambiguation",
        summary="sentences, list items, headings and lines of code",
    )
    counts = "sentences"

    longest: int = positive(2000, doc="characters beyond which a sentence is cut at a line, a clause or a word")

    def cut(self, text: str) -> Cut:
        return Cut.of(self, text, sentence_bounds(text, self.longest))

    def mark(self, text: str, gap: Gap) -> str:
        return _between(text, gap, super().mark(text, gap))


@dataclass(frozen=True, kw_only=True)
class Lines(Kind):
    """Lines as they are; a run of blank lines belongs to the line before."""

    part = Card(
        title="Lines (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Newline",
        summary="lines as they are",
    )
    counts = "lines"

    def cut(self, text: str) -> Cut:
        every = lines(text)
        ends = np.cumsum([len(line) for line in every], dtype=np.int64)
        begins = np.flatnonzero([not line.isspace() for line in every])
        if not len(begins):
            return Cut.of(self, text, [])
        begins[0] = 0
        last = np.append(begins[1:], len(every))
        starts = np.where(begins > 0, ends[begins - 1], 0)
        bounds = np.stack((starts, ends[last - 1]), 1)
        number = np.stack((begins + 1, last), 1)
        alarms = alarming(text, bounds)
        return Cut.of(self, text, bounds, number=number, strong=surrounded(text, bounds, alarms), alarms=alarms)

    def mark(self, text: str, gap: Gap) -> str:
        return own_line(text, gap, super().mark(text, gap))


@dataclass(frozen=True, kw_only=True)
class Word(Kind):
    """Words with their punctuation and the white space behind them; one mark serves for all that are missing."""

    part = Card(
        title="Words (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Word",
        summary="words with their punctuation",
    )
    counts = "words"

    def cut(self, text: str) -> Cut:
        starts = np.array([a for a, _ in words(text)], dtype=np.int64)
        starts[:1] = 0
        return Cut.of(self, text, np.stack((starts, np.append(starts[1:], len(text))[: len(starts)]), 1))

    def mark(self, text: str, gap: Gap) -> str:
        if gap.opens:
            said = f"[words left out{'' if gap.key is None else f', id {gap.key}'}; {UNCHANGED}] "
            return said if gap.start == 0 else " " + said
        return ""


@dataclass(frozen=True, kw_only=True)
class Token(Word):
    """Tokens of the vocabulary that the budget counts; a text by itself has words."""

    part = Card(
        title="Tokens (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Lexical_analysis",
        summary="tokens of the vocabulary that the budget counts",
    )


def own_line(text: str, gap: Gap, said: str) -> str:
    """A mark on a line of its own, at the depth of what it stands for and with its end of line."""
    gone = text[gap.start : gap.end]
    end = "\r\n" if gone.endswith("\r\n") else "\n"
    lead = "" if gap.start == 0 or text[gap.start - 1] == "\n" else end
    depth = _DEPTH.search(gone)
    indent = depth[1] if depth else ""
    return f"{lead}{indent}{said}" + (end if gap.end < len(text) or text.endswith("\n") else "")


def _between(text: str, gap: Gap, said: str) -> str:
    """A mark within prose: after a space, or in a paragraph of its own where a paragraph went."""
    gone = text[gap.start : gap.end]
    space = gone[len(gone.rstrip()) :]
    lead = "" if gap.start == 0 or text[gap.start - 1].isspace() else " "
    return lead + said + (space if gap.end < len(text) else space[:0])
