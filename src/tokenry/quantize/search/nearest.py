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
    found = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    best = torch.full((len(rows),), -torch.inf, device=rows.device)
    block = torch.ones(min(ROWS, len(rows)), table.shape[1] + 1, device=rows.device)
    products = torch.empty(block.shape[0] * min(COLUMNS, len(table)), device=rows.device)
    for low in range(0, len(table), COLUMNS):
        moved = table[low : low + COLUMNS] - centre
        wide = torch.cat((moved, -0.5 * moved.square().sum(1, keepdim=True)), 1).T
        for at in range(0, len(rows), ROWS):
            part = slice(at, min(at + ROWS, len(rows)))
            size = part.stop - at
            torch.sub(rows[part], centre, out=block[:size, :-1])
            out = products[: size * wide.shape[1]].view(size, -1)
            value, code = _largest(torch.mm(block[:size], wide, out=out))
            better = value > best[part]
            best[part] = torch.where(better, value, best[part])
            found[part] = torch.where(better, code + low, found[part])
    return found


def _largest(scores: Float[Tensor, "T C"]) -> tuple[Float[Tensor, "T"], Int[Tensor, "T"]]:
    if scores.device.type != "cpu":
        value, at = scores.max(1)
        return value, at
    # numpy's argmax is many times faster than torch's on a processor.
    at = torch.from_numpy(scores.numpy().argmax(1))
    return scores.gather(1, at.unsqueeze(1))[:, 0], at
