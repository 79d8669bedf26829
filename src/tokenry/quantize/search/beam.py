"""Beam search for one code of each of several tables, whose vectors are added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.quantize.search.nearest import middle, rounding

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
    best, sure = _best(left, table, width)
    if not bool(sure.all()):
        best[~sure], _ = _best(left[~sure].double(), table.double(), width)
    beam, code = (best // len(table)).unsqueeze(-1), best % len(table)
    rest = left.take_along_dim(beam, 1) - table[code]
    order = rest.square().sum(-1).argsort(dim=1, stable=True).unsqueeze(-1)
    found = torch.cat((codes.take_along_dim(beam, 1), code.unsqueeze(-1)), -1)
    return rest.take_along_dim(order, 1), found.take_along_dim(order, 1)


def _best(
    left: Float[Tensor, "T W E"], table: Float[Tensor, "C E"], width: int
) -> tuple[Int[Tensor, "T V"], Bool[Tensor, "T"]]:
    """Places, among the codes of all beams, of those that leave the least over, and whether these are beyond doubt."""
    centre = middle(table)
    moved, near = table - centre, left - centre
    squares = near.square().sum(-1, keepdim=True)
    scores = near @ moved.T - 0.5 * moved.square().sum(1)
    scores -= 0.5 * squares
    value, place = _largest(scores.flatten(1), width + 1)
    if value.shape[1] <= width:
        return place, torch.ones_like(value[:, 0], dtype=torch.bool)
    last, left_out = value[:, width - 1], value[:, width]
    reach = squares.amax((1, 2)).sqrt() + (-2 * last).clamp_min(0).sqrt()
    return place[:, :width], last - left_out > rounding(reach)


def _largest(scores: Float[Tensor, "T C"], count: int) -> tuple[Float[Tensor, "T W"], Int[Tensor, "T W"]]:
    """The largest numbers of each row, the largest first, and their places; the scores are used up."""
    count = min(count, scores.shape[1])
    if scores.device.type != "cpu":
        largest, at = scores.topk(count, 1)
        return largest, at
    # On a processor numpy's argmax, again and again, is many times faster than torch's topk.
    values, places = [], []
    for _ in range(count):
        at = torch.from_numpy(scores.numpy().argmax(1)).unsqueeze(1)
        values.append(scores.gather(1, at))
        places.append(at)
        scores.scatter_(1, at, -torch.inf)
    return torch.cat(values, 1), torch.cat(places, 1)
