"""What every id of a tokenizer spells, in bytes, and which ids may stand side by side."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heapify, heappop, heappush

from tokenry.core.errors import Incompatible, InvalidValue

Merge = tuple[int, int, int, int]
"""Two ids, the id that they become, and the rank of this merge: the lowest one goes first."""
Edges = tuple[list[int], list[int]]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The pieces of a tokenizer as bytes, never as decoded text: a piece may hold a part of a character.

    Args:
        pieces: what each id spells; None for marks that stand for no text and for rows that are not used.
        added: ids of tokens that were added to the vocabulary, by name: its marks, and text that is one token wherever
            it stands.
        merging: gives the merges of byte pairs; None for vocabularies that have none.
        whole_first: whether a split that is a piece stays one, whatever the merges say.
    """

    pieces: tuple[bytes | None, ...]
    added: Mapping[str, int] = field(default_factory=dict, repr=False)
    merging: Callable[[], Iterable[Merge]] | None = field(default=None, repr=False)
    whole_first: bool = False

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[bytes | None]:
        return iter(self.pieces)

    def __getitem__(self, id: int) -> bytes | None:
        # A negative number would count from the end.
        if not 0 <= id < len(self.pieces):
            raise InvalidValue(f"vocabulary: ids must be from 0 to {len(self.pieces) - 1}; got {id}.")
        return self.pieces[id]

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The id of each piece, the lowest one where several ids spell the same."""
        return {piece: i for i, piece in reversed(list(enumerate(self.pieces))) if piece is not None}

    @cached_property
    def marks(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset(i for i, piece in enumerate(self.pieces) if piece is None)

    @cached_property
    def named_marks(self) -> dict[str, int]:
        """The marks that have a name, such as `<|endoftext|>`."""
        return {name: i for name, i in self.added.items() if self.pieces[i] is None}

    @cached_property
    def duplicates(self) -> dict[bytes, tuple[int, ...]]:
        """Pieces that several ids spell."""
        found: dict[bytes, list[int]] = {}
        for i, piece in enumerate(self.pieces):
            if piece is not None:
                found.setdefault(piece, []).append(i)
        return {piece: tuple(ids) for piece, ids in found.items() if len(ids) > 1}

    @cached_property
    def missing_bytes(self) -> tuple[int, ...]:
        """Bytes for which there is no piece of their own: text that holds one may not be spelled at all."""
        return tuple(b for b in range(256) if bytes([b]) not in self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same pieces in the same order, and for no others."""
        hashed = hashlib.sha256()
        for piece in self.pieces:
            hashed.update(b"\0\0" if piece is None else b"\1" + len(piece).to_bytes(4, "big") + piece)
        return hashed.hexdigest()

    def spell(self, ids: Iterable[int]) -> bytes:
        """What some ids spell together; marks spell nothing.

        Raises:
            InvalidValue: an id that there is not.
        """
        return b"".join(self[i] or b"" for i in ids)

    def first(self, size: int) -> Vocabulary:
        """The same without ids from `size` on, which no merge may make."""
        added = {name: i for name, i in self.added.items() if i < size}
        return replace(self, pieces=self.pieces[:size], added=added)

    def starting_with(self, beginning: bytes) -> list[int]:
        """Ids of all pieces that begin with some bytes, ordered by their bytes; a piece begins with itself."""
        pieces, ids = self._sorted
        above = beginning.rstrip(b"\xff")
        end = bisect_left(pieces, above[:-1] + bytes([above[-1] + 1])) if above else len(pieces)
        return ids[bisect_left(pieces, beginning) : end]

    def valid_pair(self, first: int, second: int) -> bool:
        """Whether merging leaves two ids as they are where they stand side by side in a split of the text.

        All pairs of a sequence that merging gives are valid. Pairs may be asked for by the million.

        Raises:
            Incompatible: a vocabulary that was not made by merging.
            InvalidValue: an id that there is not.
        """
        ends, begins = self._edges(first)[1], self._edges(second)[0]
        if not ends or not begins:
            return False
        # Both pieces grow by themselves unless something at the end of the one merges with the beginning of the other.
        if not any((left, right) in self.merges for left in ends for right in begins):
            return True
        return self.merged((first, second)) == [first, second]

    def valid(self, ids: Sequence[int]) -> bool:
        """Whether merging gives these ids for the text they spell, where that is one split.

        Ids in different splits of a text do not touch; how text is split, and that a text holds tokens that were added,
        is not looked at. A mark is never valid.

        Raises:
            Incompatible: a vocabulary that was not made by merging.
        """
        if any(self[i] is None for i in ids):
            return False
        whole = self.ids.get(self.spell(ids)) if self.whole_first else None
        return list(ids) == (self.merged(ids) if whole is None else [whole])

    def merged(self, ids: Iterable[int]) -> list[int]:
        """What merging makes of the text that some ids spell, as one split; time grows with N log N.

        Raises:
            Incompatible: a vocabulary that was not made by merging.
        """
        return [i for i in self._merge(self._leaves(ids)) if i >= 0]

    def _merge(self, now: list[int], edges: list[Edges] | None = None) -> list[int]:
        """The same for ids that no merge makes, in place; -1 where an id became part of the one before it.

        Args:
            edges: of the ids, all that stood at the beginning of each, and all that stood at its end.
        """
        merges = self.merges
        end = len(now)
        after, before = [*range(1, end + 1)], [*range(-1, end)]

        def waiting(at: int) -> tuple[int, int, int, int] | None:
            """The merge of a place with the next one: rank, place, and both ids."""
            pair = (now[at], now[after[at]]) if at >= 0 and after[at] < end else None
            return (merges[pair][0], at, *pair) if pair in merges else None

        queue = [found for at in range(end) if (found := waiting(at))]
        heapify(queue)
        while queue:
            _, at, left, right = heappop(queue)
            if now[at] != left or after[at] == end or now[after[at]] != right:
                continue
            gone, made = after[at], merges[left, right][1]
            if edges is not None:
                edges[at] = [made, *edges[at][0]], [made, *edges[gone][1]]
            now[at], now[gone], after[at] = made, -1, after[gone]
            before[after[at]] = at
            for place in (before[at], at):
                if found := waiting(place):
                    heappush(queue, found)
        return now

    @cached_property
    def merges(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Rank and id of every pair that merges.

        Raises:
            Incompatible: a vocabulary that was not made by merging.
        """
        if self.merging is None:
            raise Incompatible(
                "vocabulary: must be made of byte pairs, to say which ids may stand side by side; got one without "
                "merges; encode the text instead."
            )
        return {(left, right): (rank, made) for left, right, made, rank in self.merging()}

    def _edges(self, id: int) -> Edges:
        """All that stands at the beginning and at the end of a piece while it is merged; none if it never comes out."""
        if id not in self._seen_edges:
            leaves = self._leaves([id]) if self[id] is not None else []
            edges: list[Edges] = [([leaf], [leaf]) for leaf in leaves]
            good = [i for i in self._merge(leaves, edges) if i >= 0] == [id]
            self._seen_edges[id] = edges[0] if good else ([], [])
        return self._seen_edges[id]

    def _leaves(self, ids: Iterable[int]) -> list[int]:
        """The ids that some pieces are merged from."""
        found, left = [], list(ids)[::-1]
        while left:
            halves = self._halves.get(i := left.pop())
            if halves is None:
                found.append(i)
            else:
                left += reversed(halves)
        return found

    @cached_property
    def _halves(self) -> dict[int, tuple[int, int]]:
        """Two shorter pieces of each piece that merges make."""
        size = [len(piece or b"") for piece in self.pieces]
        whole = {pair: made for pair, (_, made) in self.merges.items()}
        return {made: pair for pair, made in whole.items() if size[made] > max(size[pair[0]], size[pair[1]])}

    @cached_property
    def _sorted(self) -> tuple[list[bytes], list[int]]:
        """All pieces in order, and their ids."""
        found = sorted((piece, i) for i, piece in enumerate(self.pieces) if piece is not None)
        return [piece for piece, _ in found], [i for _, i in found]

    @cached_property
    def _seen_edges(self) -> dict[int, Edges]:
        """What `_edges` found."""
        return {}
