"""Triadic suffixes: numbers in groups of three digits, each of which says its order of magnitude."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, positive, setting
from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.base import Tokenizer
from tokenry.segment.engines.encoding import checked, known_ids
from tokenry.segment.engines.lossless import Lossless
from tokenry.segment.engines.spelling_base import spelling_base
from tokenry.segment.numbers.literals import SIGNS, Literal, literals
from tokenry.segment.numbers.triad_ids import TriadIds
from tokenry.segment.numbers.triads import signs

Sized = tuple[list[int], list[int]]
"""Ids, and how many bytes of the text each stands for."""


@dataclass(frozen=True, kw_only=True)
class TriadicSuffix(Tokenizer):
    """Encode numbers in groups of three digits with their order of magnitude, and all else with another tokenizer.

    What it does
        A number is cut into groups of three digits, from the right before the decimal sign and from the left behind
        it, where the last group is filled up with zeros. Group i before it means digits * 1000^i and is labelled none,
        k, m, b, t, q; group n behind it means digits * 1000^-n and is labelled n times p. With `form="fused"` a group
        and its label are one of 1,000 ids for each label; with `form="marked"` the digits are tokens of `base`, and an
        id for the label follows.
    Where it acts
        On raw text, before everything else. Ids of the base stay what they are; new ones follow behind them.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        With `exact` every byte comes back that the base gives back: three more kinds of ids say which separator stands
        between groups, how many zeros lead, and how many digits of the last group only fill it up. Without `exact` the
        value comes back: separators, leading zeros and exponents go. Without those ids a number takes one id for
        every three digits begun and one for the point. Digits of versions, dates, times, addresses, telephone numbers
        and identifiers are left to the base, and so are numbers of more groups than there are labels.
    Raises
        UnknownModel: no tokenizer has the name of the base.
        InvalidValue: a base whose pieces do not spell the text; half a surrogate pair; an id that there is not.
    Deviations
        See the card.
    Relations
        `shown` writes a text as the paper prints it. `extended` gives a model rows for the new ids.
    """

    card = Card(
        title="A Triadic Suffix Tokenization Scheme for Numerical Reasoning",
        year=2026,
        url="https://arxiv.org/abs/2604.11582",
        summary="numbers as groups of three digits that name their magnitude, in front of any tokenizer",
        trial={"base": "sample-unigram"},
        claims=(
            "exact value back for 100,000 random numbers over 33 orders of magnitude, exact text for all literals",
            "a tiny model compares 5.5 points more numbers right with fused ids than with groups of three; digits "
            "before the point are no better, marked ids compare no better than single digits, and numbers of 7 to 9 "
            "digits 17 points worse (benchmarks/segment/triadic_suffix.py)",
        ),
        deviations=(
            "`exact` adds ids for separators, leading zeros and filled-up digits; the paper loses them",
            "the label-free group of units has ids of its own too: 11,000 fused ids where the paper counts 10,000",
            "the paper gives no rows for the new ids: here the mean of the digits' rows and a vector for each label",
            "an exponent stays text with `exact`, and is written out without",
        ),
        exempt={
            "interleaved_values_do_not_see_each_other": "marks are those of its base, which opens its own file",
            "training_is_the_same_twice": "its ids follow from labels and digits; only the base is trained",
            "what_was_trained_opens_everywhere": "its ids follow from labels and digits; only the base is trained",
            "training_helps": "its ids follow from labels and digits; only the base is trained",
            "what_cannot_be_trained": "its ids follow from labels and digits; only the base is trained",
            "an_interrupted_training_leaves_nothing": "its ids follow from labels and digits; only the base is trained",
        },
    )

    base: str = setting("smollm2", doc="the tokenizer of all other text, as open_tokenizer takes it")
    form: str = choice("fused", "marked", default="fused", doc="one id for digits and label, or digits, then a label")
    exact: bool = setting(True, doc="whether ids say separators, leading zeros and filled-up digits")
    decimal: str = choice(".", ",", default=".", doc="the decimal sign of the texts")
    orders: int = positive(6, doc="groups of three digits before the decimal sign; 6 reach to 10^18")
    depth: int = positive(5, doc="groups of three digits after the decimal sign; 5 reach to 10^-15")

    def encode(self, raw: str | bytes) -> TokenSequence:
        text = checked(raw)
        ids: list[int] = []
        sizes: list[int] = []
        for found, stand_for in self._parts(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")):
            ids += found
            sizes += stand_for
        ends = torch.tensor(sizes, dtype=torch.long).cumsum(0)
        spans = torch.zeros(len(ends), 6, dtype=torch.long)
        spans[1:, 0], spans[:, 1] = ends[:-1], ends
        return TokenSequence(
            ids=torch.tensor(ids, dtype=torch.long),
            source=torch.zeros(len(ends), dtype=torch.long),
            spans=spans,
            sources=(Source("text", text),),
        )

    def decode(self, tokens: Iterable[int] | TokenSequence) -> bytes:
        ids = known_ids(tokens, self.vocab_size)
        base = self._base
        plain = {i: base.decode([i]) for i in set(ids) if i < base.vocab_size}
        return self._table.written(ids, plain)

    def shown(self, raw: str) -> str:
        """The tokens with spaces between them, as the paper prints them: `12m 345k 678 . 123p 400pp`."""
        base = self._base
        return self._table.shown(self.encode(raw).ids.tolist(), lambda i: base.decode([i]).decode("utf-8", "replace"))

    def extended(self, rows: Float[Tensor, "V E"], *, seed: int = 0) -> Float[Tensor, "W E"]:
        """Rows of a model for all ids: those of the base, and for the others their digits' mean and their label's own.

        Args:
            rows: input or output rows of the model of the base; what it has beyond the base's ids is given up.
            seed: of the vectors of the labels.

        Raises:
            InvalidValue: fewer rows than the base has ids.
        """
        base = self._base
        if len(rows) < base.vocab_size:
            raise InvalidValue(
                f"triadic_suffix: rows must be {base.vocab_size} or more, one for each id of {self.base}; got "
                f"{len(rows)}."
            )
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randn(self._table.labels, rows.shape[1], generator=generator).to(rows) * rows.std()
        digits = {str(d): rows[base.encode(str(d)).ids].mean(0) for d in range(10)}
        mean, new = rows[: base.vocab_size].mean(0), []
        for piece, label in self._table.described():
            new.append((torch.stack([digits[d] for d in piece]).mean(0) if piece else mean) + labels[label])
        return torch.cat((rows[: base.vocab_size], torch.stack(new)))

    @property
    def vocabulary(self) -> Vocabulary:
        return _vocabulary(self._base.vocabulary, self._table)

    @property
    def lossless(self) -> Lossless:
        found = self._base.lossless
        if self.exact or found.level == "lossy":
            return found
        return Lossless("normalised", "numbers are written out in full groups, without separators and leading zeros")

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """With the tokenizer of a folder as its base."""
        return cls(base=str(folder))

    @property
    def _base(self) -> Tokenizer:
        return spelling_base(self.base, self.name(), "base")

    @property
    def _table(self) -> TriadIds:
        return _numbers(self._base.vocab_size, self.form == "fused", self.decimal, self.orders, self.depth)

    def _parts(self, text: str) -> Iterator[Sized]:
        """Ids and how many bytes each stands for, part by part: text before a number, its sign, the number."""
        base, table, at = self._base, self._table, 0
        kept: dict[str, Sized] = {}

        def plain(part: str) -> Sized:
            if part not in kept:
                found = base.encode(part.encode("utf-8", "surrogateescape"))
                kept[part] = found.ids.tolist(), (found.spans[:, 1] - found.spans[:, 0]).tolist()
            return kept[part]

        def digits(part: str) -> list[tuple[int, int]]:
            return list(zip(*plain(part), strict=True))

        for literal in literals(text, self.decimal, self.orders, self.depth):
            number = literal if self.exact else literal.written_out()
            if not self._fits(number):
                continue
            begin = literal.start - (literal.start > at and text[literal.start - 1] in SIGNS)
            yield from (plain(part) for part in (text[at:begin], text[begin : literal.start]) if part)
            at = number.end
            yield _sized(text[literal.start : at], table.ids(signs(number, self.exact), digits))
        if at < len(text):
            yield plain(text[at:])

    def _fits(self, number: Literal) -> bool:
        return len(number.whole) <= 3 * self.orders and len(number.fraction) <= 3 * self.depth


def _sized(text: str, tokens: list[tuple[int, int]]) -> Sized:
    """Ids and bytes of a number, of which each id covers so many characters and the last one all that are left."""
    sizes, at = [], 0
    for _, covers in tokens:
        sizes.append(len(text[at : at + covers].encode()))
        at += covers
    sizes[-1] += len(text[at:].encode())
    return [i for i, _ in tokens], sizes


@lru_cache(maxsize=8)
def _numbers(first: int, fused: bool, decimal: str, orders: int, depth: int) -> TriadIds:
    return TriadIds(first, fused, decimal, orders, depth)


@lru_cache(maxsize=8)
def _vocabulary(base: Vocabulary, table: TriadIds) -> Vocabulary:
    return Vocabulary((*base, *table.pieces()))
