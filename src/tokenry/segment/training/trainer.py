"""Learn merges of byte pairs from counted text: the one loop of every method that does.

What differs between methods are parts: the pieces that merges never cross (`pretokens`), how long a token may get, the
vocabulary that is there before, and who chooses among the most frequent pairs (`Score`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.models.text.vocabulary import byte_characters
from tokenry.segment.training.merges import Merges
from tokenry.segment.training.note import EVERY, Note
from tokenry.segment.training.pairs import Pairs
from tokenry.segment.training.progress import Progress, silent
from tokenry.segment.training.trained import ALPHABET


class Score(Protocol):
    """Chooses among the most frequent pairs.

    Args:
        width: how many it looks at.
        name: the same for scores that choose the same.
    """

    width: int
    name: str

    def choose(self, pairs: Sequence[tuple[int, int]], made: int) -> int:
        """Which pair becomes the next piece, with the id `made`; of the pairs the most frequent is the first."""

    def merged(self, left: int, right: int, made: int) -> None:
        """Hear which one it became."""


def fresh() -> Merges:
    """The mark for the end of a text and all 256 bytes."""
    known = {character: bytes([b]) for b, character in byte_characters().items()}
    return Merges([None, *(known[c] for c in sorted(ALPHABET))], [], [])


def begun(vocabulary: Vocabulary) -> Merges:
    """A vocabulary that is there already, with ids behind its own for bytes that it lacks.

    Raises:
        Incompatible: a vocabulary that was not made by merging.
    """
    ranked = sorted((rank, pair) for pair, (rank, _) in vocabulary.merges.items())
    pieces = [*vocabulary.pieces, *(bytes([b]) for b in vocabulary.missing_bytes)]
    return Merges(pieces, [pair for _, pair in ranked], [0] * len(ranked))


def learn(
    words: Mapping[str, int],
    size: int,
    *,
    begin: Merges | None = None,
    longest: int = 0,
    unit: Literal["bytes", "characters"] = "bytes",
    fewest: int = 1,
    score: Score | None = None,
    progress: Progress = silent,
    every: float = EVERY,
) -> Merges:
    """Merge the most frequent pair again and again, until there are `size` ids or no pair is left.

    Of equally frequent pairs the one with the lower ids goes first. An interrupted training of the same words goes on
    where it was, in the cache folder; one that is done leaves nothing there.

    Args:
        words: pieces of text that merges never cross, with how often each occurs.
        begin: what there is before the first merge.
        longest: of a token, in units; 0 for any length.
        fewest: occurrences of a pair that is merged.
        score: chooses among the most frequent pairs; without one the most frequent goes.
        every: seconds between two notes of how far it is.

    Raises:
        InvalidValue: no words, or more than memory numbers.
    """
    found = begin or fresh()
    found = Merges([*found.pieces], [*found.pairs], [*found.counts])
    known = {piece: i for i, piece in reversed(list(enumerate(found.pieces))) if piece is not None}
    pairs = _pairs(words, found, known, longest, unit)
    for left, right in found.pairs:
        pairs.merge(left, right, _made(found, known, left, right))
        if score:
            score.merged(left, right, _made(found, known, left, right))
    note = Note(words, found, (longest, unit, fewest, score.name if score else ""), every)
    earlier, width = note.read(), score.width if score else 1
    while len(found.pieces) < size:
        if len(found.pairs) % 128 == 0:
            progress("merging", len(found.pieces), size)
            note.write(found)
        if earlier:
            left, right, count = earlier.pop()
            if not 0 <= min(left, right) <= max(left, right) < len(found.pieces):
                earlier = []
                continue
        else:
            best = pairs.best(width, fewest)
            if not best:
                break
            at = score.choose([(a, b) for a, b, _ in best], len(found.pieces)) if score and len(best) > 1 else 0
            left, right, count = best[at]
        made = _made(found, known, left, right)
        pairs.merge(left, right, made)
        found.pairs.append((left, right))
        found.counts.append(count)
        if score:
            score.merged(left, right, made)
    note.remove()
    return found


def _made(found: Merges, known: dict[bytes, int], left: int, right: int) -> int:
    """The id of two pieces together, which two different pairs may give."""
    whole = (found.pieces[left] or b"") + (found.pieces[right] or b"")
    if whole not in known:
        known[whole] = len(found.pieces)
        found.pieces.append(whole)
    return known[whole]


def _pairs(words: Mapping[str, int], found: Merges, known: Mapping[bytes, int], longest: int, unit: str) -> Pairs:
    spelled = [word.encode() for word in words]
    if not spelled:
        raise InvalidValue("corpus: must hold some text; got none.")
    ids = np.array([known[bytes([b])] for b in range(256)], np.int32)
    lengths = np.fromiter(map(len, spelled), np.int64, len(spelled))
    counts = np.fromiter(words.values(), np.int64, len(spelled))
    inside = [False] * len(found.pieces)
    if unit == "characters":
        inside = [bool(piece) and 0x80 <= piece[0] < 0xC0 for piece in found.pieces]  # type: ignore[index]
    sizes = [_size(piece, unit) for piece in found.pieces]
    text = np.frombuffer(b"".join(spelled), np.uint8)
    return Pairs(ids[text], lengths, counts, longest=longest, sizes=sizes, inside=inside)


def _size(piece: bytes | None, unit: str) -> int:
    """Bytes, or characters of which at least a part is there."""
    if unit == "bytes" or not piece:
        return len(piece or b"")
    return sum(not 0x80 <= b < 0xC0 for b in piece) + (0x80 <= piece[0] < 0xC0)
