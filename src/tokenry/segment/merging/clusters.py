"""Spherical k-means of very many rows, learned from some of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

ROUNDS, PER_LEAF, AT_ONCE = 10, 32, 8192
"""Rounds of k-means, rows of each leaf that it sees, rows that are compared at once."""


@torch.no_grad()
def cluster(rows: Float[Tensor, "W F"], leaves: int, seed: int) -> Int[Tensor, "W"]:
    """The leaf of each row: the centre with the nearest direction."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.randperm(len(rows), generator=generator)[: leaves * PER_LEAF]
    sample = normalize(rows[seen].float().cpu(), dim=1)
    centres = sample[:leaves].clone()
    for _ in range(ROUNDS):
        leaf = _nearest(sample, centres)
        sums = torch.zeros_like(centres).index_add_(0, leaf, sample)
        # A centre that lost all of its rows stays where it was.
        centres = torch.where((leaf.bincount(minlength=leaves) > 0).unsqueeze(1), normalize(sums, dim=1), centres)
    return _nearest(rows, centres)


def _nearest(rows: Float[Tensor, "W F"], centres: Float[Tensor, "L F"]) -> Int[Tensor, "W"]:
    parts = rows.split(AT_ONCE)
    return torch.cat([(part.float().cpu() @ centres.T).argmax(1) for part in parts])
