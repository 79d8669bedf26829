"""Segments of text, pictures, sounds and clips laid end to end in one row of ids, and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.signal.streams.vocabulary import IdRange, UnifiedVocabulary

CONTROL = "control"
DIGITS = 16
"""Numbers of a header are written in base 16, the highest digit first, and closed by a comma."""

LARGEST = 1 << 40


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One stretch of a stream.

    Args:
        kind: the name of its range.
        ids: of its own vocabulary.
        size: what its tokenizer must know to place the tokens, such as height and width.
    """

    kind: str
    ids: Int[Tensor, "N"]
    size: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Where:
    """What stands at one place of a stream.

    Args:
        part: `between` segments, in a `header`, or in a segment's `content`.
        kind: of the segment.
        size: numbers of the header that are whole.
        digits: of the number that is being written.
        count: tokens of the content so far.
    """

    part: str = "between"
    kind: str = ""
    size: tuple[int, ...] = ()
    digits: tuple[int, ...] = ()
    count: int = 0

    @property
    def takes_digits(self) -> bool:
        """Whether the number may go on: it begins with a zero only where it is zero, and it is not too large."""
        return self.digits != (0,) and len(self.digits) < len(f"{LARGEST - 1:x}")


class Stream:
    """The ids of segments in a row: a mark, a header of numbers, the content, a mark.

    Args:
        sizes: name and number of ids of each range in order; one of them is `control`, whose first ids are the marks.
        numbers: for each kind of segment how many numbers its header has.
        books: for a kind whose tokens come from several codebooks in turn, how many ids each of these has.

    Raises:
        InvalidValue: no range of controls, or one that is too small for the marks; codebooks that do not fill a range.
    """

    def __init__(
        self, sizes: Sequence[tuple[str, int]], numbers: Mapping[str, int],
        books: Mapping[str, Sequence[int]] | None = None,
    ) -> None:  # fmt: skip
        self.vocabulary, self.numbers = UnifiedVocabulary(sizes), dict(numbers)
        self._turns = self._ranges(books or {})
        self.kinds = [name for name, _ in sizes if name != CONTROL]
        held = self.vocabulary.ranges.get(CONTROL)
        self.marks = 2 * len(self.kinds) + DIGITS + 1
        if held is None or len(held) < self.marks:
            raise InvalidValue(f"stream: must have at least {self.marks} ids of controls; got {sizes}.")
        self._first = held.first
        self.comma = self._first + 2 * len(self.kinds) + DIGITS

    def begin(self, kind: str) -> int:
        """The id before a segment of this kind."""
        return self._first + 2 * self.kinds.index(kind)

    def end(self, kind: str) -> int:
        """The id behind a segment of this kind."""
        return self.begin(kind) + 1

    def digit(self, value: int) -> int:
        """The id of a digit of a header."""
        return self._first + 2 * len(self.kinds) + value

    def control(self, number: int) -> int:
        """An id of a control beside the marks, such as the name of a task.

        Raises:
            InvalidValue: more than there are.
        """
        free = len(self.vocabulary.ranges[CONTROL]) - self.marks
        if not 0 <= number < free:
            raise InvalidValue(f"control: must be from 0 to {free - 1}; got {number}.")
        return self._first + self.marks + number

    def turns(self, kind: str) -> list[IdRange]:
        """The ids of each codebook of a kind, in the order in which they take turns; one range where there is one."""
        return self._turns.get(kind) or [self.vocabulary.ranges[kind]]

    def _ranges(self, books: Mapping[str, Sequence[int]]) -> dict[str, list[IdRange]]:
        found = {}
        for kind, sizes in books.items():
            held, ends = self.vocabulary.ranges.get(kind), list(accumulate(sizes))
            if held is None or not ends or min(sizes) < 0 or ends[-1] != len(held):
                raise InvalidValue(f"{kind}: codebooks must fill a range of the vocabulary; got {tuple(sizes)}.")
            found[kind] = [
                IdRange(kind, held.first + end - size, held.first + end) for size, end in zip(sizes, ends, strict=True)
            ]
        return found

    def header(self, kind: str, size: Sequence[int]) -> list[int]:
        """The ids of the numbers before a segment's content.

        Raises:
            InvalidValue: another count of numbers than the kind has, or a number that is none.
        """
        wanted = self.numbers.get(kind, 0)
        if len(size) != wanted or not all(0 <= n < LARGEST for n in size):
            raise InvalidValue(f"{kind}: size must be {wanted} numbers of 0 to {LARGEST - 1}; got {tuple(size)}.")
        return self.digits(size)

    def digits(self, size: Sequence[int]) -> list[int]:
        """The ids of some numbers, each with its comma."""
        return [i for n in size for i in (*(self.digit(int(d, 16)) for d in f"{n:x}"), self.comma)]

    def pack(self, segments: Sequence[Segment]) -> Int[Tensor, "N"]:
        """All segments as one row of ids."""
        row: list[Tensor] = [torch.zeros(0, dtype=torch.long)]
        for segment in segments:
            if segment.kind not in self.kinds:
                raise InvalidValue(f"segment: kind must be one of {', '.join(self.kinds)}; got {segment.kind!r}.")
            ahead = [self.begin(segment.kind), *self.header(segment.kind, segment.size)]
            content = self.vocabulary.lift(segment.kind, segment.ids)
            row += [torch.tensor(ahead), content, torch.tensor([self.end(segment.kind)])]
        return torch.cat(row)

    def unpack(self, ids: Int[Tensor, "N"]) -> list[Segment]:
        """The segments of a row, from its ids alone; controls between segments are passed over.

        Raises:
            InvalidValue: a row that `pack` cannot have made; the sentence names the place.
        """
        found, at, content = [], Where(), []
        for place, number in enumerate(ids.tolist()):
            before, at = at, self.after(at, number, place)
            if before.part == "content" and at.part == "content":
                content.append(number)
            elif before.part == "content":
                local = self.vocabulary.lower(before.kind, torch.tensor(content, dtype=torch.long))
                found.append(Segment(before.kind, local, before.size))
                content = []
        if at.part != "between":
            raise InvalidValue(f"stream: {at.kind} must be closed by {self.end(at.kind)}; the row ends inside it.")
        return found

    def after(self, at: Where, number: int, place: int = 0) -> Where:
        """What stands behind one more id.

        Raises:
            InvalidValue: an id that cannot stand there.
        """
        step = getattr(self, f"_{at.part}")(at, number)
        if step is None:
            raise InvalidValue(
                f"stream: id {number} ({self.vocabulary.kind(number)}) cannot stand at {place}, {at.part}"
                + (f" of {at.kind}." if at.kind else " segments.")
            )
        return step

    def _between(self, at: Where, number: int) -> Where | None:
        mark = number - self._first
        if 0 <= mark < 2 * len(self.kinds) and mark % 2 == 0:
            kind = self.kinds[mark // 2]
            return Where("header" if self.numbers.get(kind, 0) else "content", kind)
        return at if self.vocabulary.kind(number) == CONTROL and mark >= self.marks else None

    def _header(self, at: Where, number: int) -> Where | None:
        value = number - self.digit(0)
        if 0 <= value < DIGITS and at.takes_digits:
            return Where("header", at.kind, at.size, (*at.digits, value))
        if number != self.comma or not at.digits:
            return None
        size = (*at.size, int("".join(f"{d:x}" for d in at.digits), 16))
        return Where("header" if len(size) < self.numbers[at.kind] else "content", at.kind, size)

    def _content(self, at: Where, number: int) -> Where | None:
        if number == self.end(at.kind):
            return Where()
        held = self.vocabulary.ranges[at.kind]
        return Where("content", at.kind, at.size, (), at.count + 1) if held.first <= number < held.end else None

    def to_dict(self) -> dict[str, Any]:
        """The layout as plain values for JSON."""
        return {
            "ranges": {r.name: [r.first, r.end] for r in self.vocabulary.ranges.values()},
            "marks": {kind: [self.begin(kind), self.end(kind)] for kind in self.kinds},
            "digits": self.digit(0), "comma": self.comma, "numbers": self.numbers,
        }  # fmt: skip
