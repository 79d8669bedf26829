"""The nearest vector of a table, without ever holding a number for each pair of vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS, COLUMNS = 1024, 4096
"""A block of products: 16 MB, used again and again. Thinner ones lose."""


def nearest_code(rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"]) -> Int[Tensor, "T"]:
    """argmin over c of |x - c|^2, the first of equal ones; in 32-bit floats.

    It is found as argmax of x.c - |c|^2 / 2, with the last term as one more column of the table. Both are first moved
    by the mean of the table, which changes no order and keeps the numbers small.
    """
    rows, table = rows.detach().float(), table.detach().float()
    centre = table.mean(0)
    moved = table - centre
    wide = torch.cat((moved, -0.5 * moved.square().sum(1, keepdim=True)), 1).T
    found = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    block = torch.ones(min(ROWS, len(rows)), table.shape[1] + 1, device=rows.device)
    products = torch.empty(block.shape[0] * min(COLUMNS, len(table)), device=rows.device)
    for at in range(0, len(rows), ROWS):
        part = rows[at : at + ROWS]
        torch.sub(part, centre, out=block[: len(part), :-1])
        found[at : at + ROWS] = _search(block[: len(part)], wide, products)
    return found


def _search(block: Float[Tensor, "T F"], wide: Float[Tensor, "F C"], products: Float[Tensor, "P"]) -> Int[Tensor, "T"]:
    best = torch.full((len(block),), -torch.inf, device=block.device)
    found = torch.zeros(len(block), dtype=torch.long, device=block.device)
    for low in range(0, wide.shape[1], COLUMNS):
        part = wide[:, low : low + COLUMNS]
        scores = torch.mm(block, part, out=products[: len(block) * part.shape[1]].view(len(block), -1))
        value, at = _largest(scores)
        better = value > best
        best, found = torch.where(better, value, best), torch.where(better, at + low, found)
    return found


def _largest(scores: Float[Tensor, "T C"]) -> tuple[Float[Tensor, "T"], Int[Tensor, "T"]]:
    if scores.device.type != "cpu":
        value, at = scores.max(1)
        return value, at
    # numpy's argmax is many times faster than torch's on a processor.
    at = torch.from_numpy(scores.numpy().argmax(1))
    return scores.gather(1, at.unsqueeze(1))[:, 0], at
