"""Supertokens: learn merges from stretches of random length, so that tokens may hold several words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from tokenry.core.card import Card
from tokenry.core.fields import natural, positive, setting
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.pretokens import chunks, counted, nfc
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import ALPHABET, END, Learnt, shown_in_bytes
from tokenry.segment.training.trainer import learn

SHORTEST = 4
WEIGHTS = (0.044, 0.091, 0.146, 0.171, 0.185, 0.171, 0.146, 0.091, 0.044, 0.011)
"""How often a stretch has 4 or 5 characters, 6 or 7, and so on up to 22 or 23."""


@dataclass(frozen=True, kw_only=True)
class Supertokens(FromFile):
    """Train byte pairs across words, on stretches of text whose lengths are drawn.

    What it does
        `train` cuts text into stretches of 4 to 23 characters, wherever that is, with lengths drawn from a bell-shaped
        table, and merges the most frequent pairs inside them, so that a piece may hold several words. A run of equal
        characters is a stretch of its own. Text that is encoded is not split at all: merges run over the whole of it.
    Where it acts
        On raw text, before everything else.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        No piece has more than `longest` bytes. What comes back is the text in Unicode's composed form. The same corpus
        and seed give the same vocabulary, which covers every byte. Time grows with N log N.
    Raises
        InvalidValue: in training too few ids, no text, a folder that exists, or numba that is missing; and what `bpe`
        refuses.
    Deviations
        See the card.
    Relations
        `bpe` learns inside words. Text far away may change a token, since nothing ends where a word does.
    """

    card = Card(
        title="Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and Supertoken Learning",
        year=2025,
        url="https://arxiv.org/abs/2505.09738",
        summary="byte pairs learnt across words, on stretches of random length",
        trial={"source": "smollm2"},
        claims=(
            "no text takes time that grows with the square of its length, though merges run over all of it",
            "on prose held out 16 % fewer tokens than plain byte pairs with 16,384 ids, 11 % with 8,192, and 5 % with "
            "4,096, where at most 2 % were expected (benchmarks/segment/trained.py)",
        ),
        deviations=(
            "the separator character is never written into the text: what it would cut is cut",
            "a run of equal characters is a stretch of its own in training; in encoding nothing is",
        ),
    )

    kind: ClassVar[Kind] = "bpe"
    fewest: ClassVar[int] = len(ALPHABET) + 1
    used_up: ClassVar[str] = "no two short pieces stand side by side in a stretch as often as `frequency`"

    source: str = setting("smollm2", doc="a folder that `train` wrote, or any other vocabulary of byte pairs")
    longest: int = natural(30, doc="in training: bytes of the longest piece; 0 for any")
    frequency: int = positive(2, doc="in training: how often a pair occurs that is merged")
    run: int = natural(7, doc="in training: equal characters that are a stretch of their own; 0 for none")

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """Merge the most frequent pairs of stretches that are drawn by `seed`."""
        from tokenizers import normalizers

        split = partial(chunks, lengths=partial(_lengths, np.random.default_rng(seed)), run=self.run)
        counts = counted(map(nfc, texts(corpus, progress)), split)
        found = learn(counts, vocab_size, longest=self.longest, fewest=self.frequency, progress=progress)
        step, decoder = shown_in_bytes()
        description = found.description(normalizer=normalizers.NFC(), pre_tokenizer=step, decoder=decoder)
        return Learnt(description, {"eos_token": END, "bos_token": END}, [END])


def _lengths(generator: np.random.Generator, characters: int) -> Int[np.ndarray, "S"]:
    """Lengths of stretches that are enough for so many characters."""
    count = characters // SHORTEST + 1
    bucket = generator.choice(len(WEIGHTS), count, p=np.array(WEIGHTS) / sum(WEIGHTS))
    return SHORTEST + 2 * bucket + generator.integers(0, 2, count)
