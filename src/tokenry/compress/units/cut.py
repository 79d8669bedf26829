"""A text as units that stay or go as a whole, and the gaps that the ones that go leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

if TYPE_CHECKING:
    from tokenry.compress.parts.kind import Kind

ROOT = -1
"""The parent of a unit that stands for itself."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Units next to each other, under one parent, that are left out.

    Args:
        kind: how they were cut, which says how their absence is written.
        units: the first and the last of them.
        numbers: the first and the last of what the kind counts, from 1, such as lines.
        start: the first character of the source that is left out, and `end` the one behind the last.
        last: nothing of their parent follows them.
        opens: it is the first gap of its text, and may say more than the others.
        key: under which the original is kept, where it is.
    """

    kind: Kind
    units: tuple[int, int]
    numbers: tuple[int, int]
    start: int
    end: int
    last: bool = False
    opens: bool = False
    key: str | None = None


@dataclass(frozen=True, eq=False)
class Cut:
    """Where the units of a text lie. What no unit holds is the frame, which always stays.

    Args:
        start: first character of each unit, ascending, and `end` the one behind its last; its children stand behind.
        parent: the unit without which this one cannot stand, such as a heading; `ROOT` where there is none.
        tail: what closes a unit behind its children, as characters from and to; equal where nothing does.
        number: the first and the last of what the kind counts that each unit holds, from 1.
        kinds: how parts of the text were cut, and `kind` which of these each unit is of.
        parts: first character of what each of `kinds` cut, and the one behind its last.
        strong: units that the kind itself holds to be important, such as a line with an error.
        again: units that say once more what one before them said; they are kept last.
    """

    start: Int[np.ndarray, "U"]
    end: Int[np.ndarray, "U"]
    parent: Int[np.ndarray, "U"]
    tail: Int[np.ndarray, "U 2"]
    number: Int[np.ndarray, "U 2"]
    kinds: tuple[Kind, ...]
    kind: Int[np.ndarray, "U"]
    parts: tuple[tuple[int, int], ...]
    strong: Bool[np.ndarray, "U"]
    again: Bool[np.ndarray, "U"]

    @classmethod
    def of(
        cls,
        kind: Kind,
        text: str,
        bounds: Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"],
        *,
        parent: Sequence[int] | None = None,
        tail: Sequence[tuple[int, int]] | None = None,
        number: Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"] | None = None,
        strong: Sequence[bool] | Bool[np.ndarray, "U"] | None = None,
        again: Sequence[bool] | Bool[np.ndarray, "U"] | None = None,
    ) -> Cut:
        """The units of a text that one kind cut; numbered one by one where nothing else is given."""
        where = np.asarray(bounds, dtype=np.int64).reshape(-1, 2)
        u = len(where)
        one_by_one = np.repeat(np.arange(1, u + 1)[:, None], 2, 1)
        return cls(
            start=where[:, 0],
            end=where[:, 1],
            parent=np.full(u, ROOT) if parent is None else np.asarray(parent, dtype=np.int64),
            tail=np.zeros((u, 2), dtype=np.int64) if tail is None else np.asarray(tail, dtype=np.int64).reshape(-1, 2),
            number=one_by_one if number is None else np.asarray(number, dtype=np.int64).reshape(-1, 2),
            kinds=(kind,),
            kind=np.zeros(u, dtype=np.int64),
            parts=((0, len(text)),),
            strong=np.zeros(u, dtype=bool) if strong is None else np.asarray(strong, dtype=bool),
            again=np.zeros(u, dtype=bool) if again is None else np.asarray(again, dtype=bool),
        )

    @classmethod
    def joined(cls, cuts: Sequence[tuple[int, Cut]]) -> Cut:
        """Cuts of parts of one text that follow each other, each with the place where its part begins."""
        first = np.cumsum([0, *(len(c) for _, c in cuts)])
        kinds = np.cumsum([0, *(len(c.kinds) for _, c in cuts)])

        def together(parts: list[np.ndarray], width: int | None = None) -> np.ndarray:
            empty = np.zeros(0 if width is None else (0, width), dtype=np.int64)
            return np.concatenate(parts) if parts else empty

        return cls(
            start=together([c.start + at for at, c in cuts]),
            end=together([c.end + at for at, c in cuts]),
            parent=together([np.where(c.parent < 0, ROOT, c.parent + first[i]) for i, (_, c) in enumerate(cuts)]),
            tail=together([np.where(c.tail.any(1, keepdims=True), c.tail + at, 0) for at, c in cuts], 2),
            number=together([c.number for _, c in cuts], 2),
            kinds=tuple(k for _, c in cuts for k in c.kinds),
            kind=together([c.kind + kinds[i] for i, (_, c) in enumerate(cuts)]),
            parts=tuple((a + at, b + at) for at, c in cuts for a, b in c.parts),
            strong=together([c.strong for _, c in cuts]).astype(bool),
            again=together([c.again for _, c in cuts]).astype(bool),
        )

    def __len__(self) -> int:
        return len(self.start)

    def texts(self, text: str) -> list[str]:
        """The characters of every unit."""
        return [text[a:b] for a, b in zip(self.start.tolist(), self.end.tolist(), strict=True)]

    @cached_property
    def scopes(self) -> tuple[tuple[int, int], ...]:
        """The key of each family: part of the text and parent; units of one family may share a gap."""
        return tuple(zip(self.kind.tolist(), self.parent.tolist(), strict=True))

    @cached_property
    def neighbours(self) -> Int[np.ndarray, "U 2"]:
        """The units before and after each one in its family, -1 where there is none."""
        found = np.full((len(self), 2), -1, dtype=np.int64)
        latest: dict[tuple[int, int], int] = {}
        for u, scope in enumerate(self.scopes):
            before = latest.get(scope, -1)
            if before >= 0:
                found[u, 0], found[before, 1] = before, u
            latest[scope] = u
        return found

    @cached_property
    def has_children(self) -> Bool[np.ndarray, "U"]:
        found = np.zeros(len(self), dtype=bool)
        found[self.parent[self.parent >= 0]] = True
        return found

    def extent(self, unit: int) -> tuple[int, int]:
        """A unit with all that stands under it."""
        return int(self.start[unit]), int(self.reach[unit])

    @cached_property
    def reach(self) -> Int[np.ndarray, "U"]:
        """The character behind all that stands under each unit."""
        found = np.maximum(self.end, self.tail[:, 1])
        for u in range(len(self) - 1, -1, -1):
            if self.parent[u] >= 0:
                found[self.parent[u]] = max(found[self.parent[u]], found[u])
        return found

    def with_parents(self, kept: Bool[np.ndarray, "U"]) -> Bool[np.ndarray, "U"]:
        """The same units with all that they cannot stand without."""
        found = kept.copy()
        for u in range(len(self) - 1, -1, -1):
            if found[u] and self.parent[u] >= 0:
                found[self.parent[u]] = True
        return found

    def gaps(self, kept: Bool[np.ndarray, "U"], key: str | None = None) -> Iterator[Gap]:
        """What is left out, in the order of the text; what stands under something left out is part of its gap."""
        first: dict[tuple[int, int], int] = {}
        runs: list[tuple[int, int]] = []
        for u, scope in enumerate(self.scopes):
            if self.parent[u] >= 0 and not kept[self.parent[u]]:
                continue
            if kept[u]:
                first.pop(scope, None)
            elif scope in first:
                runs[first[scope]] = runs[first[scope]][0], u
            else:
                first[scope] = len(runs)
                runs.append((u, u))
        for i, (a, b) in enumerate(runs):
            yield Gap(
                kind=self.kinds[self.kind[a]],
                units=(a, b),
                numbers=(int(self.number[a, 0]), int(max(self.number[b, 1], self._last_number(b)))),
                start=int(self.start[a]),
                end=int(self.reach[b]),
                last=bool(self.neighbours[b, 1] < 0),
                opens=i == 0,
                key=key,
            )

    def _last_number(self, unit: int) -> int:
        """The last of what the kind counts that stands under a unit."""
        inside = (self.start >= self.start[unit]) & (self.end <= self.reach[unit]) & (self.kind == self.kind[unit])
        return int(self.number[inside, 1].max()) if self.has_children[unit] else int(self.number[unit, 1])
