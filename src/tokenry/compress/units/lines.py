"""Lines that stand for themselves: list items, headings, table rows and code."""

from __future__ import annotations

import re

_FENCE = re.compile(r"\s*(?:```|~~~)")
_ITEM = re.compile(r"\s*(?:[-*+•‣◦]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+\S")
_OWN = re.compile(r"\s*(?:#{1,6}\s+\S|\|.*\|\s*$|[-=*_]{3,}\s*$)")
_CODE = re.compile(
    r"""\s*(?:
        (?:async\s+)?(?:def|class|fn|func|function|struct|interface|enum)\s+\w+\s*[(:{<].*
      | (?:if|elif|for|while|with|except|switch|catch)\b.*[()=<>\[\]_."'].*[:{]$
      | for\s+\w+(?:,\s*\w+)*\s+in\s.*:$
      | (?:else|try|finally)\s*[:{]$
      | (?:from\s+[\w.]+\s+)?import\s+[\w.*{}, ]+;?$
      | return\b.*[()\[\]{};_=+*<>].*
      | (?:pass|break|continue|return)\s*;?$
      | (?:(?:const|let|var|static|final|public|private|unsigned|int|float|double|char|bool|auto|String)\s+)*
        [\w.\[\]'"]+\s*(?:[-+*/|&^%:]?=)(?!=)\s*\S.*
      | [\w.:]+\([^()]*(?:\([^()]*\)[^()]*)*\)\s*[;{:,]?$
      | .*(?:[{(\[]|[)\]}"']\s*;|[\]}]\)?[;,]?)$
      | "[^"]*"\s*:\s.*
      | (?://|/\*|\#!|\#include|\#define|>>>\s|@\w+$|</?\w[^>]*>)
    )""",
    re.VERBOSE,
)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_LONGEST = 240
"""A line of more characters is prose, or data that no line rule understands."""


def lines(text: str) -> list[str]:
    """Lines with their ends, as editors, search and patch tools count them: a line feed alone ends one."""
    return _LINE.findall(text)


def code_spans(text: str) -> list[tuple[int, int]]:
    """Characters of fenced blocks and of lines that look like code, ascending and apart."""
    return [(start, stop) for start, stop, code in _lines(text) if code]


def line_ends(text: str) -> set[int]:
    """Positions of line breaks at which a unit of text ends although no blank line follows.

    A list item may go on in the next line; a heading, a table row and a line of code may not.
    """
    found: set[int] = set()
    for start, stop, code in _lines(text):
        line = text[start:stop]
        alone = code or _OWN.match(line)
        if alone or _ITEM.match(line):
            found.add(start - 1)
        if alone:
            found.add(stop)
    return found


def _lines(text: str) -> list[tuple[int, int, bool]]:
    """Start, end and whether it is code, for every line; its line break is not part of it.

    An indented line after a line of code is code as well.
    """
    found, start, fenced, code = [], 0, False, False
    for line in text.split("\n"):
        mark = bool(_FENCE.match(line))
        goes_on = code and line[:1] in (" ", "\t") and bool(line.strip())
        code = fenced or mark or goes_on or (len(line) <= _LONGEST and bool(_CODE.match(line.rstrip())))
        fenced ^= mark
        found.append((start, start + len(line), code))
        start += len(line) + 1
    return found
