"""Linear maps between widths, and the directions in which vectors vary most."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from tokenry.core.errors import InvalidValue
from tokenry.quantize.codebooks.codebook import MOST


class Map(nn.Linear):
    """A linear map with a constant, computed in 32-bit floats."""

    def __init__(self, who: str, given: int, found: int) -> None:
        if given * found > MOST:
            raise InvalidValue(f"{who}: a map must have at most {MOST} numbers; got widths {given} and {found}.")
        super().__init__(given, found)

    def forward(self, vectors: Float[Tensor, "*T E"]) -> Float[Tensor, "*T D"]:
        return linear(vectors, self.weight.float(), self.bias.float())

    @torch.no_grad()
    def become(self, weight: Float[Tensor, "D E"], constant: Float[Tensor, "D"]) -> None:
        """Take these numbers."""
        self.weight.copy_(weight)
        self.bias.copy_(constant)


def directions(rows: Float[Tensor, "T E"], count: int) -> tuple[Float[Tensor, "E"], Float[Tensor, "D E"]]:
    """The mean of vectors, and at most `count` principal directions of length one, the widest first."""
    mean = rows.mean(0)
    apart = rows - mean
    _, found = torch.linalg.eigh(apart.T @ apart / len(rows))
    return mean, found.flip(1).T[:count]


def best_map(given: Float[Tensor, "T D"], wanted: Float[Tensor, "T E"]) -> tuple[Tensor, Tensor]:
    """Weight and constant of the linear map with the least squared error."""
    mean, aim = given.mean(0), wanted.mean(0)
    apart = given - mean
    weight = (torch.linalg.pinv(apart.T @ apart, hermitian=True) @ (apart.T @ (wanted - aim))).T
    return weight, aim - weight @ mean
