"""Beam search for one code of each of several tables, whose vectors are added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 1024
"""Vectors whose partial sums are followed together, so that those of all are never held."""
SCORES = 1 << 22
"""Numbers of one block of scores: 16 MB."""

Beams = tuple[Float[Tensor, "T W E"], Int[Tensor, "T W R"]]
"""What W partial sums leave over of T vectors, the best first, and their codes."""


def beam_search(rows: Float[Tensor, "T E"], tables: Sequence[Float[Tensor, "C E"]], width: int) -> Int[Tensor, "T R"]:
    """Codes of the sum nearest to each vector, among `width` partial sums that are followed from table to table."""
    found = [torch.zeros(0, len(tables), dtype=torch.long, device=rows.device)]
    for some in rows.split(ROWS):
        left, codes = alone(some)
        for table in tables:
            left, codes = follow(left, codes, table, width)
        found.append(codes[:, 0])
    return torch.cat(found)


def alone(rows: Float[Tensor, "T E"]) -> Beams:
    """The empty sum."""
    return rows.unsqueeze(1), torch.zeros(len(rows), 1, 0, dtype=torch.long, device=rows.device)


@torch.no_grad()
def follow(left: Float[Tensor, "T W E"], codes: Int[Tensor, "T W R"], table: Float[Tensor, "C E"], width: int) -> Beams:
    """Extend every partial sum by every code, and keep those that leave the least over."""
    block = max(1, SCORES // (left.shape[1] * len(table)))
    found = [_extend(*part, table, width) for part in zip(left.split(block), codes.split(block), strict=True)]
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def _extend(
    left: Float[Tensor, "T W E"], codes: Int[Tensor, "T W R"], table: Float[Tensor, "C E"], width: int
) -> Beams:
    # Moved by one vector, all distances stay and the numbers become small.
    centre = table.mean(0)
    moved, near = table - centre, left - centre
    scores = near @ moved.T - 0.5 * moved.square().sum(1)
    scores -= 0.5 * near.square().sum(-1, keepdim=True)
    best = _largest(scores.flatten(1), width)
    beam, code = best // len(table), best % len(table)
    rest = left.take_along_dim(beam.unsqueeze(-1), 1) - table[code]
    return rest, torch.cat((codes.take_along_dim(beam.unsqueeze(-1), 1), code.unsqueeze(-1)), -1)


def _largest(scores: Float[Tensor, "T C"], count: int) -> Int[Tensor, "T W"]:
    """Places of the largest numbers of each row, the largest first; the scores are used up."""
    count = min(count, scores.shape[1])
    if scores.device.type != "cpu":
        return scores.topk(count, 1).indices
    # On a processor numpy's argmax, again and again, is many times faster than torch's topk.
    table, every, found = scores.numpy(), range(len(scores)), []
    for _ in range(count):
        found.append(table.argmax(1))
        table[every, found[-1]] = -torch.inf
    return torch.stack([torch.from_numpy(f) for f in found], 1)
