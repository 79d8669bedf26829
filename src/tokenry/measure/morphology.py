"""Morphology: whether the pieces of words are the parts they are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from tokenry.core.card import Card
from tokenry.core.fields import positive, setting
from tokenry.measure.base import Metric, Numbers, Pool, Weights
from tokenry.measure.morphs.distance import edits
from tokenry.measure.morphs.gold import Word, words_of
from tokenry.measure.statistics.stream import Codec, codec_of, pieces_of


@dataclass(frozen=True, kw_only=True)
class Morphology(Metric):
    """Compare how a tokenizer cuts words with the parts they are made of.

    What it does
        A word of the morphs m1..mn has boundaries where they end, in characters; so have its pieces. Precision and
        recall are counted over all words together (`boundary_f1`) and averaged over words (`macro_f1`).
        Over-segmentation is the mean of pieces / morphs, under-segmentation that of morphs / pieces. A lemma is atomic
        where it is exactly the first piece, and hit where some piece ends with it. Of the `top` most frequent suffixes
        `affix_coverage` is the share that is a whole piece somewhere; `affix_atomicity` is the share of all suffixes
        that are one piece, also kind by kind. Pieces against morphs as sequences: error rates of morphs
        (`morph_error_rate`, `match_error_rate`, information preserved and lost) and of characters.
    Where it acts
        On words whose morphs are known and any tokenizer: a name, a fast tokenizer, or an object with `encode` and
        `vocabulary`.
    Shapes
        a word, words, or lines such as `ev+ler+imiz+den` -> name to number; `over` a corpus also intervals by
        bootstrap over its samples.
    Guarantees
        Morphs against themselves give F1 1, over- and under-segmentation 1 and error rates 0. Single characters give
        recall 1 and precision (morphs - 1) / (characters - 1). Words whose pieces do not spell them are counted by
        `misspelled`, and left out of all else. The tokenizer is not changed.
    Raises
        InvalidValue: a tokenizer that is none, a word with an empty morph, or no word.
        UnknownModel: no tokenizer of this name.
    Deviations
        See the card.
    Relations
        `morph_hybrid` is a tokenizer made for it. Information in tokens is `tokenizer_information`.
    """

    card = Card(
        title="Optimal Turkish Subword Strategies at Scale: Systematic Evaluation of Data, Vocabulary, Morphology "
        "Interplay",
        year=2026,
        url="https://arxiv.org/abs/2602.06942",
        summary="boundaries, lemmas and affixes in the pieces of words whose morphs are known",
        trial={"tokenizer": "bytes", "top": 3},
        claims=("hand-counted words, morphs against themselves, and single characters give the numbers they must",),
        deviations=(
            "the end of a word is no boundary unless `include_final` says so; the published code counts it",
            "error rates compare lists of morphs; the published code joins them into one word, of which the rate is "
            "1 - exact match",
            "pieces are the bytes of the text that a token stands for, where the tokenizer says which",
            "a boundary inside a character, between bytes of it, is a piece and no boundary",
            "models of the grid are not trained: only the measures of segmentation are here",
        ),
    )

    tokenizer: Any = setting("smollm2", doc="a name, a fast tokenizer, or an object with encode and vocabulary")
    space: bool = setting(True, doc="whether words are encoded behind a space, as inside a text")
    include_final: bool = setting(False, doc="whether the end of a word counts as a boundary")
    top: int = positive(200, doc="most frequent suffixes of which the coverage is counted")
    shown = (
        "boundary_f1", "boundary_precision", "boundary_recall", "lemma_atomicity", "over_segmentation",
        "under_segmentation", "affix_coverage", "fertility",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.tokenizer, str):
            object.__setattr__(self, "tokenizer", codec_of(self.tokenizer))

    @property
    def codec(self) -> Codec:
        """The tokenizer, loaded where it was given by name."""
        return codec_of(self.tokenizer)

    def measure(self, sample: Any) -> Numbers:
        return self.pool([sample])(np.ones(1))

    def pieces(self, word: str) -> list[bytes]:
        """The pieces of a word, without the space before it and what spells nothing."""
        spelled = pieces_of(self.codec, f" {word}" if self.space else word)
        if self.space:
            while spelled and not spelled[0].lstrip(b" "):
                spelled.pop(0)
            if spelled:
                spelled[0] = spelled[0].lstrip(b" ")
        return [piece for piece in spelled if piece]

    def pool(self, samples: Sequence[Any]) -> Pool:
        groups = [words_of(sample) for sample in samples]
        home = np.array([i for i, group in enumerate(groups) for _ in group], dtype=np.int64)
        words = [word for group in groups for word in group]
        known: dict[str, list[bytes]] = {word.text: [] for word in words}
        for text in known:
            known[text] = self.pieces(text)
        counted = {word: self._row(word, known[word.text]) for word in dict.fromkeys(words)}
        rows = [counted[word] for word in words]
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = np.array([[row.get(name, 0.0) for name in names] for row in rows]).reshape(len(rows), len(names))
        suffixes = [list(zip(word.morphs, word.named, strict=True))[1:] for word in words]
        found = {word: _whole(word, known[word.text]) for word in counted}
        whole = [found[word] for word in words]

        def numbers(weights: Weights) -> Numbers:
            each = weights[home]
            total = dict(zip(names, (each @ table).tolist(), strict=True)) if len(rows) else {}
            return _numbers(total) | self._affixes(suffixes, whole, each)

        return numbers

    def _row(self, word: Word, pieces: list[bytes]) -> Numbers:
        """What adds up over words."""
        if b"".join(pieces) != word.text.encode():
            return {"words": 1.0, "misspelled": 1.0}
        size = len(word.text)
        spelled = [piece.decode("utf-8", "surrogateescape") for piece in pieces]
        final = {size} if self.include_final else set()
        gold = set(word.ends[:-1]) | final
        found = (_ends(word.text, pieces) - {size}) | final
        right = len(gold & found)
        lemma = len(word.morphs[0])
        morphs, characters = edits(word.morphs, spelled), edits("+".join(word.morphs), "+".join(spelled))
        return {
            "words": 1.0, "measured": 1.0, "pieces": len(pieces), "morphs": len(word.morphs),
            "right": right, "gold": len(gold), "found": len(found),
            "macro_precision": right / len(found) if found else float(not gold),
            "macro_recall": right / len(gold) if gold else float(not found),
            "macro_f1": 2 * right / (len(gold) + len(found)) if gold or found else 1.0,
            "lemma_atomicity": float(pieces[0] == word.morphs[0].encode()),
            "lemma_boundary": float(lemma == size or lemma in _ends(word.text, pieces)),
            "over": len(pieces) / len(word.morphs), "under": len(word.morphs) / len(pieces),
            "exact": float(spelled == list(word.morphs)), "single": float(len(pieces) == 1),
            "hits": morphs.hits, "edits": morphs.total, "aligned": morphs.total + morphs.hits,
            "character_edits": characters.total, "characters": len("+".join(word.morphs)),
        }  # fmt: skip

    def _affixes(self, suffixes: list[list[tuple[str, str]]], whole: list[list[bool]], each: Weights) -> Numbers:
        """Coverage of the most frequent suffixes, and how many of all are one piece, in all and kind by kind."""
        counts: Counter[str] = Counter()
        covered: set[str] = set()
        seen: Counter[str] = Counter()
        atomic: Counter[str] = Counter()
        for morphs, pieces, weight in zip(suffixes, whole, each.tolist(), strict=True):
            if not weight:
                continue
            for (morph, kind), one in zip(morphs, pieces, strict=True):
                counts[morph] += weight
                seen[kind] += weight
                if one:
                    covered.add(morph)
                    atomic[kind] += weight
        most = sorted(counts, key=lambda m: (-counts[m], m))[: self.top]
        found = {"affix_coverage": sum(m in covered for m in most) / len(most) if most else float("nan")}
        found["affix_atomicity"] = _share(sum(atomic.values()), sum(seen.values()))
        return found | {f"affix_atomicity_{kind}": _share(atomic[kind], seen[kind]) for kind in sorted(seen)}


def _ends(word: str, pieces: list[bytes]) -> set[int]:
    """The characters at which pieces end; ends inside of a character are none."""
    characters = {end: i for i, end in enumerate(accumulate((len(c.encode()) for c in word), initial=0))}
    return {characters[end] for end in accumulate(map(len, pieces)) if end in characters}


def _whole(word: Word, pieces: list[bytes]) -> list[bool]:
    """For every suffix whether it is exactly one piece."""
    ends = list(accumulate(map(len, pieces), initial=0))
    spans = set(pairwise(ends)) if b"".join(pieces) == word.text.encode() else set()
    marks = list(accumulate(len(m.encode()) for m in word.morphs))
    return [span in spans for span in pairwise(marks)]


def _numbers(total: Numbers) -> Numbers:
    """Numbers from what was added up."""
    sums = Counter(total)
    words, right = sums["measured"], sums["right"]
    precision, recall = _share(right, sums["found"]), _share(right, sums["gold"])
    found = {
        "words": sums["words"],
        "misspelled": _share(sums["misspelled"], sums["words"]),
        "boundary_precision": precision,
        "boundary_recall": recall,
        "boundary_f1": _share(2 * right, sums["found"] + sums["gold"]),
        **{name: _share(sums[name], words) for name in ("macro_precision", "macro_recall", "macro_f1")},
        "lemma_atomicity": _share(sums["lemma_atomicity"], words),
        "lemma_boundary": _share(sums["lemma_boundary"], words),
        "over_segmentation": _share(sums["over"], words),
        "under_segmentation": _share(sums["under"], words),
        "exact": _share(sums["exact"], words),
        "morph_error_rate": _share(sums["edits"], sums["morphs"]),
        "match_error_rate": _share(sums["edits"], sums["aligned"]),
        "information_preserved": _share(sums["hits"] ** 2, sums["morphs"] * sums["pieces"]),
        "character_error_rate": _share(sums["character_edits"], sums["characters"]),
        "fertility": _share(sums["pieces"], words),
        "single_token": _share(sums["single"], words),
        "continued_words": 1 - _share(sums["single"], words),
        "continuing_pieces": _share(sums["pieces"] - words, sums["pieces"]),
    }
    found["information_lost"] = 1 - found["information_preserved"]
    return {name: float(value) for name, value in found.items()}


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
