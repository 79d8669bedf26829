"""PQ: a vector is cut into blocks, each of which has a code of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, positive, setting
from tokenry.quantize.base import NONE, Quantized, Quantizer
from tokenry.quantize.codebooks.codebook import MOST
from tokenry.quantize.codebooks.copies import check_count, copies
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.rotation import Rotation, Unrotated
from tokenry.quantize.vq import VQ


@dataclass(eq=False, repr=False, kw_only=True)
class PQ(Quantizer):
    """Cut each vector into blocks and quantize each block alone.

    What it does
        z R = [z^1 .. z^M]; q = [q(z^1) .. q(z^M)] R'. M codebooks of C codes make C^M cells.
    Where it acts
        On vectors, in a network or offline over vectors that are searched.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, R), R = blocks times the codebooks of `of`.
    Guarantees
        The squared error is the sum of the errors of the blocks. One block without rotation is `of` itself. In
        evaluation values are those of the codes, bit for bit.
    Raises
        InvalidValue: a width that blocks do not divide, vectors of another width or that are not finite, a mask of
        another shape, codes that there are not, a part that is none.
        Unbuilt: there are no tables yet.
    Deviations
        See the card.
    Relations
        `rvq` takes the whole vector again and again, which loses less at as many bits and takes longer. `pq` over
        `rvq` is grouped residual quantization.
    """

    card = Card(
        title="Product Quantization for Nearest Neighbor Search",
        year=2011,
        url="https://doi.org/10.1109/TPAMI.2010.57",
        summary="a vector is cut into blocks, each of which has a code of its own",
        trial={"of": "vq[codes=16]", "blocks": 2},
        claims=(
            "on speech that was not in the fit 8 codebooks of 256 reach a signal-to-noise ratio of 15.6 dB, where "
            "random codes are below 0, and a learnt rotation is worth another decibel (benchmarks/quantize/speech.py)",
        ),
        deviations=(
            "it can also be trained inside a network, each block with its own losses, whose means are taken",
            "there is no inverted file and no search; distances are exact sums over tables",
        ),
        training=True,
    )

    of: Quantizer = part(VQ(codes=256), doc="the quantizer of every block")
    blocks: int = positive(8, doc="into how many vectors are cut")
    shared: bool = setting(False, doc="whether all blocks are one quantizer")
    rotation: Rotation = part(Unrotated(), doc="what vectors are turned by first: unrotated, opq or random_rotation")

    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.name(), self.blocks * len(self.of.codebook_sizes))

    def make(self, *, width: int) -> None:
        super().make(width=width)
        if width % self.blocks:
            raise InvalidValue(
                f"{self.name()}: width must be divisible by blocks={self.blocks}; got {width}; choose other blocks."
            )
        if width * width > MOST and not isinstance(self.rotation, Unrotated):
            raise InvalidValue(f"{self.name()}: a rotation must have at most {MOST} numbers; got width {width}.")
        self.register_buffer("turn", self.rotation.begin(width))
        self.stack = copies(self.of, self.blocks, width // self.blocks, shared=self.shared)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.of.codebook_sizes * self.blocks

    @property
    def spread(self) -> float | None:
        return self._block(0).spread

    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        cut = self._cut(rows)
        found = [block.quantize(some) for block, some in self._each(cut)]
        values = torch.cat([f.values for f in found], 1).flatten(1)
        codes = torch.cat([f.codes for f in found], 1).flatten(1)
        names = found[0].losses
        losses = {name: torch.stack([f.losses[name] for f in found]).mean() for name in names}
        return Quantized(self._back(values), codes, losses)

    def look_up(self, codes: Int[Tensor, "T R"]) -> Float[Tensor, "T E"]:
        cut = codes.unflatten(1, (self.blocks, -1))
        if bool((cut == NONE).all(-1).any()):
            raise InvalidValue(f"{self.name()}: codes must be there for every block of a vector; some are missing.")
        return self._back(torch.cat([block.dequantize(some) for block, some in self._each(cut)], 1).flatten(1))

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        if self.turn is not None:
            size = self.of.codebook_sizes[0]
            self.turn.copy_(self.rotation.learn(rows, self.turn, self.blocks, size, generator, passes))
        for block, some in self._each(self._cut(rows)):
            block.learn(some.flatten(0, 1), passes, generator)

    def distances(self, queries: Float[Tensor, "Q E"], codes: Int[Tensor, "T R"]) -> Float[Tensor, "Q T"]:
        """Squared distances from vectors to the values of codes, as sums over tables of distances to each block.

        Args:
            queries: vectors as they are; only the other side is quantized.
            codes: of vectors that were quantized; one without codes is infinitely far.

        Raises:
            InvalidValue: another width, codes that there are not, or blocks with several codebooks.
        """
        self.check_vectors(queries)
        self.check_codes(codes)
        if len(self.of.codebook_sizes) > 1:
            raise InvalidValue(f"{self.name()}: distances must be over blocks of one codebook; use dequantize instead.")
        found = torch.zeros(len(queries), len(codes), device=queries.device)
        every = torch.arange(self.of.codebook_sizes[0], device=codes.device).unsqueeze(1)
        cut = self._cut(queries.float())
        for at in range(self.blocks):
            table = self._block(at).dequantize(every)
            near = torch.cdist(cut[:, at], table, compute_mode="donot_use_mm_for_euclid_dist").square()
            found += near[:, codes[:, at]]
        return found.masked_fill((codes == NONE).any(1), torch.inf)

    def _cut(self, rows: Float[Tensor, "T E"]) -> Float[Tensor, "T M D"]:
        turned = rows if self.turn is None else rows @ self.turn.float()
        return turned.unflatten(1, (self.blocks, -1))

    def _back(self, values: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return values if self.turn is None else values @ self.turn.float().T

    def _each(self, cut: Tensor) -> Iterator[tuple[Quantizer, Tensor]]:
        """Each quantizer with its blocks, which are all of them where there is only one."""
        parts = [cut] if self.shared else cut.split(1, 1)
        for at, some in enumerate(parts):
            yield self._block(at), some

    def _block(self, at: int) -> Quantizer:
        block = self.stack[at % len(self.stack)]
        assert isinstance(block, Quantizer)
        return block
