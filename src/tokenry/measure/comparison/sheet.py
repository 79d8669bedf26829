"""Any tokenizers beside each other: all that is counted of them, family by family, with intervals by document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.core.errors import InvalidValue
from tokenry.measure.base import Measured
from tokenry.measure.comparison import families
from tokenry.measure.morphology import Morphology
from tokenry.measure.morphs.gold import Word, words_of
from tokenry.measure.statistics.stream import Codec, codec_of
from tokenry.measure.tokenizer_information import TokenizerInformation

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "compression": ("bytes_per_token", "fixed_width_bits_per_byte", "gzip_ids_bits_per_byte", "lzma_ids_bits_per_byte"),
    "fertility": (),
    "fairness": (),
    "entropy": ("h1", "h2", "h3", "h1_bits_per_byte", "h2_bits_per_byte"),
    "capacity": ("vocabulary", "vocabulary_used", "capacity_use", "renyi_use"),
    "numbers": (),
    "morphology": (*Morphology.shown, "misspelled"),
    "robustness": (),
    "coverage": (),
    "hostile": (),
}
"""Families in the order of the page, with the numbers that are taken where not all are."""

ORDERS = 3


@dataclass(frozen=True, slots=True)
class Sheet:
    """Numbers of tokenizers.

    Args:
        measured: by tokenizer and family.
        facts: what was measured, in words.
    """

    measured: Mapping[str, Mapping[str, Measured]]
    facts: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tokenizers = [
            {"name": name, "families": {family: m.to_dict() for family, m in found.items()}}
            for name, found in self.measured.items()
        ]
        return {"facts": dict(self.facts), "tokenizers": tokenizers}

    def quantities(self, family: str) -> list[str]:
        """The names of the numbers of a family."""
        return list(dict.fromkeys(q for found in self.measured.values() for q in found[family].values))


def compare(
    tokenizers: Mapping[str, Any], texts: Sequence[str], *, languages: Mapping[str, Sequence[str]] | None = None,
    words: Sequence[Word] | None = None, draws: int = 100, tell: Callable[[str], None] = lambda _: None,
) -> Sheet:  # fmt: skip
    """Measure tokenizers over the same texts.

    Args:
        tokenizers: each a name, a fast tokenizer, or an object with `encode` and `vocabulary`.
        texts: documents.
        languages: the same passages in several languages, the first being what others are held against; the first
            articles of the Universal Declaration of Human Rights by default.
        words: words whose morphs are known; a few English ones by default.
        draws: corpora drawn for the intervals.
        tell: called with each tokenizer.

    Raises:
        InvalidValue: no tokenizer, no text, or languages without passages that belong together.
    """
    texts = [text for text in texts if text]
    if not tokenizers or not texts:
        what = "a text that is not empty" if tokenizers else "a tokenizer"
        raise InvalidValue(f"tokenizers: must have {what}; got none; pass at least one.")
    parallel = families.declaration() if languages is None else languages
    counts = {name: len(passages) for name, passages in parallel.items()}
    if len(counts) < 2 or len(set(counts.values())) != 1 or not all(counts.values()):
        raise InvalidValue(f"languages: must be two or more with as many passages each; got {counts or 'none'}.")
    gold = words_of((families.HERE / "english.txt").read_text(encoding="utf-8")) if words is None else list(words)
    measured = {}
    for name, tokenizer in tokenizers.items():
        tell(name)
        measured[name] = _one(codec_of(tokenizer), texts, parallel, gold, draws)
    facts = {
        "corpus": f"{len(texts):,} documents, {sum(len(t.encode('utf-8', 'replace')) for t in texts):,} bytes",
        "languages": ", ".join(parallel),
        "words": f"{len(gold):,} words whose morphs are known",
    }
    return Sheet(measured, facts)


def _one(
    codec: Codec, texts: Sequence[str], languages: Mapping[str, Sequence[str]], words: Sequence[Word], draws: int
) -> dict[str, Measured]:
    information = TokenizerInformation(tokenizer=codec, orders=ORDERS).over(texts, draws=draws)
    found = {family: _part(information, FAMILIES[family]) for family in ("compression", "entropy", "capacity")}
    found |= {
        "fertility": families.words(codec, texts, draws),
        "fairness": families.fairness(codec, languages, draws),
        "numbers": families.numerals(codec),
        "morphology": _part(Morphology(tokenizer=codec).over(words, draws=draws), FAMILIES["morphology"]),
        "robustness": families.robustness(codec, texts, draws),
        "coverage": families.coverage(codec, texts),
        "hostile": families.hostile(codec),
    }
    return {family: found[family] for family in FAMILIES}


def _part(measured: Measured, names: Sequence[str]) -> Measured:
    """Some of the numbers."""
    return Measured(
        who=measured.who, samples=measured.samples, values={n: measured.values[n] for n in names},
        intervals={n: measured.intervals[n] for n in names if n in measured.intervals},
    )  # fmt: skip
