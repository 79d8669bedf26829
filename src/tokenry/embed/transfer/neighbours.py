"""The old pieces that are nearest to each new one, searched in blocks."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.embed.transfer.donor import Tell
from tokenry.embed.transfer.surfaces import Surfaces

CELLS = 1 << 24
"""Similarities that exist at once."""


@torch.no_grad()
def nearest(
    new: Surfaces, old: Surfaces, k: int, threshold: float, tell: Tell
) -> tuple[Int[Tensor, "W"], Int[Tensor, "W"], Float[Tensor, "W"]]:
    """Up to `k` old pieces for each new one, by cosine; of those that share a vector the first ones.

    Returns:
        New piece, old piece and their cosine, at least `threshold`.
    """
    similar, group = _top(new.vectors, old.vectors, min(k, len(old.vectors)), tell)
    members = _members(old)
    chosen = [
        [(i, float(s)) for g, s in zip(groups, values, strict=True) if s >= threshold for i in members[g]][:k]
        for groups, values in zip(group.tolist(), similar.tolist(), strict=True)
    ]
    found = [(p, i, s) for p, row in enumerate(new.row.tolist()) if row >= 0 for i, s in chosen[row]]
    pieces, ids, values = zip(*found, strict=True) if found else ((), (), ())
    whole = torch.long
    return torch.tensor(pieces, dtype=whole), torch.tensor(ids, dtype=whole), torch.tensor(values, dtype=torch.float32)


def _top(
    new: Float[Tensor, "U G"], old: Float[Tensor, "O G"], k: int, tell: Tell
) -> tuple[Float[Tensor, "U k"], Int[Tensor, "U k"]]:
    """The `k` most similar old vectors of each new one."""
    values, ids = torch.zeros(len(new), k), torch.zeros(len(new), k, dtype=torch.long)
    step = max(1, CELLS // max(1, len(old)))
    for at in range(0, len(new), step):
        tell("comparing pieces", at, len(new))
        rows = slice(at, at + step)
        values[rows], ids[rows] = (new[rows] @ old.T).topk(k)
    tell("comparing pieces", len(new), len(new))
    return values, ids


def _members(old: Surfaces) -> list[list[int]]:
    """The pieces of each vector, in the order of their ids."""
    found: list[list[int]] = [[] for _ in range(len(old.vectors))]
    for i, row in enumerate(old.row.tolist()):
        if row >= 0:
            found[row].append(i)
    return found
