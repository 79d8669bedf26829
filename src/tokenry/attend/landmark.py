"""Landmark Attention: a mark after every block gates the block, and decoding fetches the best blocks alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.attend.layers.headed import HeadedLayer, rotated, slices
from tokenry.attend.layers.rows import Rows
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, natural, positive
from tokenry.models.attention.site import wide

_NEVER = float("-inf")


@dataclass(eq=False, repr=False, kw_only=True)
class Landmark(HeadedLayer):
    """Let the last token of each block, a mark, decide how much attention goes into its block.

    What it does
        A token shares a softmax among the marks of all blocks before its own and the tokens of its own block up to
        itself. What a mark gets is shared among the tokens of its block by a softmax of their own; marks say nothing
        themselves. Decoding scores the marks alone, fetches the `blocks` best blocks, for each token and head, and
        does the same with these.
    Where it acts
        As the attention of a model that is trained with it, on rows with a mark at the end of every block: a
        `LayerModel` puts them there, in training and in decoding, and takes them out of what it says.
    Shapes
        x (B, N, E) -> (B, N, E); the tokens block - 1, 2 block - 1, ... are marks. A memory holds keys and values of
        all tokens and reads those of the marks, of the own block and of `blocks` + `recent` others.
    Guarantees
        The weights of a token add up to 1. Within the first block it is softmax attention. While there are no more
        blocks than are fetched, reading in pieces or token by token is what `forward` computes. With
        `positions=stingy` no distance is larger than `blocks` + `recent` + 2 blocks, however long the text.
    Raises
        InvalidValue: blocks without a token beside the mark, or nothing to fetch.
    Deviations
        Blocks are fetched for each token, where the published code reads a text in windows and may choose one set for
        all tokens of a window: that choice looks at tokens that come later. `choose=layer` is the best over all heads.
    Relations
        `quest` bounds the keys of a page by their extremes, which needs no training. A small model that learned to find
        pairs in rows of twelve blocks gave every value with all of them, and few when it fetched two.
    """

    card = Card(
        title="Landmark Attention: Random-Access Infinite Context Length for Transformers",
        year=2023,
        url="https://arxiv.org/abs/2305.16300",
        summary="a trained mark after each block says whether the block is fetched",
        action="visible",
        granularity="chunk",
        evidence="learned",
        trial={"heads": 2, "block": 8, "blocks": 8},
        training=True,
        deviations=("no choice for all tokens of a window at once, which would look at later tokens",),
    )

    block: int = positive(50, doc="tokens of a block, its mark included")
    blocks: int = positive(4, doc="blocks that a token fetches when decoding")
    recent: int = natural(0, doc="blocks right before its own that a token reads besides")
    choose: str = choice("head", "layer", default="head", doc="whether each head fetches its own blocks")
    positions: str = choice(
        "stingy", "true", default="stingy", doc="of fetched blocks: places right before the token, or their own"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 2:
            raise InvalidValue(f"Landmark: block must be at least 2 tokens, one of them the mark; got {self.block}.")

    @property
    def least(self) -> int:
        """The first block, whose mark is not counted, and a token behind it."""
        return self.block

    @property
    def every(self) -> int:
        return self.block

    def whole(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        n, size = x.shape[1], self.block
        places = torch.arange(n, device=x.device)
        q, k, v = (wide(part) for part in self.split(x))
        q, k = rotated(q, places), rotated(k, places)
        k, v = (pad(part, (0, 0, 0, -n % size)) for part in (k, v))
        outs = []
        for some in slices(n, q.shape[0] * q.shape[1] * k.shape[2] * 3):
            at = places[some]
            scores = (q[:, :, some] @ k.mT).unflatten(-1, (-1, size)) * q.shape[-1] ** -0.5
            number = torch.arange(scores.shape[-2], device=x.device)
            own = scores.gather(3, (at // size).view(-1, 1, 1).expand(*scores.shape[:3], 1, size)).squeeze(3)
            mine, others = grouped(own, scores, at % size, number < (at // size).unsqueeze(-1))
            weights = others + pad(mine, (0, 1)).unsqueeze(3) * (number == (at // size).unsqueeze(-1)).unsqueeze(-1)
            outs.append(weights.flatten(-2) @ v)
        return self.joined(torch.cat(outs, 2), x)

    def begin(self, sequences: int) -> Rows:
        return Rows(sequences)

    def append(self, x: Float[Tensor, "B N E"], memory: Rows, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        places = memory.next(real)
        q, k, v = self.split(x)
        memory.append(k, v, real=real)
        keys, values = (pad(part, (0, 0, 0, -part.shape[2] % self.block)) for part in memory.all())
        k, v = (wide(part).unflatten(2, (-1, self.block)) for part in (keys, values))
        # Fetched blocks are copies, one for each query.
        each = q.shape[0] * q.shape[1] * q.shape[-1] * self.block * (self.blocks + self.recent + 1) * 4
        outs = [
            self._fetched(wide(q[:, :, some]), k, v, places[:, some].clamp_max(keys.shape[2] - 1))
            for some in slices(q.shape[2], each)
        ]
        return self.joined(torch.cat(outs, 2), x)

    def _fetched(
        self, q: Float[Tensor, "B H Q D"], k: Float[Tensor, "B H J S D"], v: Float[Tensor, "B H J S D"],
        places: Int[Tensor, "B Q"],
    ) -> Float[Tensor, "B H Q D"]:  # fmt: skip
        """What some queries read of their own block and of those that they fetch."""
        size, most = self.block, k.shape[2]
        mine = places // size
        turned = rotated(q, (self._slot(mine, mine) * size + places % size).unsqueeze(1)) * q.shape[-1] ** -0.5
        number = torch.arange(most, device=q.device)
        older = number < mine.unsqueeze(-1)
        slots = self._slot(mine.unsqueeze(-1), number)
        gates = self._marks(turned, k[:, :, :, -1], slots).masked_fill(~older.unsqueeze(1), _NEVER)
        gates = gates.amax(1, keepdim=True).expand_as(gates) if self.choose == "layer" else gates
        near = older & (number >= (mine - self.recent).unsqueeze(-1))
        chosen = gates.masked_fill(near.unsqueeze(1), float("inf")).topk(min(most, self.blocks + self.recent)).indices
        there = older.unsqueeze(1).expand_as(gates).gather(-1, chosen)

        def scored(blocks: Int[Tensor, "B H Q M"], at: Int[Tensor, "B H Q M"]) -> Float[Tensor, "B H Q M S"]:
            """Products with the tokens of some blocks, each at a slot."""
            inside = at.unsqueeze(-1) * size + torch.arange(size, device=q.device)
            return (rotated(_blocks(k, blocks), inside) @ turned[..., None, :, None]).squeeze(-1)

        here = mine[:, None, :, None].expand(*q.shape[:3], 1)
        own = scored(here, self._slot(here, here)).squeeze(3)
        fetched = scored(chosen, slots.unsqueeze(1).expand_as(gates).gather(-1, chosen))
        own, fetched = grouped(own, fetched, places.unsqueeze(1) % size, there)
        out = (fetched.unsqueeze(-2) @ _blocks(v, chosen)).sum(3).squeeze(-2)
        return out + (pad(own, (0, 1)).unsqueeze(-2) @ _blocks(v, here).squeeze(3)).squeeze(-2)

    def _slot(self, mine: Int[Tensor, "*B"], number: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """Where a block stands for a token of block `mine`: the last ones one by one, all older ones at 0."""
        if self.positions == "true":
            return number + 0 * mine
        return (mine.clamp_max(self.blocks + self.recent + 1) - mine + number).clamp_min(0)

    def _marks(
        self, q: Float[Tensor, "B H Q D"], marks: Float[Tensor, "B H J D"], slots: Int[Tensor, "B Q J"]
    ) -> Float[Tensor, "B H Q J"]:
        """Products with the marks, each turned to its slot."""
        last = self.block - 1
        if self.positions == "true":
            own = torch.arange(marks.shape[2], device=q.device) * self.block + last
            return q @ rotated(marks, own).mT
        # Few slots: all marks are turned to each, and every query takes the product of its own.
        found = q.new_zeros(*q.shape[:3], marks.shape[2])
        for slot in range(int(slots.max()) + 1 if slots.numel() else 0):
            at = torch.full((marks.shape[2],), slot * self.block + last, device=q.device)
            found = torch.where((slots == slot).unsqueeze(1), q @ rotated(marks, at).mT, found)
        return found


def grouped(
    own: Float[Tensor, "*B Q S"], blocks: Float[Tensor, "*B Q M S"], inside: Int[Tensor, "*C Q"],
    there: Bool[Tensor, "*D Q M"],
) -> tuple[Float[Tensor, "*B Q T"], Float[Tensor, "*B Q M S"]]:  # fmt: skip
    """The grouped softmax: weights of the tokens of the own block, and of those of other blocks.

    Args:
        own: products with the tokens of a query's own block, the mark last; the mark is not read.
        blocks: products with those of other blocks, each with its mark last, which gates the others.
        inside: the place of the query in its own block; later tokens are not read.
        there: which of the other blocks count.
    """
    size = own.shape[-1]
    later = torch.arange(size - 1, device=own.device) > inside.unsqueeze(-1)
    gates = blocks[..., -1].masked_fill(~there, _NEVER)
    shared = torch.cat((gates, own[..., :-1].masked_fill(later, _NEVER)), -1).softmax(-1)
    through, mine = shared.split((gates.shape[-1], size - 1), -1)
    return mine, pad(blocks[..., :-1].softmax(-1) * through.unsqueeze(-1), (0, 1))


def _blocks(held: Float[Tensor, "B H J S D"], number: Int[Tensor, "B H Q M"]) -> Float[Tensor, "B H Q M S D"]:
    """Some blocks for each query."""
    b, h, q, m = number.shape
    size, d = held.shape[3:]
    at = number.reshape(b, h, q * m, 1, 1).expand(-1, -1, -1, size, d)
    return held.gather(2, at).view(b, h, q, m, size, d)
