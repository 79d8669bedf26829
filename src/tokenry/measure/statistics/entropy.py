"""Entropies of counted things in bits: plug-in, corrected, of any order, and of a token given those before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Counts = Float[np.ndarray, "T"]


def entropy(counts: Counts) -> float:
    """H = -sum p log2 p of the shares of the counts; 0 of nothing."""
    counts = counts[counts > 0]
    total = counts.sum()
    if not total:
        return 0.0
    return max(0.0, float(math.log2(total) - (counts * np.log2(counts)).sum() / total))


def correction(counts: Counts) -> float:
    """What Miller and Madow add to a plug-in entropy, which is too low by about (types - 1) / (2 tokens) nats."""
    total = counts.sum()
    types = int((counts > 0).sum())
    return (types - 1) / (2 * float(total) * math.log(2)) if total else 0.0


def renyi(counts: Counts, order: float) -> float:
    """H_a = log2 sum p^a / (1 - a); Shannon's entropy at a = 1."""
    if order == 1:
        return entropy(counts)
    counts = counts[counts > 0]
    shares = counts / counts.sum()
    return float(np.log2((shares**order).sum()) / (1 - order))


class Windows:
    """All runs of `order` consecutive tokens within documents, numbered by what they hold.

    Windows never reach over the end of a document. Entropies of all lengths up to `order` are taken over the same
    windows, so that they add up exactly: H(t1..tk) = H(t1) + H(t2|t1) + ... + H(tk|t1..tk-1).

    Args:
        documents: the ids of each document.
        order: tokens of a window.
    """

    def __init__(self, documents: Sequence[Int[np.ndarray, "N"]], order: int) -> None:
        kept = [np.asarray(ids, dtype=np.int64) for ids in documents]
        starts = [max(0, len(ids) - order + 1) for ids in kept]
        self.document = np.repeat(np.arange(len(kept)), starts)
        self.types: list[Int[np.ndarray, "W"]] = []
        wide = 1 + max((int(ids.max()) for ids in kept if len(ids)), default=0)
        code = np.zeros(len(self.document), dtype=np.int64)
        for k in range(order):
            tokens = [ids[k : k + n] for ids, n in zip(kept, starts, strict=True)]
            _, code = np.unique(code * wide + np.concatenate(tokens or [code]), return_inverse=True)
            self.types.append(code)

    def block(self, length: int, weights: Float[np.ndarray, "S"] | None = None, *, corrected: bool = False) -> float:
        """H(t1..tk) in bits, each document counted `weights` times."""
        if not length or not len(self.document):
            return 0.0
        types = self.types[length - 1]
        counts = np.bincount(types, weights=None if weights is None else weights[self.document]).astype(float)
        return entropy(counts) + (correction(counts) if corrected else 0.0)

    def conditional(
        self, length: int, weights: Float[np.ndarray, "S"] | None = None, *, corrected: bool = False
    ) -> float:
        """H(tk | t1..tk-1) in bits."""
        whole = self.block(length, weights, corrected=corrected)
        return whole - self.block(length - 1, weights, corrected=corrected)
