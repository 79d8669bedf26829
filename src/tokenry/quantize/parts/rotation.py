"""What vectors are turned by before they are cut into blocks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import natural
from tokenry.core.method import Part
from tokenry.quantize.codebooks.maps import directions
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.search.means import drawn, gathered
from tokenry.quantize.search.nearest import nearest_code

MOST_CODES = 1024
"""Codes of a block while the rotation is learnt."""

Tables = Sequence[Float[Tensor, "C D"]]


@dataclass(frozen=True, kw_only=True)
class Rotation(Part):
    """An orthogonal matrix R: blocks are cut from z R, and their sum goes back by its transpose."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def begin(self, width: int) -> Float[Tensor, "E E"] | None:
        """The matrix before anything is learnt; None is no rotation at all."""

    def learn(
        self,
        rows: Float[Tensor, "T E"],
        turn: Float[Tensor, "E E"],
        blocks: int,
        codes: int,
        seed: torch.Generator,
        passes: Passes,
    ) -> Float[Tensor, "E E"]:
        """The matrix for these vectors."""
        return turn


@dataclass(frozen=True, kw_only=True)
class Unrotated(Rotation):
    """Cut vectors as they are; the order of their numbers matters, since neighbours share a block."""

    part = Card(
        title="Product Quantization for Nearest Neighbor Search",
        year=2011,
        url="https://doi.org/10.1109/TPAMI.2010.57",
        summary="blocks are cut from vectors as they are",
    )

    def begin(self, width: int) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class RandomRotation(Rotation):
    """Share the variance out over all blocks by a random rotation, drawn when the quantizer is built."""

    part = Card(
        title="Aggregating Local Descriptors into a Compact Image Representation",
        year=2010,
        url="https://doi.org/10.1109/CVPR.2010.5540039",
        summary="vectors are turned at random before they are cut, once and for all",
    )

    def begin(self, width: int) -> Float[Tensor, "E E"]:
        # With these signs all rotations are equally likely.
        turn, triangle = torch.linalg.qr(torch.randn(width, width))
        return turn * triangle.diagonal().sign()


@dataclass(frozen=True, kw_only=True)
class OPQ(Rotation):
    """Learn the rotation under which cutting vectors into blocks loses least.

    What it does
        min over R, c of |z R - q(z R)|^2 in turns: assign codes, take means, then R = U V' from the singular vectors of
        z' q. It begins with principal directions, dealt out so that the blocks have alike products of variances.
    Where it acts
        In `fit`; before that R = I. The tables it learns with are its own; afterwards the blocks are fitted whatever
        they are made of.
    Guarantees
        R R' = I; no round raises the error on the vectors it learns from. The order of their numbers does not matter.
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
        self,
        rows: Float[Tensor, "T E"],
        turn: Float[Tensor, "E E"],
        blocks: int,
        codes: int,
        seed: torch.Generator,
        passes: Passes,
    ) -> Float[Tensor, "E E"]:
        turn = dealt(rows, blocks)
        tables: Tables = [drawn(part, min(codes, MOST_CODES), seed) for part in (rows @ turn).chunk(blocks, 1)]
        for _ in passes.shown("rotation", range(self.rounds), self.rounds):
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
