"""LexRank: how central each sentence is, by a random walk between sentences that share rare words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

JUMP = 0.15
"""Probability of going to any sentence instead of a similar one; the paper takes 0.1 to 0.2."""

ENOUGH = 1e-9
"""The walk has settled once no centrality changes by more."""


def lexrank(sentences: Sequence[Sequence[str]]) -> Float[np.ndarray, "S"]:
    """Centrality of every sentence, given as its terms: 1 on average.

    p = JUMP + (1 - JUMP) Bᵀ p, where B holds the cosines of the sentences' tf-idf vectors, each row divided by its
    sum (continuous LexRank). B itself is never made.
    """
    n = len(sentences)
    if n < 2:
        return np.ones(n)
    row, column, weight, terms = _vectors(sentences)

    def similar(p: np.ndarray) -> np.ndarray:
        by_term = np.bincount(column, weights=weight * p[row], minlength=terms)
        return np.bincount(row, weights=weight * by_term[column], minlength=n)

    total = similar(np.ones(n))
    p = np.ones(n)
    while True:
        following = JUMP + (1 - JUMP) * similar(p / total)
        if np.abs(following - p).max() <= ENOUGH:
            return following
        p = following


def _vectors(sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Unit vectors of tf-idf by row, column and value; a sentence without terms is similar to itself alone."""
    counts = [Counter(terms) or Counter({f"\0{i}": 1}) for i, terms in enumerate(sentences)]
    held = Counter(term for c in counts for term in c)
    number = {term: i for i, term in enumerate(held)}
    # One is added, so that a term of all sentences still counts a little and no vector is zero.
    idf = {term: math.log(1 + len(counts) / times) for term, times in held.items()}
    row = np.repeat(np.arange(len(counts)), [len(c) for c in counts])
    column = np.array([number[t] for c in counts for t in c])
    weight = np.array([times * idf[t] for c in counts for t, times in c.items()])
    length = np.sqrt(np.bincount(row, weights=weight**2))
    return row, column, weight / length[row], len(number)
