"""Random units: the control that any choice of text must beat."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from tokenry.compress.base import Compressor
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.fields import natural

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel


@dataclass(frozen=True, kw_only=True)
class RandomUnits(Compressor):
    """Keep a random choice of sentences, words or tokens.

    What it does
        score(u) = hash(seed, number of the unit in its row, its text), uniform in [0, 1).
    Where it acts
        On the text, before the first layer; needs neither a query nor a model.
    Shapes
        Document of U units -> scores (U).
    Guarantees
        The same text and seed give the same choice, whatever the padding and the other rows of the batch, and the
        global random state is neither read nor changed. `budget=1.0` changes nothing. The kept count is exact.
    Raises
        InvalidValue: a field out of range, or a budget too small for `force`.
    Relations
        The control for every other compressor at equal tokens and equal units.
    """

    card = Card(
        title="Random choice of text (control)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Scientific_control",
        summary="a random choice of sentences, words or tokens, the control for every other compressor",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5},
    )

    seed: int = natural(0, doc="of the random choice")

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[np.ndarray, "U"]:
        return np.array([_draw(f"{self.seed}:{i}:{text}") for i, text in enumerate(document.texts)])


def _draw(key: str) -> float:
    """A number in [0, 1) from a text."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
