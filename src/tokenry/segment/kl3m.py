"""KL3M: byte pairs for a domain with its citations and markup as tokens, or of a few characters for text to correct."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tokenry.core.card import Card
from tokenry.core.fields import between, choice, natural, positive, setting, some_of
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.domain import GROUPS, outside
from tokenry.segment.training.pretokens import counted, joined, words
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import ALPHABET, END, Learnt, byte_level_steps, shown_in_bytes
from tokenry.segment.training.trainer import learn

JOINED = (2, 5)
"""Fewest and most words of a drawn piece."""


@dataclass(frozen=True, kw_only=True)
class Kl3m(FromFile):
    """Train byte pairs on the text of a domain, with text of the domain that is always one token.

    What it does
        Text is normalised by NFKC. Text of the groups in `add` is one token wherever it stands: runs of spaces,
        fragments of markup, years, numbers, enumerations, citations. The rest is split into words, and `train` merges
        the most frequent pairs in them, up to `longest` characters. With `longest=3,add=` an error of one letter
        changes one small token and leaves its neighbours as they are. With `across` words are joined at random in
        training, and text that is encoded is not split.
    Where it acts
        On raw text, before everything else.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        What comes back is NFKC of the text, in lower case with `cased=false`; the text itself with `nfkc=false`. No
        merged piece spans more than `longest` characters. Added text is one id in every context. The same corpus and
        seed give the same vocabulary, which covers every byte.
    Raises
        InvalidValue: in training too few ids, no text, a folder that exists, or numba that is missing; and what `bpe`
        refuses.
    Deviations
        See the card.
    Relations
        `bpe` learns without added text or a limit; `supertokens` learns across words by other draws.
    """

    card = Card(
        title="KL3M Tokenizers: Domain-Specific and Character-Level Tokenizers for Legal, Financial, and Preprocessing "
        "Applications",
        year=2025,
        url="https://arxiv.org/abs/2503.17247",
        summary="byte pairs of a domain with its own fixed tokens, or of a few characters for text with errors",
        trial={"source": "smollm2", "add": ("spaces", "markdown")},
        claims=(
            "of a text with errors of reading more tokens stay as they were with pieces of up to three characters than "
            "with plain byte pairs",
            "with 16,384 ids learnt from licences 32 % fewer tokens on licences held out than smollm2's 49,152 need "
            "(benchmarks/segment/trained.py)",
        ),
        deviations=(
            "the published list of added tokens is longer; here it is made from groups, and none is a letter or a word",
            "added text is taken out of the corpus before pieces are learnt",
            "random joining takes whole words; how the published code draws is not known",
        ),
    )

    kind: ClassVar[Kind] = "bpe"
    fewest: ClassVar[int] = len(ALPHABET) + 1
    used_up: ClassVar[str] = "no two short pieces stand side by side in a word as often as `frequency`"

    source: str = setting("smollm2", doc="a folder that `train` wrote, or any other vocabulary of byte pairs")
    add: tuple[str, ...] = some_of(*GROUPS, default=tuple(GROUPS), doc="in training: groups of text that is one token")
    longest: int = natural(0, doc="in training: characters of the longest merged piece; 0 for any, 3 or 4 for errors")
    frequency: int = positive(2, doc="in training: how often a pair occurs that is merged")
    cased: bool = setting(True, doc="in training: whether upper case stays")
    nfkc: bool = setting(True, doc="in training: whether characters of one meaning become one")
    across: str = choice("none", "whitespace", "chunks", default="none", doc="in training: how words are joined")
    share: float = between(
        0.0, 1.0, default=0.3, doc="in training: with `across`, spaces that end a piece, or text in chunks"
    )
    even: bool = setting(False, doc="in training: whether unused marks fill the ids up to a power of two")

    @property
    def fewest_ids(self) -> int:
        # A single character of ASCII is a byte, which has an id.
        return self.fewest + sum(text not in ALPHABET for text in self.added)

    @property
    def added(self) -> list[str]:
        """Text that is one token, each once."""
        found = (text if self.cased else text.lower() for name in self.add for text in GROUPS[name])
        return list(dict.fromkeys(found))

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """Merge the most frequent pairs of the words between added text; `seed` draws with `across`."""
        normal, cut = self._normaliser(), outside(self.added)
        draws = np.random.default_rng(seed)

        def split(text: str) -> list[str]:
            return [piece for part in cut(normal.normalize_str(text)) for piece in self._joined(words(part), draws)]

        found = learn(
            counted(texts(corpus, progress), split), vocab_size - self.fewest_ids + self.fewest,
            longest=self.longest, unit="characters", fewest=self.frequency, progress=progress,
        )  # fmt: skip
        step, decoder = byte_level_steps() if self.across == "none" else shown_in_bytes()
        description = found.description(normalizer=normal, pre_tokenizer=step, decoder=decoder)
        marks = {"eos_token": END, "bos_token": END}
        learnt = Learnt(description, marks, [END], self.added)
        missing = (1 << (len(learnt) - 1).bit_length()) - len(learnt) if self.even else 0
        return Learnt(description, marks, [END, *(f"<|unused_{i}|>" for i in range(missing))], self.added)

    def _normaliser(self) -> Any:
        from tokenizers import normalizers

        steps = [normalizers.NFKC()] * self.nfkc + [normalizers.Lowercase()] * (not self.cased)
        # Lower case of a composed letter may be two characters.
        return normalizers.Sequence([*steps, *[normalizers.NFKC()] * (self.nfkc and not self.cased)])

    def _joined(self, found: list[str], draws: np.random.Generator) -> list[str]:
        if self.across == "whitespace":
            return joined(found, lambda n: draws.geometric(max(self.share, 1e-9), n).clip(1, 64))
        if self.across == "chunks" and draws.random() < self.share:
            return joined(found, partial(_between, draws))
        return found


def _between(draws: np.random.Generator, size: int) -> np.ndarray:
    return draws.integers(JOINED[0], JOINED[1] + 1, size)
