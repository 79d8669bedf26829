"""A text as units that stay or go as a whole, and the gaps that the ones that go leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from tokenry.compress.units.shown import uncoloured

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
        above: the first character of their parent, -1 where they have none.
        first: nothing of their parent stands before them, and `last`: nothing of it follows them.
        opens: it is the first gap of its text, and may say more than the others.
        key: under which the original is kept, where it is.
    """

    kind: Kind
    units: tuple[int, int]
    numbers: tuple[int, int]
    start: int
    end: int
    above: int = ROOT
    first: bool = False
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
        number: the first and the last of what the kind counts that each unit holds with all under it, from 1.
        kinds: how parts of the text were cut, and `kind` which of these each unit is of.
        parts: first character of what each of `kinds` cut, and the one behind its last.
        strong: units that the kind itself holds to be important, such as a line with an error.
        alarms: those of them that are important by themselves, not for what stands beside them.
        again: units that say once more what one before them said; they are kept last.
        hollow: units that say nothing by themselves, such as the name of a file over its changes; they stay only with
            something under them.
        needs: by unit, others without which it cannot be read.
        says: by unit, what it tells where that is not what is written.
        titles: by unit, the name of what stands under it, such as that of a function.
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
    alarms: Bool[np.ndarray, "U"]
    again: Bool[np.ndarray, "U"]
    hollow: Bool[np.ndarray, "U"]
    needs: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    says: Mapping[int, str] = field(default_factory=dict)
    titles: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        kind: Kind,
        text: str,
        bounds: Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"],
        *,
        parent: Sequence[int] | None = None,
        tail: Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"] | None = None,
        number: Sequence[tuple[int, int]] | Int[np.ndarray, "U 2"] | None = None,
        strong: Sequence[bool] | Bool[np.ndarray, "U"] | None = None,
        alarms: Sequence[bool] | Bool[np.ndarray, "U"] | None = None,
        again: Sequence[bool] | Bool[np.ndarray, "U"] | None = None,
        hollow: Sequence[bool] | Bool[np.ndarray, "U"] | None = None,
    ) -> Cut:
        """The units of a text that one kind cut; numbered one by one where nothing else is given."""
        where = np.asarray(bounds, dtype=np.int64).reshape(-1, 2)
        u = len(where)
        none = np.zeros(u, dtype=bool)
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
            strong=none if strong is None else np.asarray(strong, dtype=bool),
            alarms=none if alarms is None else np.asarray(alarms, dtype=bool),
            again=none if again is None else np.asarray(again, dtype=bool),
            hollow=none if hollow is None else np.asarray(hollow, dtype=bool),
        )

    @classmethod
    def joined(cls, cuts: Sequence[tuple[int, Cut]]) -> Cut:
        """Cuts of parts of one text that follow each other, each with the place where its part begins."""
        first = np.cumsum([0, *(len(c) for _, c in cuts)]).tolist()
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
            alarms=together([c.alarms for _, c in cuts]).astype(bool),
            again=together([c.again for _, c in cuts]).astype(bool),
            hollow=together([c.hollow for _, c in cuts]).astype(bool),
            needs={
                u + first[i]: tuple(n + first[i] for n in v)
                for i, (_, c) in enumerate(cuts)
                for u, v in c.needs.items()
            },
            says={u + first[i]: said for i, (_, c) in enumerate(cuts) for u, said in c.says.items()},
            titles={u + first[i]: name for i, (_, c) in enumerate(cuts) for u, name in c.titles.items()},
        )

    def holding(self, inner: Sequence[tuple[int, Cut, int]]) -> Cut:
        """With the units of other cuts under some of these.

        Args:
            inner: where each of them begins, its units, and the unit that these stand under; in the order of the text.
        """
        if not inner:
            return self
        found = Cut.joined([(0, self), *((at, cut) for at, cut, _ in inner)])
        under = np.repeat([ROOT, *(u for _, _, u in inner)], [len(self), *(len(cut) for _, cut, _ in inner)])
        parent = np.where(found.parent < 0, under, found.parent)
        order = np.argsort(found.start, kind="stable")
        place = np.argsort(order, kind="stable")
        names = ("start", "end", "tail", "number", "kind", "strong", "alarms", "again", "hollow")
        arrays: dict[str, Any] = {name: getattr(found, name)[order] for name in names}
        return replace(
            found,
            **arrays,
            parent=np.where(parent < 0, ROOT, place[parent])[order],
            needs={int(place[u]): tuple(place[list(v)].tolist()) for u, v in found.needs.items()},
            says={int(place[u]): said for u, said in found.says.items()},
            titles={int(place[u]): name for u, name in found.titles.items()},
        )

    def __len__(self) -> int:
        return len(self.start)

    def texts(self, text: str) -> list[str]:
        """The characters of every unit."""
        return [text[a:b] for a, b in zip(self.start.tolist(), self.end.tolist(), strict=True)]

    def shown(self, text: str) -> list[str]:
        """What every unit tells a reader, without the white space around it."""
        found = [unit.strip() for unit in self.texts(text)]
        for u, said in self.says.items():
            found[u] = said
        for i, kind in enumerate(self.kinds):
            mine = np.flatnonzero(self.kind == i).tolist()
            for u, told in zip(mine, kind.shown([found[u] for u in mine]), strict=True):
                found[u] = told
        return [uncoloured(unit) for unit in found]

    @cached_property
    def scopes(self) -> Int[np.ndarray, "U"]:
        """The number of each family: part of the text and parent; units of one family may share a gap."""
        return self.kind * (len(self) + 1) + self.parent + 1

    @cached_property
    def neighbours(self) -> Int[np.ndarray, "U 2"]:
        """The units before and after each one in its family, -1 where there is none."""
        found = np.full((len(self), 2), -1, dtype=np.int64)
        order = np.argsort(self.scopes, kind="stable")
        together = np.diff(self.scopes[order]) == 0
        before, after = order[:-1][together], order[1:][together]
        found[after, 0], found[before, 1] = before, after
        return found

    @cached_property
    def has_children(self) -> Bool[np.ndarray, "U"]:
        found = np.zeros(len(self), dtype=bool)
        found[self.parent[self.parent >= 0]] = True
        return found

    @cached_property
    def levels(self) -> tuple[Int[np.ndarray, "X"], ...]:
        """Units that stand under others, by how deep they stand, the highest first."""
        depth = np.zeros(len(self), dtype=np.int64)
        under, above = np.arange(len(self)), self.parent
        while len(under):
            under, above = under[above >= 0], above[above >= 0]
            depth[under] += 1
            above = self.parent[above]
        order = np.argsort(depth, kind="stable")
        return tuple(np.split(order, np.searchsorted(depth[order], np.arange(1, depth.max(initial=0) + 1)))[1:])

    @cached_property
    def reach(self) -> Int[np.ndarray, "U"]:
        """The character behind all that stands under each unit."""
        found = np.maximum(self.end, self.tail[:, 1])
        for units in reversed(self.levels):
            np.maximum.at(found, self.parent[units], found[units])
        return found

    def with_parents(self, kept: Bool[np.ndarray, "U"]) -> Bool[np.ndarray, "U"]:
        """The same units with all that they cannot stand without, and without what is hollow with nothing under it."""
        found = kept & ~self.hollow
        waiting = [u for u in self.needs if found[u]]
        while waiting:
            for u in self.needs.get(waiting.pop(), ()):
                if not found[u]:
                    found[u] = True
                    waiting.append(u)
        for units in reversed(self.levels):
            found[self.parent[units[found[units]]]] = True
        return found

    def gaps(self, kept: Bool[np.ndarray, "U"], key: str | None = None) -> Iterator[Gap]:
        """What is left out, in the order of the text; what stands under something left out is part of its gap."""
        before, after = self.neighbours.T
        missing = ~kept & ((self.parent < 0) | kept[self.parent])
        order = np.argsort(self.scopes, kind="stable")
        begins = order[(missing & ~((before >= 0) & missing[before]))[order]]
        ends = order[(missing & ~((after >= 0) & missing[after]))[order]]
        inside = np.argsort(begins, kind="stable")
        for i, (a, b) in enumerate(zip(begins[inside].tolist(), ends[inside].tolist(), strict=True)):
            yield Gap(
                kind=self.kinds[self.kind[a]],
                units=(a, b),
                numbers=(int(self.number[a, 0]), int(self.number[b, 1])),
                start=int(self.start[a]),
                end=int(self.reach[b]),
                above=int(self.start[self.parent[a]]) if self.parent[a] >= 0 else ROOT,
                first=bool(before[a] < 0),
                last=bool(after[b] < 0),
                opens=i == 0,
                key=key,
            )
