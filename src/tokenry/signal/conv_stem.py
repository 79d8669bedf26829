"""Conv stem: each patch becomes one vector by a few small convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive
from tokenry.core.learned import Unbuilt
from tokenry.core.sequence import TokenSequence
from tokenry.signal.patch_vectors import PatchVectors
from tokenry.signal.picture_content import Drawn, check_table, vectors_of
from tokenry.signal.pictures.patch_grid import check_once, cut, paste, patch_grid, places_of, whole_patches
from tokenry.signal.position import Position
from tokenry.signal.projection import HALF
from tokenry.signal.sin_cos import SinCos

RIDGE = 1e-6
"""Added to the squares of the vectors, as a share of their mean, where pixels are fitted to them."""


@dataclass(eq=False, repr=False, kw_only=True)
class ConvStem(PatchVectors):
    """Give each patch as one vector, found by convolutions of 3 x 3 that halve the picture again and again.

    What it does
        log2(size) convolutions of 3 x 3 and stride 2, each with a normalization over channels and a ReLU, then one of
        1 x 1; a vector for the place is added. Decoding shows the pixels that `fit` found most likely, by least
        squares, for a vector: there is no exact way back.
    Where it acts
        As `content` of `patches`, in the place of `projection`.
    Shapes
        pixels (Y, X, 3) -> embeds (P, E), ids -1; P = ceil(Y / size) ceil(X / size).
    Guarantees
        As many tokens, with the same boxes, as `projection` gives. A token reads the pixels of its box, size - 1 rows
        above it and size - 1 columns to its left, no others; an edge repeats the picture's last pixels. Gradients reach
        all weights.
    Raises
        InvalidValue: a size that is no power of 2, vectors of another width, a width that the position cannot have.
        Unbuilt: there are no parameters yet; for decoding, `fit` has seen no pictures.
    Deviations
        See the card.
    Relations
        `projection` is one convolution whose stride is its width, and has a way back.
    """

    part = Card(
        title="Early Convolutions Help Transformers See Better",
        year=2021,
        url="https://arxiv.org/abs/2106.14881",
        summary="each patch becomes one vector by a few small convolutions",
        trial={"width": 16, "channels": 4},
        deviations=(
            "channels of each place are normalized, not each channel over a batch, so that a token depends on no other "
            "picture",
            "what the paper shows, that transformers then train more easily, is not measured here",
        ),
        training=True,
    )

    width: int = positive(768, doc="numbers of each vector")
    channels: int = positive(24, doc="channels behind the first convolution; every further one doubles them")
    position: Position = fields.part(SinCos(), doc="what is added: sin_cos, learned_position, no_position or rotary")

    def make(self, *, size: int) -> None:
        if size < 2 or size & (size - 1):
            raise InvalidValue(f"{self.name()}: size must be a power of 2 from 2; got {size}.")
        self.size = size
        wide = [3, *(self.channels << i for i in range(size.bit_length() - 1))]
        check_table(max(9 * wide[-1] * wide[-2], (wide[-1] + 3 * size * size) * self.width, self.width**2), self.name())
        self.place()
        self.halvings = nn.ModuleList(nn.Conv2d(one, other, 3, stride=2, padding=1) for one, other in pairwise(wide))
        self.last = nn.Conv2d(wide[-1], self.width, 1)
        self.register_buffer("shows", torch.zeros(self.width + 1, 3 * size * size))
        self.register_buffer("learnt", torch.tensor(False))

    @torch.no_grad()
    def learn(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]], size: int, generator: torch.Generator) -> None:
        if not self.built:
            self.build(size=size, generator=generator)
        squares = torch.zeros(self.width + 1, self.width + 1, dtype=torch.float64)
        products = torch.zeros(self.width + 1, 3 * size * size, dtype=torch.float64)
        for pixels in pictures:
            rows = _with_one(self._seen(pixels).double().cpu())
            squares += rows.T @ rows
            products += rows.T @ (cut(pixels, size).flatten(1).cpu().double() / HALF - 1)
        squares.diagonal().add_(RIDGE * squares.diagonal().mean())
        self.shows.copy_(torch.linalg.solve(squares, products))
        self.learnt.fill_(True)

    def encode(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        boxes = self.boxes(pixels.shape[0], pixels.shape[1], size)
        places = self.places(*patch_grid(pixels.shape[0], pixels.shape[1], size), self.last.weight)
        return Drawn(torch.full((len(boxes),), -1), boxes, self._seen(pixels) + places)

    @torch.no_grad()
    def decode(self, tokens: TokenSequence, size: int) -> UInt8[Tensor, "Y X 3"]:
        if not bool(self.learnt):
            raise Unbuilt(f"{self.name()}: must have seen pictures before it decodes; call fit(pictures).")
        embeds = vectors_of(tokens, self.width, self.name())
        places = places_of(tokens.spans, size, self.name())
        check_once(places.patch, self.name())
        moved = embeds.cpu().float() - self.places(*places.grid, self.last.weight).cpu().float()[places.patch]
        found = _with_one(moved) @ self.shows.cpu().float()
        return paste((found + 1).view(-1, size, size, 3) * HALF, places)

    def _seen(self, pixels: UInt8[Tensor, "Y X 3"]) -> Float[Tensor, "P E"]:
        """Vectors of all patches, without their places."""
        values = whole_patches(pixels, self.size).to(self.last.weight.device).float() / HALF - 1
        x = values.to(self.last.weight.dtype).movedim(2, 0).unsqueeze(0)
        for halving in self.halvings:
            x = halving(x).movedim(1, 3)
            x = relu(layer_norm(x, x.shape[3:])).movedim(3, 1)
        found: Tensor = self.last(x)
        return found[0].flatten(1).T


def _with_one(rows: Float[Tensor, "P E"]) -> Float[Tensor, "P F"]:
    return torch.cat((rows, rows.new_ones(len(rows), 1)), 1)
