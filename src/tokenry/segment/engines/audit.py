"""Hold a vocabulary and the fast libraries for it against a corpus: what is wrong once is never used again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokenry.core.vocabulary import Vocabulary
from tokenry.models.files.vocabularies.opened import Opened
from tokenry.segment.engines.barred import bar, unbar
from tokenry.segment.engines.encoding import checked, runner
from tokenry.segment.engines.fast import Encode, candidates
from tokenry.segment.engines.hostile import thorough
from tokenry.segment.engines.lossless import Lossless

RUNS = ("a", "^", " ", "中", "ab")
"""What a text is made of that some libraries take very long for."""

LONG, PARTS, STEEP = 100_000, 8, 3.0
"""Characters of such a text, parts that it is timed against, and how much longer than in line it may take."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A library beside the one that the vocabulary was made for.

    Args:
        name: of the library.
        wrong: texts for which it gives other ids, or fails.
        texts: how many there were.
        example: the beginning of the first one that it gets wrong.
        steep: the run of characters for which its time grows faster than the text, or nothing.
        speed: megabytes of the corpus a second; 0 where that is too short to say.
    """

    name: str
    wrong: int
    texts: int
    example: str
    steep: str
    speed: float

    @property
    def good(self) -> bool:
        """Whether it may be used."""
        return not self.wrong and not self.steep


@dataclass(frozen=True, slots=True)
class Audit:
    """What is to be known of a vocabulary before it is trusted.

    Args:
        missing_bytes: that have no piece.
        duplicates: pieces that several ids spell.
        unreachable: ids that merging never gives, such as pieces nothing merges to.
        lossless: what decoding gives back.
        engines: that are installed and take it.
    """

    missing_bytes: tuple[int, ...]
    duplicates: int
    unreachable: tuple[int, ...]
    lossless: Lossless
    engines: tuple[Engine, ...]


def audit(opened: Opened, corpus: Iterable[str | bytes], special: bool = False) -> Audit:
    """Compare the ids of every fast library with those of the original, on hostile texts and on a corpus.

    A library that gives other ids for any text, or whose time grows faster than the text, is not chosen for this
    vocabulary any more, until an audit finds nothing.
    """
    run = runner(opened, special)
    given = [text for raw in corpus if isinstance(text := checked(raw), str)]
    texts = [*thorough(opened.marks, opened.vocabulary), *given]
    right = [run.original.ids(text) for text in texts]
    engines = []
    for name, encode in candidates(opened, special):
        engine = _compared(name, encode, texts, right, len(given))
        (unbar if engine.good else bar)(opened, name)
        engines.append(engine)
    runner.cache_clear()  # Whoever chose before the audit chooses anew.
    vocabulary = opened.vocabulary
    return Audit(
        vocabulary.missing_bytes, len(vocabulary.duplicates), unreachable(vocabulary), run.lossless, tuple(engines)
    )


def unreachable(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids of pieces that merging never gives for their own bytes; nothing is said of other vocabularies."""
    if vocabulary.merging is None or vocabulary.whole_first:
        return ()
    added = set(vocabulary.added.values())
    pieces = (i for i, piece in enumerate(vocabulary) if piece and i not in added)
    return tuple(i for i in pieces if not vocabulary.valid([i]))


def _compared(name: str, encode: Encode, texts: list[str], right: list[np.ndarray], given: int) -> Engine:
    wrong = [text for text, ids in zip(texts, right, strict=True) if not _same(encode, text, ids)]
    steep = "" if wrong else next((run for run in RUNS if _grows(encode, run)), "")
    mine = texts[len(texts) - given :]
    start, size = time.perf_counter(), sum(map(len, mine))
    if not wrong:
        for text in mine:
            encode(text)
    seconds = time.perf_counter() - start
    speed = size / seconds / 1e6 if not wrong and size > 100_000 else 0.0
    return Engine(name, len(wrong), len(texts), wrong[0][:40] if wrong else "", steep, speed)


def _same(encode: Encode, text: str, ids: np.ndarray) -> bool:
    try:
        return np.array_equal(encode(text), ids)
    except BaseException as error:
        # Rust code that gives up raises something that is no Exception.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return False


def _grows(encode: Encode, run: str) -> bool:
    """Whether time grows faster than the text; each text is another one, so that no cache answers."""

    def seconds(characters: int) -> float:
        best = float("inf")
        for turn in range(3):
            text = f"{turn} " + run * (characters // len(run))
            start = time.process_time()
            encode(text)
            best = min(best, time.process_time() - start)
        return best

    # Less than a millisecond says more about the clock.
    return seconds(LONG) > STEEP * PARTS * max(seconds(LONG // PARTS), 1e-3)
