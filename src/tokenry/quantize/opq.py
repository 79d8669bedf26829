"""OPQ: the rotation under which blocks lose least is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import natural
from tokenry.quantize.codebooks.maps import directions
from tokenry.quantize.rotation import Rotation
from tokenry.quantize.search.means import drawn, gathered
from tokenry.quantize.search.nearest import nearest_code

MOST_CODES = 1024
"""Codes of a block while the rotation is learnt."""

Tables = Sequence[Float[Tensor, "C D"]]


@dataclass(frozen=True, kw_only=True)
class OPQ(Rotation):
    """Learn the rotation under which cutting vectors into blocks loses least.

    What it does
        min over R, c of |z R - q(z R)|^2 in turns: assign codes, take means, then R = U V' from the singular vectors of
        z' q. It begins with principal directions, dealt out so that the blocks have alike products of variances.
    Where it acts
        As `rotation` of `pq`, in `fit`; before that R = I.
    Shapes
        rows (T, E) -> R (E, E).
    Guarantees
        R R' = I; no round raises the error on the vectors it learns from. The order of their numbers does not matter.
    Raises
        InvalidValue: a negative number of rounds.
    Relations
        The tables it learns with are its own; afterwards the blocks are fitted whatever they are made of.
    """

    part = Card(
        title="Optimized Product Quantization",
        year=2013,
        url="https://doi.org/10.1109/TPAMI.2013.240",
        summary="the rotation under which blocks lose least is learnt",
    )

    rounds: int = natural(25, doc="turns of codes, means and rotation")

    def begin(self, width: int) -> Float[Tensor, "E E"]:
        return torch.eye(width)

    def learn(
        self, rows: Float[Tensor, "T E"], turn: Float[Tensor, "E E"], blocks: int, codes: int, seed: torch.Generator
    ) -> Float[Tensor, "E E"]:
        turn = dealt(rows, blocks)
        tables: Tables = [drawn(part, min(codes, MOST_CODES), seed) for part in (rows @ turn).chunk(blocks, 1)]
        for _ in range(self.rounds):
            turn, tables, _ = one_round(rows, turn, tables)
        return turn


def one_round(
    rows: Float[Tensor, "T E"], turn: Float[Tensor, "E E"], tables: Tables
) -> tuple[Float[Tensor, "E E"], Tables, Float[Tensor, ""]]:
    """Codes, means and rotation in turn; also the mean squared error with all of them."""
    moved, values = [], []
    for part, table in zip((rows @ turn).chunk(len(tables), 1), tables, strict=True):
        codes = nearest_code(part, table)
        counts, sums = gathered(part, codes, len(table))
        moved.append(torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp_min(1).unsqueeze(1), table))
        values.append(moved[-1][codes])
    found = torch.cat(values, 1)
    left, _, right = torch.linalg.svd(rows.T @ found)
    turn = left @ right
    return turn, moved, (rows @ turn - found).square().mean()


def dealt(rows: Float[Tensor, "T E"], blocks: int) -> Float[Tensor, "E E"]:
    """Principal directions in an order in which blocks have alike products of variances."""
    mean, found = directions(rows, rows.shape[1])
    variances = ((rows - mean) @ found.T).square().mean(0).clamp_min(1e-12)
    hands: list[list[int]] = [[] for _ in range(blocks)]
    weights = [0.0] * blocks
    for at, weight in enumerate(variances.log().tolist()):
        free = [b for b in range(blocks) if len(hands[b]) < len(found) // blocks]
        least = min(free, key=lambda b: weights[b])
        hands[least].append(at)
        weights[least] += weight
    return found[[at for hand in hands for at in hand]].T
