"""Numbers as texts write them: which digits are a number, and which belong to a date, a version or an identifier."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SEPARATORS = (",", ".", "'", "’", "_", "\u00a0", "\u202f", "\u2009")
"""What may stand between groups of three digits; the decimal sign never does."""

SIGNS = "-+−"
_MOST_EXPONENT = 999


@dataclass(frozen=True, slots=True)
class Literal:
    """One number of a text.

    Args:
        start, end: its characters, without a sign and without an exponent.
        whole: digits before the decimal sign, without separators.
        separator: what stands between groups of three of them; empty where nothing does.
        fraction: digits after the decimal sign.
        exponent: the power of ten that follows.
        after: the character behind the exponent, or `end`.
    """

    start: int
    end: int
    whole: str
    separator: str
    fraction: str
    exponent: int
    after: int

    def written_out(self) -> Literal:
        """The same value without exponent, separators and leading zeros."""
        digits = self.whole + self.fraction
        at = len(self.whole) + self.exponent
        digits, at = ("0" * -at + digits, 0) if at < 0 else (digits.ljust(at, "0"), at)
        whole = digits[:at].lstrip("0") or "0"
        return Literal(self.start, self.after, whole, "", digits[at:], 0, self.after)


def literals(text: str, decimal: str, orders: int, depth: int) -> Iterator[Literal]:
    """The numbers of a text, from left to right.

    Digits that touch a letter, or that a sign joins to other digits, are no number: `3.11.2`, `2026-11-30`, `10:45`,
    `192.168.0.1`, `GPT-4`, `0x1F`, `555-0100`. Neither are those with more groups of three than are asked for.

    Args:
        decimal: the decimal sign.
        orders: groups of three digits before it.
        depth: groups of three digits after it.
    """
    for found in _pattern(decimal, orders, depth).finditer(text):
        separator = found["separator"] or ""
        exponent = found["exponent"]
        yield Literal(
            start=found.start(),
            end=found.start() + len(found["number"]),
            whole=found["whole"].replace(separator, "") if separator else found["whole"],
            separator=separator,
            fraction=found["fraction"] or "",
            exponent=max(-_MOST_EXPONENT, min(_MOST_EXPONENT, int(exponent[1:]))) if exponent else 0,
            after=found.end(),
        )


@lru_cache(maxsize=16)
def _pattern(decimal: str, orders: int, depth: int) -> re.Pattern[str]:
    between = "".join(re.escape(s) for s in SEPARATORS if s != decimal)
    whole = rf"[1-9][0-9]{{0,2}}(?P<separator>[{between}])[0-9]{{3}}(?:(?P=separator)[0-9]{{3}}){{0,{orders}}}"
    fraction = rf"{re.escape(decimal)}(?P<fraction>[0-9]{{1,{3 * depth}}})"
    # Every repetition has a bound, so that a long run of digits takes time that grows with its length alone.
    return re.compile(
        rf"(?<![\w.])(?<![\w][-,:/'’])(?P<number>(?P<whole>{whole}|[0-9]{{1,{3 * orders}}})(?:{fraction})?)"
        rf"(?P<exponent>[eE][-+]?[0-9]{{1,4}})?(?!\w)(?![-.,:/'’][0-9])(?!\.\w)"
    )
