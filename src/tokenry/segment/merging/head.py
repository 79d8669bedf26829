"""The largest logits among very many rows: exactly, or in the leaves of an inverted file that promise most."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.segment.merging.clusters import AT_ONCE, cluster

INDEXES = ("exact", "ivf")


class IndexedHead:
    """Rows of an output layer that are searched for the largest inner products.

    The rows are divided by k-means of their directions. Each leaf is ranked by the largest product that one of W / L
    rows would have with the query q if they lay around their mean m as a normal distribution of the leaf's spread r,
    alike in all F directions: m · q + |q| r sqrt(2 ln(W / L) / F). By the mean alone wide leaves are missed.
    Within the leaves that are searched all products are exact, of raw rows, so that what is found is ranked rightly;
    with all leaves the first is the argmax. Fewer leaves search a part of what more leaves search.

    Args:
        rows: of all ids; copied, sorted by leaf, where there is an index.
        index: `exact` multiplies all rows, `ivf` searches some leaves.
        leaves: as many as the root of the rows by default.
        searched: leaves of each search; an eighth of all by default.
        seed: of k-means.
    """

    def __init__(
        self,
        rows: Float[Tensor, "W F"],
        index: str = "ivf",
        *,
        leaves: int | None = None,
        searched: int | None = None,
        seed: int = 0,
    ) -> None:
        if index not in INDEXES:
            raise InvalidValue(f"IndexedHead: index must be one of {', '.join(INDEXES)}; got {index!r}.")
        wanted = max(1, math.isqrt(len(rows))) if leaves is None else leaves
        if index == "exact":
            wanted = 1
        if not 1 <= wanted <= len(rows):
            raise InvalidValue(f"IndexedHead: leaves must be from 1 to {len(rows)}; got {wanted}.")
        leaf = cluster(rows, wanted, seed) if wanted > 1 else torch.zeros(len(rows), dtype=torch.long)
        order = leaf.argsort(stable=True)
        counts = leaf.bincount(minlength=wanted)
        self.ids: Int[Tensor, "W"] = order.to(rows.device)
        self.rows = rows[order] if wanted > 1 else rows
        self.ends = [0, *counts.cumsum(0).tolist()]
        self.leaves = wanted
        self.searched = self._count(max(1, wanted // 8) if searched is None else searched)
        sums = torch.zeros(wanted, rows.shape[1]).index_add_(0, leaf, rows.float().cpu())
        self._means = (sums / counts.clamp_min(1).unsqueeze(1)).to(rows)
        self._empty = (counts == 0).to(rows.device)
        self._reach = _reach(rows, leaf, self._means, counts).to(rows)

    @torch.no_grad()
    def search(
        self, hidden: Float[Tensor, "F"], count: int = 1, *, searched: int | None = None
    ) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
        """The `count` largest products found, largest first, and their ids; of equal ones the smaller id is first.

        Args:
            hidden: what stands before the output layer.
            count: candidates, such as those to sample from.
            searched: leaves, in place of the head's own number.
        """
        hidden = hidden.to(self.rows)
        number = self.searched if searched is None else self._count(searched)
        if number == self.leaves:
            scores, ids = self.rows @ hidden, self.ids
        else:
            # A leaf that lost its rows, where many are alike, would promise more than one that holds low ones.
            promised = (self._means @ hidden + hidden.norm() * self._reach).masked_fill(self._empty, float("-inf"))
            best = promised.topk(number).indices.sort().values.tolist()
            spans = [(self.ends[leaf], self.ends[leaf + 1]) for leaf in best]
            scores = torch.cat([self.rows[a:b] @ hidden for a, b in spans])
            ids = torch.cat([self.ids[a:b] for a, b in spans])
        if count == 1 and len(scores):
            top = scores.max()
            return top[None], ids[scores == top].min()[None]
        # Of those that equal the last one, some would be chosen in any order.
        at = (scores >= scores.topk(min(count, len(scores)), sorted=False).values.min()).nonzero()[:, 0]
        at = at[ids[at].argsort()]
        at = at[scores[at].argsort(descending=True, stable=True)][:count]
        return scores[at], ids[at]

    def _count(self, searched: int) -> int:
        if not 1 <= searched <= self.leaves:
            raise InvalidValue(f"IndexedHead: searched must be from 1 to {self.leaves} leaves; got {searched}.")
        return searched


def _reach(
    rows: Float[Tensor, "W F"], leaf: Int[Tensor, "W"], means: Float[Tensor, "L F"], counts: Int[Tensor, "L"]
) -> Float[Tensor, "L"]:
    """How far beyond its mean the furthest row of each leaf is expected in any direction."""
    squares = torch.zeros(len(counts))
    for at in range(0, len(rows), AT_ONCE):
        of = leaf[at : at + AT_ONCE]
        apart = rows[at : at + AT_ONCE].float().cpu() - means[of.to(means.device)].float().cpu()
        squares.index_add_(0, of, apart.square().sum(1))
    usual = 2 * math.log(len(rows) / len(counts)) / rows.shape[1]
    return (usual * squares / counts.clamp_min(1)).sqrt()
