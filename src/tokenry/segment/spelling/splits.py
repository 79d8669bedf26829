"""All ways to spell each piece of a vocabulary as two of its other pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from tokenry.core.errors import Incompatible
from tokenry.core.vocabulary import Vocabulary

LONGEST = 1024
"""Bytes of the longest piece that is split, far beyond any real one: what a hostile vocabulary can cost is bounded."""

KNOWN = 8
"""Vocabularies whose tables are kept."""

_tables: dict[tuple[str, frozenset[int]], Splits] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The pairs (a, b) of ids with bytes(a) + bytes(b) = bytes(t), those of each id t side by side.

    Args:
        begins: where the pairs of each id begin; one more entry ends the last.
        first: a of every pair.
        second: b of every pair.
        counts: how many pairs each id has.
    """

    begins: Int[np.ndarray, "W"]
    first: Int[np.ndarray, "Z"]
    second: Int[np.ndarray, "Z"]
    counts: Int[np.ndarray, "V"]

    def pairs(self, id: int) -> list[tuple[int, int]]:
        """The pairs of one id."""
        mine = slice(self.begins[id], self.begins[id + 1])
        return list(zip(self.first[mine].tolist(), self.second[mine].tolist(), strict=True))


def splits_of(vocabulary: Vocabulary) -> Splits:
    """The table of a vocabulary, made once for all vocabularies of the same pieces.

    Marks and other tokens that were added have no pairs and are in none: what stands for them is one token wherever it
    stands, and text spelled in other pieces never becomes one. Ids that spell the same are different ids, each with its
    pairs.

    Raises:
        Incompatible: pieces that do not spell text when put side by side.
    """
    key = vocabulary.fingerprint, frozenset(vocabulary.added.values())
    if key not in _tables:
        _check(vocabulary)
        while len(_tables) >= KNOWN:
            _tables.pop(next(iter(_tables)))
        _tables[key] = _build(vocabulary)
    return _tables[key]


def _check(vocabulary: Vocabulary) -> None:
    # WordPiece puts spaces between pieces by a rule of its own: "play" + "ing" would come back as two words.
    if len(vocabulary.ids) > 1 and not any(piece and b" " in piece for piece in vocabulary):
        raise Incompatible(
            "vocabulary: its pieces must spell text when put side by side, spaces included; "
            "got none with a space, as in WordPiece; use a byte-level or SentencePiece tokenizer."
        )


def _build(vocabulary: Vocabulary) -> Splits:
    known: dict[bytes, list[int]] = {}
    whole = frozenset(vocabulary.added.values())
    for i, piece in enumerate(vocabulary):
        if piece and i not in whole:
            known.setdefault(piece, []).append(i)
    first: list[int] = []
    second: list[int] = []
    begins = [0]
    for i, piece in enumerate(vocabulary):
        size = len(piece) if piece and len(piece) <= LONGEST and i not in whole else 0
        for cut in range(1, size):
            assert piece is not None
            if (before := known.get(piece[:cut])) and (after := known.get(piece[cut:])):
                first += [a for a in before for _ in after]
                second += after * len(before)
        begins.append(len(first))
    edges = np.array(begins, dtype=np.int64)
    return Splits(edges, np.array(first, dtype=np.int64), np.array(second, dtype=np.int64), np.diff(edges))
