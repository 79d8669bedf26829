"""Sums and means of the vectors that share a code, and k-means, which repeats them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.quantize.search.nearest import nearest_code


def gathered(
    rows: Float[Tensor, "T E"], codes: Int[Tensor, "T"], size: int
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C E"]]:
    """How many vectors each code has, and their sum."""
    counts = torch.bincount(codes, minlength=size).to(rows.dtype)
    return counts, rows.new_zeros(size, rows.shape[1]).index_add_(0, codes, rows)


def lloyd(
    rows: Float[Tensor, "T E"],
    table: Float[Tensor, "C E"],
    passes: Iterable[object],
    compared: Callable[[Tensor], Tensor] = lambda vectors: vectors,
) -> Float[Tensor, "C E"]:
    """k-means from a given table; a code without vectors stays where it is.

    Args:
        passes: of which there are as many, or fewer where nothing moves any more.
        compared: what vectors and codes are compared as.
    """
    seen = compared(rows)
    for _ in passes:
        counts, sums = gathered(rows, nearest_code(seen, compared(table)), len(table))
        moved = torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp_min(1).unsqueeze(1), table)
        if torch.equal(moved, table):
            break
        table = moved
    return table


def drawn(rows: Float[Tensor, "T E"], size: int, generator: torch.Generator) -> Float[Tensor, "C E"]:
    """Vectors drawn without repetition; where there are too few, all of them and then some again."""
    order = torch.randperm(len(rows), generator=generator)
    if len(rows) < size:
        order = torch.cat((order, torch.randint(len(rows), (size - len(rows),), generator=generator)))
    return rows[order[:size].to(rows.device)]
