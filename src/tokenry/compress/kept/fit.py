"""From scores to exactly as many tokens as asked for: whole units first, whole words next, single tokens last."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.compress.units.page import Page, Units


def fit(
    document: Page, scores: Float[Tensor, "U"], count: int, forced: Bool[np.ndarray, "W"] | None = None
) -> Bool[np.ndarray, "T"]:
    """Which tokens of a document stay: all that are not free, and exactly `count` of those that are.

    1. The forced words; their free tokens must not be more than `count`.
    2. The best units, each whole, down the ranking; one that does not fit is passed over for smaller ones.
    3. Words of the best units left out, the first words first.
    4. One kept word is exchanged for a longer one that makes the number exact.
    5. Where no word does, the beginning of one: all its letters if possible, as when only a full stop is left off.

    Equal scores keep the order of the text.

    Args:
        scores: of every unit of `document.units`; higher stays.
        count: free tokens that stay, at most `document.size`.
        forced: words that stay whatever their score.
    """
    order = scores.argsort(descending=True, stable=True).tolist()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    word_order = np.argsort(rank[document.words.within(document.units)], kind="stable").tolist()
    choice = _Choice(document, count)
    if forced is not None:
        choice.fill(document.words, np.flatnonzero(forced).tolist())
    choice.fill(document.units, order)
    choice.fill(document.words, word_order)
    choice.exchange(word_order, forced)
    choice.cut(word_order)
    assert choice.left == 0
    return choice.kept | ~document.free


class _Choice:
    """The tokens that stay so far, and how many more may."""

    def __init__(self, document: Page, count: int) -> None:
        self.document = document
        self.free = document.free
        self.kept = np.zeros(len(document.free), dtype=bool)
        self.left = count

    def fill(self, units: Units, order: Iterable[int]) -> None:
        """Keep whole units, in order, as long as they fit."""
        need = self._sizes(units, self.free & ~self.kept).tolist()
        chosen = np.zeros(len(units), dtype=bool)
        for u in order:
            if self.left == 0:
                break
            if need[u] <= self.left:
                self.left -= need[u]
                chosen[u] = True
        self.kept |= chosen[units.of] & self.free

    def exchange(self, order: list[int], forced: Bool[np.ndarray, "W"] | None) -> None:
        """Give up the worst kept word of some length for the best one left out that is longer by what is missing."""
        if self.left == 0:
            return
        words = self.document.words
        size, held = self._sizes(words, self.free), self._sizes(words, self.kept)
        loose = held == size if forced is None else (held == size) & ~forced
        best: dict[int, int] = {}
        worst: dict[int, int] = {}
        for place, w in enumerate(order):
            if size[w] and held[w] == 0:
                best.setdefault(int(size[w]), place)
            elif size[w] and loose[w]:
                worst[int(size[w])] = place
        # The exchange that does least harm moves the fewest places of the ranking.
        pairs = [(best[s + self.left] - place, s) for s, place in worst.items() if s + self.left in best]
        if pairs:
            _, s = min(pairs)
            self.kept[words.of == order[worst[s]]] = False
            self.kept |= (words.of == order[best[s + self.left]]) & self.free
            self.left = 0

    def cut(self, order: list[int]) -> None:
        """Keep the beginning of one word."""
        if self.left == 0:
            return
        words = self.document.words
        need = self._sizes(words, self.free & ~self.kept)
        edges = np.append(words.first, len(words.of)).tolist()
        longer = [range(edges[w], edges[w + 1]) for w in order if need[w] > self.left]
        whole = next((tokens for tokens, complete in map(self._beginning, longer) if complete), None)
        self.kept[whole or self._beginning(longer[0])[0]] = True
        self.left = 0

    def _beginning(self, word: range) -> tuple[list[int], bool]:
        """The first tokens of a word that may still be kept, and whether they hold all its letters and digits."""
        text, starts, ends = self.document.text, self.document.starts, self.document.ends
        mine = [t for t in word if self.free[t] and not self.kept[t]]
        first, rest = mine[: self.left], mine[self.left :]
        return first, not any(c.isalnum() for t in rest for c in text[starts[t] : ends[t]])

    @staticmethod
    def _sizes(units: Units, tokens: Bool[np.ndarray, "T"]) -> np.ndarray:
        return np.bincount(units.of, weights=tokens, minlength=len(units)).astype(np.int64)
