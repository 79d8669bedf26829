"""The ids of numbers in triads, behind those of another vocabulary, and what a row of ids writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from tokenry.segment.numbers.literals import SEPARATORS
from tokenry.segment.numbers.triads import Sign, suffix

THOUSAND = 1000


@dataclass(frozen=True)
class TriadIds:
    """First the groups with their labels, or the labels alone; then the point, what is cut, separators, leading zeros.

    Args:
        first: the first id.
        fused: whether groups with their labels are ids.
        decimal: what the point writes.
        orders, depth: groups before and behind the point.
    """

    first: int
    fused: bool
    decimal: str
    orders: int
    depth: int

    @cached_property
    def levels(self) -> list[int]:
        """Orders of magnitude that have a label, the largest first; units need none where labels stand alone."""
        return [o for o in range(self.orders - 1, -self.depth - 1, -1) if o or self.fused]

    @property
    def labels(self) -> int:
        """How many kinds of ids there are, apart from the digits in them."""
        return len(self.levels) + len(self._others)

    @cached_property
    def _others(self) -> list[Sign | int]:
        """The point, digits cut off, separators, and as numbers zeros that lead."""
        cut = [Sign("cut", order=n) for n in (1, 2)]
        return [Sign("point"), *cut, *(Sign("grouped", order=i) for i in range(len(SEPARATORS))), *(
            (1, 2) if self.fused else ()
        )]  # fmt: skip

    @cached_property
    def _place(self) -> dict[tuple[str, int], int]:
        return {(o.kind, o.order): i for i, o in enumerate(self._others) if isinstance(o, Sign)}

    @cached_property
    def _behind(self) -> int:
        """The first id that is neither a group nor a label."""
        return self.first + len(self.levels) * (THOUSAND if self.fused else 1)

    def pieces(self) -> Iterator[bytes | None]:
        """What each id spells in a text by itself; None where it only says something of others."""
        for piece, label in self.described():
            yield self.decimal.encode() if label == len(self.levels) else piece.encode() or None

    def described(self) -> Iterator[tuple[str, int]]:
        """The digits of each id and the number of its label."""
        for label, order in enumerate(self.levels):
            for value in range(THOUSAND) if self.fused else ():
                yield (str(value) if order >= 0 else f"{value:03}"), label
            if not self.fused:
                yield "", label
        for label, other in enumerate(self._others, len(self.levels)):
            yield ("0" * other if isinstance(other, int) else ""), label

    def ids(self, signs: Iterable[Sign], digits: Callable[[str], list[tuple[int, int]]]) -> list[tuple[int, int]]:
        """Ids of signs, each with the characters it covers.

        Args:
            digits: ids of digits in the other vocabulary, and how many digits each is.
        """
        found: list[tuple[int, int]] = []
        for sign in signs:
            if sign.kind == "triad" and self.fused:
                found += self._fused(sign)
            elif sign.kind == "triad":
                plain = digits(sign.digits)
                # A separator stands before digits; those that only fill up a group cover nothing.
                ends = [max(0, sign.covers - len(sign.digits)) + end for end in accumulate(size for _, size in plain)]
                ends = [0, *(min(end, sign.covers) for end in ends)]
                found += [(i, high - low) for (i, _), (low, high) in zip(plain, pairwise(ends), strict=True)]
                if sign.order:
                    found.append((self.first + self.levels.index(sign.order), 0))
            else:
                found.append((self._behind + self._place[sign.kind, sign.order], sign.covers))
        return found

    def _fused(self, sign: Sign) -> Iterator[tuple[int, int]]:
        value = int(sign.digits)
        leading = len(sign.digits) - len(str(value)) if sign.leads else 0
        if leading:
            yield self._behind + len(self._others) - 3 + leading, leading
        yield self.first + self.levels.index(sign.order) * THOUSAND + value, sign.covers - leading

    def written(self, ids: Sequence[int], plain: Mapping[int, bytes]) -> bytes:
        """The bytes of some ids, of which `plain` are those of the other vocabulary. Any ids write something."""
        out = bytearray()
        # A separator is that of one number, whose orders fall; another may follow where the base leaves out a byte.
        separator, before = b"", -1
        for i in ids:
            if i < self.first:
                piece = plain[i]
                if self.fused or not piece.isdigit():
                    separator, before = b"", -1
                out += piece
            elif i >= self._behind:
                other = self._others[i - self._behind]
                if isinstance(other, int):
                    out += b"0" * other
                elif other.kind == "grouped":
                    separator, before = SEPARATORS[other.order].encode(), self.orders + 1
                elif other.kind == "cut":
                    while out.endswith(b"0") and other.order:
                        out.pop()
                        other = Sign("cut", order=other.order - 1)
                else:
                    out += self.decimal.encode()
                    separator, before = b"", -1
            elif self.fused:
                level, value = divmod(i - self.first, THOUSAND)
                order = self.levels[level]
                inner = before == order + 1
                if not inner and before <= self.orders:
                    separator = b""
                if inner and order >= 0:
                    out += separator
                out += f"{value:03}".encode() if inner or order < 0 else str(value).encode()
                before = order
            elif (order := self.levels[i - self.first]) > 0:
                separator = separator if order < before else b""
                out += separator
                before = order
        return bytes(out)

    def shown(self, ids: Sequence[int], plain: Callable[[int], str]) -> str:
        """Ids with spaces between them and labels in letters."""
        found, described, before = [], list(self.described()), -1
        for i in ids:
            if i < self.first:
                found.append(plain(i))
                before = -1
                continue
            digits, label = described[i - self.first]
            if label < len(self.levels):
                order = self.levels[label]
                inner = self.fused and before == order + 1
                found.append((digits.zfill(3) if inner else digits) + suffix(order))
                before = order
                continue
            other = self._others[label - len(self.levels)]
            kinds = {"point": self.decimal, "cut": "⟨-{}⟩", "grouped": "⟨{}⟩"}
            if isinstance(other, int):
                found.append(f"⟨{digits}⟩")
            else:
                shown = SEPARATORS[other.order] if other.kind == "grouped" else other.order
                found.append(kinds[other.kind].format(shown))
        return " ".join(found)
