"""A text with its units, words and sentences, as a method that scores them sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenry.compress.units.cut import Cut
from tokenry.compress.units.sentences import sentence_bounds, words

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 2000
"""Characters beyond which a sentence of a text without tokens is cut."""


@dataclass(frozen=True, eq=False)
class Units:
    """A partition of a text's tokens into runs.

    Args:
        of: number of the unit that each token belongs to, ascending from 0 without holes.
        bounds: first character and end of each unit in the text, white space around it left out.
    """

    of: Int[np.ndarray, "T"]
    bounds: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.bounds)

    @cached_property
    def first(self) -> Int[np.ndarray, "U"]:
        """First token of each unit."""
        return np.flatnonzero(np.diff(self.of, prepend=-1))

    def within(self, larger: Units) -> Int[np.ndarray, "U"]:
        """For each unit, the unit of a coarser partition that holds it."""
        return larger.of[self.first]

    def mean(self, values: Any) -> Tensor:
        """Mean (U) of a value (T) of the tokens over each unit; a unit without tokens has 0."""
        import torch

        of = torch.from_numpy(self.of)
        total = torch.zeros(len(self), dtype=values.dtype).index_add(0, of, values)
        return total / torch.bincount(of, minlength=len(self)).clamp_min(1)


class Page:
    """A text with its tokens, and these grouped by words, by sentences, and by the units that are scored.

    Args:
        text: what it says.
        ids: vocabulary ids of the tokens, where it has any.
        free: True for tokens that may be dropped; the budget counts these.
        starts: first character of each token in `text`, and `ends` the one behind its last.
    """

    text: str
    ids: Any
    free: Bool[np.ndarray, "T"]
    starts: Int[np.ndarray, "T"]
    ends: Int[np.ndarray, "T"]
    tokens: Units
    words: Units
    sentences: Units
    cut: Cut

    @cached_property
    def units(self) -> Units:
        return _Lazily(self, self.cut.start, self.cut.end)

    @property
    def texts(self) -> list[str]:
        """What every unit tells a reader."""
        return self.texts_of(self.units)

    def texts_of(self, units: Units) -> list[str]:
        return [self.text[start:end] for start, end in units.bounds]

    def of_words(self, values: Any) -> Float[np.ndarray, "U"]:
        """Values of the words (W) as those of the units (U): the mean over a unit's tokens, each worth its word."""
        values = np.asarray(values, dtype=np.float64)[self.words.of]
        total = np.bincount(self.units.of, weights=values, minlength=len(self.units))
        return total / np.maximum(np.bincount(self.units.of, minlength=len(self.units)), 1)

    @property
    def size(self) -> int:
        """Tokens that may be dropped."""
        return int(self.free.sum())


class TextPage(Page):
    """A text by itself, whose tokens are its words; what nobody asks for is not looked for.

    Args:
        cut: how the text is cut into units.
    """

    ids = None

    def __init__(self, text: str, cut: Cut) -> None:
        self.text, self.cut = text, cut

    @cached_property
    def words(self) -> Units:  # type: ignore[override]
        found = words(self.text)
        return Units(np.arange(len(found)), found)

    @property
    def tokens(self) -> Units:  # type: ignore[override]
        return self.words

    @cached_property
    def starts(self) -> Int[np.ndarray, "T"]:  # type: ignore[override]
        return np.array([a for a, _ in self.words.bounds], dtype=np.int64)

    @cached_property
    def ends(self) -> Int[np.ndarray, "T"]:  # type: ignore[override]
        return np.array([b for _, b in self.words.bounds], dtype=np.int64)

    @cached_property
    def free(self) -> Bool[np.ndarray, "T"]:  # type: ignore[override]
        return np.ones(len(self.starts), dtype=bool)

    @cached_property
    def sentences(self) -> Units:  # type: ignore[override]
        found = sentence_bounds(self.text, LONGEST)
        return _Lazily(self, np.array([a for a, _ in found]), np.array([b for _, b in found]))

    @property
    def texts(self) -> list[str]:
        return self.cut.shown(self.text)


class _Lazily(Units):
    """Units of a page whose tokens are looked for only where they are asked for."""

    def __init__(self, page: Page, starts: Int[np.ndarray, "U"], ends: Int[np.ndarray, "U"]) -> None:
        vars(self).update(_page=page, _starts=starts, _ends=ends)

    def __len__(self) -> int:
        return len(vars(self)["_starts"])

    @cached_property
    def bounds(self) -> Sequence[tuple[int, int]]:
        page, starts, ends = (vars(self)[name] for name in ("_page", "_starts", "_ends"))
        return [_bare(page.text, a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    @cached_property
    def of(self) -> Int[np.ndarray, "T"]:
        page, starts = vars(self)["_page"], vars(self)["_starts"]
        return np.maximum(np.searchsorted(starts, page.starts, side="right") - 1, 0)


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters of a unit without the white space around it."""
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    return start + lead, max(start + lead, start + len(piece.rstrip()))
