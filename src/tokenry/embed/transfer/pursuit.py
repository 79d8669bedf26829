"""Orthogonal matching pursuit: vectors as sums of few others."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.embed.transfer.donor import Tell

BLOCK = 512
"""Vectors that are pursued at once."""

EXPLAINED = 1e-4
"""Share of a vector's length below which nothing is left to explain, and of an atom's below which it adds nothing."""


def pursue(
    wanted: Float[Tensor, "P F"], atoms: Float[Tensor, "O F"], count: int, tell: Tell
) -> tuple[Int[Tensor, "W"], Int[Tensor, "W"], Float[Tensor, "W"]]:
    """Weights of up to `count` atoms for each vector: the sum of the weighted atoms is the vector, or near it.

    Where nothing is left to explain, fewer are chosen.

    Returns:
        Vector, atom and weight.
    """
    length = atoms.norm(dim=1)
    usable = (length > 0).nonzero()[:, 0]
    units = atoms[usable] / length[usable, None]
    found = []
    for at in range(0, len(wanted) if len(usable) else 0, BLOCK):
        tell("pursuing pieces", at, len(wanted))
        rows, chosen, weight = _block(wanted[at : at + BLOCK], units, length[usable], min(count, *units.shape))
        found.append((rows + at, usable[chosen], weight / length[usable[chosen]]))
    tell("pursuing pieces", len(wanted), len(wanted))
    if not found:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0)
    new, old, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
    return new, old, weights


def _block(
    wanted: Float[Tensor, "P F"], units: Float[Tensor, "O F"], length: Float[Tensor, "O"], count: int
) -> tuple[Int[Tensor, "W"], Int[Tensor, "W"], Float[Tensor, "W"]]:
    """The same for vectors that are pursued at once, over atoms as directions and lengths; weights of directions."""
    size, width = wanted.shape
    rows = torch.arange(size)
    left = wanted.double()
    basis = torch.zeros(size, count, width, dtype=torch.float64)
    triangle = torch.eye(count, dtype=torch.float64).repeat(size, 1, 1)
    along = torch.zeros(size, count, dtype=torch.float64)
    chosen = torch.zeros(size, count, dtype=torch.long)
    used = torch.zeros(size, count, dtype=torch.bool)
    open_ = wanted.norm(dim=1) > 0
    for step in range(count):
        # The atom itself is multiplied, not its direction, as mergekit does: of two that point alike the longer goes.
        nearness = (left.float() @ units.T).abs() * length
        if step:
            nearness.scatter_(1, chosen[:, :step], -1.0)
        best = nearness.argmax(1)
        atom = units[best].double()
        # Gram and Schmidt, so that what is explained stays explained.
        shares = (basis[:, :step] @ atom[:, :, None])[..., 0]
        rest = atom - (shares[:, None] @ basis[:, :step])[:, 0]
        size_left = rest.norm(dim=1)
        open_ = open_ & (size_left > EXPLAINED) & (left.norm(dim=1) > EXPLAINED * wanted.norm(dim=1))
        direction = torch.where(open_[:, None], rest / size_left.clamp_min(1e-12)[:, None], 0.0)
        chosen[:, step], used[:, step], basis[:, step] = best, open_, direction
        triangle[:, :step, step] = torch.where(open_[:, None], shares, 0.0)
        triangle[:, step, step] = torch.where(open_, size_left, 1.0)
        along[:, step] = (direction * left).sum(1)
        left = left - along[:, step, None] * direction
        if not bool(open_.any()):
            break
    weights = torch.linalg.solve_triangular(triangle, along[..., None], upper=True)[..., 0]
    return rows[:, None].expand(-1, count)[used], chosen[used], weights[used].float()
