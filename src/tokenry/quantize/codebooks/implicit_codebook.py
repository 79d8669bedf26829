"""A codebook that depends on what was chosen before it: a small network moves its vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from tokenry.core.errors import InvalidValue
from tokenry.quantize.codebooks.codebook import MOST, Codebook
from tokenry.quantize.search.nearest import nearest_code

NUMBERS = 1 << 22
"""Of one block of candidates: 16 MB."""


class FirstCodebook(nn.Module):
    """C vectors of width E, before which there is nothing."""

    def __init__(self, who: str, codes: int, width: int) -> None:
        super().__init__()
        self.book = Codebook(who, codes, width, learnt=True)

    def begin(self, table: Float[Tensor, "C E"], counts: Float[Tensor, "C"], generator: torch.Generator) -> None:
        """Take these vectors."""
        self.book.begin(table, counts)

    def vectors(self, codes: Int[Tensor, "T"], sums: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """What each code stands for behind its own sum."""
        return self.book.vectors()[codes]

    def nearest(self, left: Float[Tensor, "T E"], sums: Float[Tensor, "T E"]) -> Int[Tensor, "T"]:
        """argmin over k of |left - c_k(sum)|^2."""
        return nearest_code(left, self.book.vectors())


class Block(nn.Module):
    """x + D relu(U x), where D begins at zero."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.down.weight)

    @torch.no_grad()
    def begin(self, generator: torch.Generator) -> None:
        """Change nothing again, with U drawn anew."""
        self.up.weight.copy_(nn.init.kaiming_uniform_(torch.empty(self.up.weight.shape), a=5**0.5, generator=generator))
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Float[Tensor, "*T E"]) -> Float[Tensor, "*T E"]:
        return x + linear(relu(linear(x, self.up.weight.float())), self.down.weight.float())


class ImplicitCodebook(FirstCodebook):
    """C vectors of width E for every sum s of the levels before: c_k(s) = f(b_k, s).

    x_0 = b + A b + B s + a; x_j = x_{j-1} + D_j relu(U_j x_{j-1}); f = x_L. A, B, a and D begin at zero, where f is b.

    Args:
        hidden: width of the blocks.
        depth: blocks, L.
    """

    def __init__(self, who: str, codes: int, width: int, hidden: int, depth: int) -> None:
        super().__init__(who, codes, width)
        if max(width, hidden) * width > MOST:
            raise InvalidValue(f"{who}: maps must have at most {MOST} numbers; got {width} by {hidden}.")
        self.of_code = nn.Linear(width, width)
        self.of_sum = nn.Linear(width, width, bias=False)
        self.blocks = nn.Sequential(*(Block(width, hidden) for _ in range(depth)))
        self.widest = max(width, hidden)
        self._stand()

    def begin(self, table: Float[Tensor, "C E"], counts: Float[Tensor, "C"], generator: torch.Generator) -> None:
        """Take these vectors, which nothing moves yet."""
        super().begin(table, counts, generator)
        self._stand()
        for block in self.blocks:
            assert isinstance(block, Block)
            block.begin(generator)

    def vectors(self, codes: Int[Tensor, "T"], sums: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return self._moved(self._first(self.book.vectors()[codes]) + self._behind(sums))

    @torch.no_grad()
    def nearest(self, left: Float[Tensor, "T E"], sums: Float[Tensor, "T E"]) -> Int[Tensor, "T"]:
        base, behind = self._first(self.book.vectors()), self._behind(sums)
        size = max(1, NUMBERS // (len(base) * self.widest))
        found = [torch.zeros(0, dtype=torch.long, device=left.device)]
        for some, near in zip(left.split(size), behind.split(size), strict=True):
            apart = self._moved(base + near.unsqueeze(1)) - some.unsqueeze(1)
            found.append(apart.square().sum(-1).argmin(1))
        return torch.cat(found)

    def _first(self, table: Float[Tensor, "*T E"]) -> Float[Tensor, "*T E"]:
        return table + linear(table, self.of_code.weight.float(), self.of_code.bias.float())

    def _behind(self, sums: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return linear(sums, self.of_sum.weight.float())

    def _moved(self, x: Float[Tensor, "*T E"]) -> Float[Tensor, "*T E"]:
        moved: Tensor = self.blocks(x)
        return moved

    def _stand(self) -> None:
        for weight in (*self.of_code.parameters(), *self.of_sum.parameters()):
            nn.init.zeros_(weight)
