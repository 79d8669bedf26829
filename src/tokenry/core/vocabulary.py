"""What every id of a tokenizer spells, in bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The pieces of a tokenizer as bytes, never as decoded text: a piece may hold a part of a character.

    Args:
        pieces: what each id spells; None for marks that stand for no text and for rows that are not used.
    """

    pieces: tuple[bytes | None, ...]

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[bytes | None]:
        return iter(self.pieces)

    def __getitem__(self, id: int) -> bytes | None:
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
        """What some ids spell together; marks spell nothing."""
        return b"".join(self.pieces[i] or b"" for i in ids)
