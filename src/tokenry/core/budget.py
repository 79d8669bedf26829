"""One word for how much: `budget`, a share or a number of tokens, rounded in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from tokenry.core.errors import InvalidValue

SINKS = 4
"""A default with sinks keeps at least this many of them in a small budget."""

Per = Literal["sequence", "layer", "head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many tokens may remain, counting real tokens (never padding) of each row.

    Args:
        share: part of the tokens, in (0, 1]; exactly one of `share` and `tokens` is given.
        tokens: number of tokens, at least 1.
        sink: first tokens that are always kept; they count towards the budget.
        recent: last tokens that are always kept; they count towards the budget.
        per: who shares one choice: the whole `sequence`, each `layer`, or each KV `head`.

    Raises:
        InvalidValue: neither or both of share and tokens, or a value out of range.
    """

    share: float | None = None
    tokens: int | None = None
    sink: int = 0
    recent: int = 0
    per: Per = "sequence"

    def __post_init__(self) -> None:
        if (self.share is None) == (self.tokens is None):
            raise InvalidValue(
                f"Budget: exactly one of share and tokens must be given; got share={self.share}, tokens={self.tokens}."
            )
        if self.share is not None and not 0 < self.share <= 1:
            raise InvalidValue(f"Budget: share must be in (0, 1]; got {self.share!r}.")
        if self.tokens is not None and self.tokens < 1:
            raise InvalidValue(f"Budget: tokens must be at least 1; got {self.tokens!r}.")
        if self.sink < 0 or self.recent < 0:
            raise InvalidValue(
                f"Budget: sink and recent must be at least 0; got sink={self.sink}, recent={self.recent}."
            )
        if self.tokens is not None and self.sink + self.recent > self.tokens:
            raise InvalidValue(
                f"Budget: tokens must be at least sink + recent, which it includes; "
                f"got tokens={self.tokens}, sink={self.sink}, recent={self.recent}."
            )
        if self.per not in ("sequence", "layer", "head"):
            raise InvalidValue(f"Budget: per must be sequence, layer or head; got {self.per!r}.")

    @classmethod
    def of(cls, value: Budget | float | int | str, like: Budget | None = None) -> Budget:
        """Read a budget: 0.25 is a share, 256 a number of tokens.

        Sinks and recent tokens follow `like` in proportion, sinks down to four.
        As text, more may follow: `100:sink=4:recent=32:per=head`.
        """
        if isinstance(value, Budget):
            return value
        if isinstance(value, str) and ":" in value:
            amount, *settings = value.split(":")
            return replace(cls.of(amount, like=like), **dict(map(_setting, settings)))
        number = _number(value)
        default = like or cls(share=1.0)
        if isinstance(number, float):
            return replace(default, share=number, tokens=None)
        sized = cls(tokens=number, per=default.per)
        if default.tokens is None:
            fixed = default.sink + default.recent
            room = 1.0 if fixed <= number else number / fixed
        else:
            room = min(1.0, number / default.tokens)
        # A few sinks carry attention however small the budget is.
        sink = max(int(default.sink * room), min(default.sink, SINKS, number))
        return replace(sized, sink=sink, recent=min(int(default.recent * room), number - sink))

    def count(self, n: int) -> int:
        """Tokens that remain of `n` real tokens: halves round up, at least 1, never more than `n`."""
        wanted = self.tokens if self.tokens is not None else int((self.share or 0.0) * n + 0.5)
        return min(n, max(1, self.sink + self.recent, wanted))

    def __str__(self) -> str:
        amount = str(self.tokens) if self.tokens is not None else repr(float(self.share or 0.0))
        fixed = f":sink={self.sink}:recent={self.recent}" if self.sink or self.recent else ""
        return amount + fixed + ("" if self.per == "sequence" else f":per={self.per}")


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name == "per":
        return name, value
    if name not in ("sink", "recent") or not value.isdigit():
        raise InvalidValue(f"budget: a setting must be sink=N, recent=N or per=WORD; got {text!r}.")
    return name, int(value)


def _number(value: float | int | str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidValue(f"budget: must be a share such as 0.25 or a number of tokens such as 256; got {value!r}.")
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        if value.endswith("%"):
            return float(value[:-1]) / 100
        return float(value)
    except ValueError:
        raise InvalidValue(
            f"budget: must be a share such as 0.25 or a number of tokens such as 256; got {value!r}."
        ) from None
