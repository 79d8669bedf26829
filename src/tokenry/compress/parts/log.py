"""Logs: lines with what belongs to them; a trace stays whole, and lines that repeat others go first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenry.compress.parts.kind import Kind, own_line
from tokenry.compress.units.alarms import STAMP, alarming, surrounded
from tokenry.compress.units.cut import Cut, Gap
from tokenry.compress.units.lines import lines
from tokenry.compress.units.shown import uncoloured
from tokenry.core.card import Card
from tokenry.core.fields import positive

_HEAD = re.compile(
    r"""\s*[\[(<]?(?:\d{4}[-/]\d\d[-/]\d\d|\d\d:\d\d:\d\d|[A-Z][a-z]{2}\s+\d{1,2}\s\d\d:\d\d|\d{1,2}/[A-Z][a-z]{2}/\d{4})
    | \S*\s*[\[(]?(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|FATAL|CRITICAL)\b
    | (?:time|ts|level)=\S+
    | \S+::\S.*\s(?:PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b
    | test\w*\s\S.*\s\.\.\.\s(?:ok|FAIL|FAILED|ERROR|ignored)\b
    | ===\s(?:RUN|PAUSE|CONT)\b | \s*---\s(?:PASS|FAIL|SKIP):\s
    | \S+:\d+(?::\d+)?:\s(?:warning|error|note|fatal\serror):
    | (?:Collecting|Requirement\salready\ssatisfied:|Compiling|Unpacking|Setting\sup)\s\S | \[\s*\d+(?:%|/\d+)\]\s""",
    re.VERBOSE,
)
"""How lines begin: of logs, with a time or a level; of what runs tests, compiles and installs, with its words."""
_GOES_ON = re.compile(
    r"[>E][ \t]{3,}|[ \t]*at\s|Caused by:|\.\.\. \d+ more|During handling of|The above exception|\s*$"
)
_TRACE = re.compile(r"Traceback \(most recent call last\)|^goroutine \d+|^panic:", re.MULTILINE)
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{7,}(?:-[0-9a-f]{4,})*\b|\d+")
_LOOKED_AT, _WIDTH = 200, 400
"""Lines by which a log is told, and the characters of each."""


@dataclass(frozen=True, kw_only=True)
class Log(Kind):
    """Lines of a log; lines that are indented more than most, and those of a trace, belong to the line they follow.

    A line that differs from an earlier one in nothing but numbers, times and ids says it again, and is kept last. The
    first line of each kind that reports an error is kept before anything else, with what explains it behind. A mark
    that stands for repeats of one line says so: `[lines 42–118 left out, like line 41]`.
    """

    part = Card(
        title="Drain: An Online Log Parsing Approach with Fixed Depth Tree",
        year=2017,
        url="https://doi.org/10.1109/ICWS.2017.13",
        summary="lines of a log with their traces; repeats go first and errors stay",
    )
    counts = "lines"

    longest: int = positive(200, doc="lines that belong together at most")

    def is_one(self, text: str) -> bool:
        lines = [line for line in text[:100_000].split("\n")[:_LOOKED_AT] if line.strip()]
        return len(lines) > 4 and 2 * sum(heads(line) for line in lines) >= len(lines)

    def cut(self, text: str) -> Cut:
        bounds: list[tuple[int, int]] = []
        number: list[tuple[int, int]] = []
        trace = False
        at = 0
        every = lines(text)
        usual = _usual_depth(every)
        for i, whole in enumerate(every, 1):
            line = _without_time(uncoloured(whole))
            begin, last = number[-1] if number else (i, i)
            goes_on = _GOES_ON.match(line) is not None or _depth(line) > (0 if trace else usual)
            ends = trace and not goes_on and not heads(line)
            if bounds and last - begin < self.longest - 1 and (ends or goes_on):
                bounds[-1], number[-1] = (bounds[-1][0], at + len(whole)), (begin, i)
                trace = trace and not ends
            else:
                bounds.append((at, at + len(whole)))
                number.append((i, i))
            trace = trace or _TRACE.search(line) is not None
            at += len(whole)
        shapes = [shape_of(text[a:b]) for a, b in bounds]
        first = dict(zip(reversed(shapes), range(len(shapes) - 1, -1, -1), strict=True))
        again = np.array([first[shape] < i for i, shape in enumerate(shapes)], dtype=bool)
        alarms = alarming(text, bounds) & ~again
        strong = surrounded(text, bounds, alarms)
        return Cut.of(self, text, bounds, number=number, strong=strong, alarms=alarms, again=again)

    def mark(self, text: str, gap: Gap) -> str:
        said = self.wording(gap)
        before = shape_of(text[text.rfind("\n", 0, max(0, gap.start - 1)) + 1 : gap.start])
        if before and all(shape_of(line) == before for line in lines(text[gap.start : gap.end])):
            said += f", like line {gap.numbers[0] - 1}"
        return own_line(text, gap, f"[{said}]")


def heads(line: str) -> bool:
    """Whether a line begins as those of logs do."""
    return _HEAD.match(uncoloured(line), 0, _WIDTH) is not None


def _without_time(line: str) -> str:
    """Where every line has the time, what follows it tells what belongs together."""
    stamp = STAMP.match(line)
    return line if stamp is None else line[stamp.end() :]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _usual_depth(every: Sequence[str]) -> int:
    """How far the lines of a log are indented that belong to no other."""
    depths = sorted(_depth(_without_time(uncoloured(line))) for line in every[:_LOOKED_AT] if line.strip())
    return depths[len(depths) // 2] if depths else 0


def shape_of(line: str) -> str:
    """A line without what differs between its repeats."""
    return _VARIES.sub("#", uncoloured(line).strip())
