"""The sources of a row against each other: apart as documents, each with its share of the budget, in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.compress.scores.ranking import Ranking
from tokenry.compress.units.document import Document
from tokenry.compress.units.page import Units
from tokenry.core.tokens import TokenBatch


@dataclass(frozen=True, eq=False)
class Part:
    """What one source holds of a row's document.

    Args:
        source: index into the batch's sources.
        document: the tokens of this source as a document of their own.
        tokens: their places among the tokens of the row's document.
    """

    source: int
    document: Document
    tokens: Int[np.ndarray, "P"]

    def of(self, units: Units) -> Int[np.ndarray, "U"]:
        """Which units of a partition of the row's document lie in this source; none lies in two."""
        return np.unique(units.of[self.tokens])


@dataclass(frozen=True, eq=False)
class SourceRanking(Ranking):
    """A ranking of units and of the sources they stand in.

    Args:
        parts: the sources of each row, the best first.
    """

    parts: tuple[tuple[Part, ...], ...]

    def inverted(self) -> SourceRanking:
        return replace(self, scores=tuple(-s for s in self.scores), parts=tuple(p[::-1] for p in self.parts))


def apart(document: Document, source: Int[Tensor, "T"]) -> list[Part]:
    """The sources of a row's document in the order of the text, given the source of each of its tokens."""
    of = source.numpy()
    return [_part(document, s, np.flatnonzero(of == s)) for s in dict.fromkeys(of.tolist())]


def shares(
    sizes: Sequence[int], needs: Sequence[int], count: int, *, delta: float, coarse: float
) -> Int[np.ndarray, "K"]:
    """How many tokens each of K sources keeps, `count` in all; the best source comes first.

    The best K' that together hold `coarse` times `count` tokens take part. The I-th of them, from 0, keeps the share
    clip(count / tokens of the K' + (1 - 2 I / K') delta + c, 0, 1), where c makes the numbers add up.

    Args:
        sizes: tokens of each source that may be dropped.
        needs: how many of them must stay; a source keeps no fewer.
        count: at least all `needs`, at most all `sizes`.
        delta: difference of share between the best source and the middle one.
        coarse: at least 1.
    """
    size, least = np.array(sizes), np.array(needs)
    held = np.cumsum(size) - size
    takes_part = held < coarse * count
    k = takes_part.sum()
    most = np.where(takes_part, size, least)
    per_token = np.maximum(size, 1)
    share = count / max(1, size[takes_part].sum()) + (1 - 2 * np.arange(len(size)) / max(1, k)) * delta

    def wanted(c: float) -> np.ndarray:
        return np.clip((share + c) * per_token, least, most)

    # What the sources want in all grows with c along straight lines between the points where one meets a bound.
    bends = np.unique(np.concatenate((least / per_token - share, most / per_token - share)))
    want = wanted(float(np.interp(count, [wanted(c).sum() for c in bends], bends)))
    whole = np.floor(want + 1e-9).astype(np.int64)
    # Tokens are whole: what is missing goes to the largest remainders, the better source first.
    order = np.argsort(-(want - whole).round(9), kind="stable")
    order = order[whole[order] < most[order]]
    whole[order[: count - whole.sum()]] += 1
    assert whole.sum() == count
    return whole


def reordered(batch: TokenBatch, orders: Sequence[Sequence[int]]) -> TokenBatch:
    """The sources of every row in the given order, each as a whole; all other tokens stay where they are.

    The white space that a prompt puts between sources goes with the source before it, where the last one has some too.
    """
    source = batch.spans()[..., 0].cpu()
    blank = {i for i, s in enumerate(batch.origin.sources) if s.kind == "template" and not s.data.strip()}
    step = torch.arange(batch.shape[1]).repeat(batch.shape[0], 1)
    for row, order in enumerate(orders):
        columns = batch.mask[row].cpu().nonzero()[:, 0]
        step[row, columns] = columns[_permuted(source[row, columns].tolist(), order, blank)]
    if bool((step.diff() > 0).all()):
        return batch
    return batch.take(step.to(batch.mask.device)).renumbered()


def _part(document: Document, source: int, tokens: Int[np.ndarray, "P"]) -> Part:
    low, high = int(document.starts[tokens].min()), int(document.ends[tokens].max())
    at = torch.from_numpy(tokens)

    def own(units: Units) -> Units:
        which, of = np.unique(units.of[tokens], return_inverse=True)
        return Units(of, tuple((units.bounds[u][0] - low, units.bounds[u][1] - low) for u in which.tolist()))

    alone = Document(
        text=document.text[low:high],
        columns=document.columns[at],
        ids=None if document.ids is None else document.ids[at],
        free=document.free[tokens],
        starts=document.starts[tokens] - low,
        ends=document.ends[tokens] - low,
        tokens=own(document.tokens),
        words=own(document.words),
        sentences=own(document.sentences),
        unit=document.unit,
        stretch=document.stretch[tokens],
    )
    return Part(source, alone, tokens)


def _permuted(source: list[int], order: Sequence[int], blank: set[int]) -> Int[Tensor, "N"]:
    """Places of the tokens of a row once its sources are exchanged."""
    block: dict[int, list[int]] = {s: [] for s in order}
    last = max((i for i, s in enumerate(source) if s in block), default=-1)
    gaps = blank if last + 1 < len(source) and source[last + 1] in blank else set()
    runs: list[list[int]] = []
    slots: list[int] = []
    owner: int | None = None
    for i, s in enumerate(source):
        if s in block:
            if not block[s]:
                slots.append(len(runs))
                runs.append([])
            owner = s
        elif s not in gaps:
            owner = None
        if owner is None:
            runs.append([i])
        else:
            block[owner].append(i)
    for slot, s in zip(slots, (s for s in order if block[s]), strict=True):
        runs[slot] = block[s]
    return torch.tensor([i for run in runs for i in run], dtype=torch.long)
