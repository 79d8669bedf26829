"""Fold: say once what a text says several times, and leave nothing out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from tokenry.compress.base import Compressor
from tokenry.compress.folding.folded import fold
from tokenry.compress.units.page import Page
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.fields import between, size

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Fold(Compressor):
    """Write a text shorter so that every character comes back; first in a row of compressors.

    What it does
        Lines of a log with words in common: these once, as a template, and for each line its values. A list of JSON
        objects with the same keys: the keys once, and a row of values for each. Lines that come again, at least three
        or 120 characters: a name at the first, and the name alone further on. One line at the top says how to read it.
        Below a budget of 1, s(u) = new words in u / words in u, where new is what no unit before it says.
    Where it acts
        On a text, before any vocabulary. Tokens that a model holds are not respelled: of a batch it only keeps the
        units with most that is new.
    Shapes
        Document of U units -> scores (U).
    Guarantees
        `unfold(fold(text)) == text`, checked for every text; one that does not come back stays as it was. Never longer
        in tokens, and as it was where it would not become `least` shorter. What is protected stays. `budget=1.0` leaves
        nothing out, and changes no token of a batch.
    Raises
        InvalidValue: a field out of range, or a budget too small for `force`.
    Relations
        Others choose what to leave out, also of a folded text, whose templates and keys stay with what needs them:
        `--use fold --use lexical_relevance:budget=0.25,units=auto`.
    """

    card = Card(
        title="Dictionary coding of lines and records (baseline)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Dictionary_coder",
        summary="say once what logs, JSON and passages say several times; nothing is left out",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5},
    )

    budget: Budget = size(Budget(share=1.0), doc="document tokens that stay; all, where it is not less than 1")
    least: float = between(0.0, 1.0, default=0.05, doc="share of the tokens that folding must save")

    def spelled(self, text: str, count: Callable[[str], int]) -> str:
        found = fold(text)
        return found if found != text and count(found) <= (1 - self.least) * count(text) else text

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[np.ndarray, "U"]:
        seen: set[str] = set()
        scores = []
        for text in document.texts:
            words = set(_WORD.findall(text.lower()))
            scores.append(len(words - seen) / max(1, len(words)))
            seen |= words
        return np.array(scores)
