"""The nearest vector of a table, without ever holding a number for each pair of vectors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROWS, COLUMNS = 1024, 4096
"""A block of products: 16 MB, used again and again. Thinner ones lose."""
MANY = 8
"""Codes that come into question for a vector, beyond which copies of codes are left out."""
SAMPLE = 64
"""Codes whose median is the middle of a table."""


def nearest_code(rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"]) -> Int[Tensor, "T"]:
    """argmin over c of |x - c|^2, the first of equal ones.

    It is found by products. Where rounding might hide a nearer code, as among codes that are near each other and far
    from the others, those that come into question are compared by differences.
    """
    rows, table = rows.detach().float(), table.detach().float()
    found, sure = _by_products(rows, table)
    if not bool(sure.all()):
        found[~sure] = _by_differences(rows[~sure], table)
    return found


def middle(table: Float[Tensor, "C E"]) -> Float[Tensor, "E"]:
    """A vector by which to move rows and table before products, so that numbers are small; distances stay.

    A median, since one code far away would take a mean with it.
    """
    return table[:: max(1, len(table) // SAMPLE)].median(0).values


def rounding(size: Float[Tensor, "*T"]) -> Float[Tensor, "*T"]:
    """By how much x.c - |c|^2 / 2 of two codes may be wrong against each other, where no vector is longer than `size`.

    Each was seen to be wrong by up to 4.2 times epsilon, whatever the width: products are summed in blocks.
    """
    return 10 * torch.finfo(size.dtype).eps * size.square()


def _by_products(rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"]) -> tuple[Int[Tensor, "T"], Bool[Tensor, "T"]]:
    """argmax of x.c - |c|^2 / 2, with the last term as one more column of the table, and whether it is beyond doubt."""
    centre = middle(table)
    found = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    best = torch.full((len(rows),), -torch.inf, device=rows.device)
    second, size = best.clone(), torch.zeros_like(best)
    block = torch.ones(min(ROWS, len(rows)), table.shape[1] + 1, device=rows.device)
    products = torch.empty(block.shape[0] * min(COLUMNS, len(table)), device=rows.device)
    for low in range(0, len(table), COLUMNS):
        moved = table[low : low + COLUMNS] - centre
        wide = torch.cat((moved, -0.5 * moved.square().sum(1, keepdim=True)), 1).T
        for at in range(0, len(rows), ROWS):
            part = slice(at, min(at + ROWS, len(rows)))
            near = block[: part.stop - at]
            torch.sub(rows[part], centre, out=near[:, :-1])
            if not low:
                size[part] = (rows[part] - centre).norm(dim=1)
            out = products[: len(near) * wide.shape[1]].view(len(near), -1)
            value, code, next_value = _two_largest(torch.mm(near, wide, out=out))
            better = value > best[part]
            second[part] = second[part].maximum(next_value).maximum(value.minimum(best[part]))
            best[part] = torch.where(better, value, best[part])
            found[part] = torch.where(better, code + low, found[part])
    return found, best - second > rounding(_reach(size, best))


def _by_differences(
    rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], *, distinct: bool = False
) -> Int[Tensor, "T"]:
    """argmin of |x - c|^2 itself, among the codes that products in 64-bit floats leave.

    Args:
        distinct: no code is known to be a copy of another.
    """
    centre, found = middle(table).double(), []
    for some in rows.split(max(1, ROWS * COLUMNS // 2 // len(table))):
        near = some - centre
        parts = (part - centre for part in table.split(COLUMNS // 4))
        scores = torch.cat([near @ part.T - 0.5 * part.square().sum(1) for part in parts], 1)
        best = scores.amax(1)
        least = best - rounding(_reach(near.norm(dim=1), best))
        row, code = (scores >= least.unsqueeze(1)).nonzero().unbind(1)
        if len(row) > MANY * len(some) and not distinct:
            kept = _distinct(table)
            return kept[_by_differences(rows, table[kept], distinct=True)]
        found.append(_nearest_pair(some, table, row, code))
    return torch.cat(found)


def _distinct(table: Float[Tensor, "C E"]) -> Int[Tensor, "M"]:
    """Codes without copies of earlier ones, as there are many of where a table has learnt silence."""
    same = table.unique(dim=0, return_inverse=True)[1]
    order = torch.arange(len(table), device=table.device)
    first = torch.full_like(order, len(table)).scatter_reduce(0, same, order, "amin")
    return first[first < len(table)].sort().values


def _nearest_pair(
    rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], row: Int[Tensor, "P"], code: Int[Tensor, "P"]
) -> Int[Tensor, "T"]:
    """The nearest code of each row, among pairs of rows and codes; the first of equal ones."""
    size = max(1, ROWS * COLUMNS // 8 // table.shape[1])
    pairs = zip(row.split(size), code.split(size), strict=True)
    apart = torch.cat([(rows[r].double() - table[c]).square().sum(1) for r, c in pairs])
    least = apart.new_full((len(rows),), torch.inf).scatter_reduce(0, row, apart, "amin")
    ties = apart == least[row]
    return code.new_zeros(len(rows)).scatter_reduce(0, row[ties], code[ties], "amin", include_self=False)


def _reach(size: Float[Tensor, "T"], best: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """The length of a vector and its distance to the nearest code: no code that is as near is longer."""
    return size + (size.square() - 2 * best).clamp_min(0).sqrt()


def _two_largest(scores: Float[Tensor, "T C"]) -> tuple[Float[Tensor, "T"], Int[Tensor, "T"], Float[Tensor, "T"]]:
    """The largest number of each row and its place, and the second largest; the scores are used up."""
    # numpy's argmax is many times faster than torch's on a processor.
    at = torch.from_numpy(scores.numpy().argmax(1)) if scores.device.type == "cpu" else scores.argmax(1)
    place = at.unsqueeze(1)
    value = scores.gather(1, place)[:, 0]
    return value, at, scores.scatter_(1, place, -torch.inf).amax(1)
