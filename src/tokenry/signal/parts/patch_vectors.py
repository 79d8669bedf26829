"""Contents of pictures that are vectors: by a linear map, or by small convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, relu

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive
from tokenry.core.learned import LearnedPart, Unbuilt
from tokenry.core.sequence import TokenSequence
from tokenry.signal.parts.picture_content import Drawn, PictureContent, check_table
from tokenry.signal.parts.position import Position, SinCos
from tokenry.signal.pictures.patch_grid import check_once, cut, paste, patch_boxes, patch_grid, places_of, whole_patches

HALF = 127.5
"""Bytes become (v - 127.5) / 127.5."""
RIDGE = 1e-6
"""Added to the squares of the vectors, as a share of their mean, where pixels are fitted to them."""


@dataclass(eq=False, repr=False, kw_only=True)
class PatchVectors(LearnedPart, PictureContent):
    """A content that gives each patch one vector, to which one for its place is added.

    Args:
        width: numbers of each vector.
        position: what is added.
    """

    width: int
    position: Position

    @property
    def vocab_size(self) -> int:
        return 0

    @property
    def ready(self) -> bool:
        return self.built

    def boxes(self, height: int, width: int, size: int) -> Int[Tensor, "N 6"]:
        return patch_boxes(height, width, size)

    def place(self) -> None:
        """Make what is added, and refuse a width that it does not suit."""
        if isinstance(self.position, LearnedPart) and not self.position.built:
            self.position.build(width=self.width)
        self.position.grid(1, 1, self.width)

    def places(self, rows: int, columns: int, like: Tensor) -> Float[Tensor, "P E"]:
        """What is added to the vectors of a grid of patches, in the type of `like` and where it is."""
        return self.position.grid(rows, columns, self.width).flatten(0, 1).to(like)


@dataclass(eq=False, repr=False, kw_only=True)
class Projection(PatchVectors):
    """Give each patch as one vector, a linear map of its pixels and a vector for its place.

    What it does
        e = W v / 127.5 + b + p, where v are the patch's bytes less 127.5, pixel by pixel, red, green, blue, and p is of
        its row and column: a convolution whose stride is its width. A patch at an edge repeats the last pixels of the
        picture.
    Shapes
        pixels (Y, X, 3) -> embeds (P, E), ids -1.
    Guarantees
        Decoding finds the pixels by least squares: exactly where the width is at least 3 size^2 and the numbers are
        32-bit, the nearest of smallest norm elsewhere. Gradients reach W, b and a position that is learnt.
    Raises
        InvalidValue: vectors of another width, a width that the position cannot have.
        Unbuilt: there are no parameters yet.
    """

    part = Card(
        title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        year=2020,
        url="https://arxiv.org/abs/2010.11929",
        summary="each patch becomes one vector by a linear map",
        deviations=(
            "the map begins orthogonal, so that decoding is well conditioned; it is learnt inside a network, and "
            "`fit` only draws it",
            "positions are waves in two dimensions where the paper learns one vector for each number of a patch",
            "there is no class token",
        ),
        claims=(
            "a linear classifier on the vectors of 4 x 4 patches tells handwritten digits apart in more than 95 % at "
            "width 16",
            "at widths 1, 2 and 4 it is right at least 5 points more often than on a projection that is drawn",
        ),
        training=True,
    )

    width: int = positive(768, doc="numbers of each vector")
    position: Position = fields.part(SinCos(), doc="what is added: sin_cos, learned_position, no_position or rotary")

    def make(self, *, size: int) -> None:
        self.size = size
        check_table(3 * size * size * self.width, self.name())
        self.place()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(self.width, 3 * size * size)))
        self.bias = nn.Parameter(torch.zeros(self.width))

    def learn(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]], size: int, generator: torch.Generator) -> None:
        if not self.built:
            self.build(size=size, generator=generator)

    def encode(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        height, width, _ = pixels.shape
        values = cut(pixels, size).flatten(1).to(self.weight.device).float() / HALF - 1
        embeds = linear(values.to(self.weight.dtype), self.weight, self.bias)
        places = self.places(*patch_grid(height, width, size), self.weight)
        boxes = self.boxes(height, width, size)
        return Drawn(torch.full((len(boxes),), -1), boxes, embeds + places)

    def decode(self, tokens: TokenSequence, size: int) -> UInt8[Tensor, "Y X 3"]:
        embeds = _vectors(tokens, self.width, self.name())
        places = places_of(tokens, size, self.name())
        check_once(places.patch, self.name())
        with torch.no_grad():
            moved = embeds.cpu().double() - self.places(*places.grid, self.weight).cpu()[places.patch] - self.bias.cpu()
            found = torch.linalg.lstsq(self.weight.cpu().double(), moved.T, driver="gelsd").solution.T
        return paste((found + 1).view(-1, size, size, 3) * HALF, places)


@dataclass(eq=False, repr=False, kw_only=True)
class ConvStem(PatchVectors):
    """Give each patch as one vector, found by convolutions of 3 x 3 that halve the picture again and again.

    What it does
        log2(size) convolutions of 3 x 3 and stride 2, each with a normalization over channels and a ReLU, then one of
        1 x 1; a vector for the place is added. Decoding shows the pixels that `fit` found most likely, by least
        squares, for a vector: there is no exact way back.
    Shapes
        pixels (Y, X, 3) -> embeds (P, E), ids -1, as many as `projection` gives, with the same boxes.
    Guarantees
        A token reads the pixels of its box, size - 1 rows above it and size - 1 columns to its left, no others; an edge
        repeats the picture's last pixels. Gradients reach all weights.
    Raises
        InvalidValue: a size that is no power of 2, vectors of another width, a width that the position cannot have.
        Unbuilt: there are no parameters yet; for decoding, `fit` has seen no pictures.
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
        embeds = _vectors(tokens, self.width, self.name())
        places = places_of(tokens, size, self.name())
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


def _vectors(tokens: TokenSequence, width: int, who: str) -> Float[Tensor, "N E"]:
    """The embeddings of tokens.

    Raises:
        InvalidValue: none, those of another width, or numbers that are not finite.
    """
    embeds = tokens.embeds
    if embeds is None or embeds.shape[1] != width:
        found = "none" if embeds is None else f"width {embeds.shape[1]}"
        raise InvalidValue(f"{who}: tokens must have embeddings of width {width}; got {found}.")
    if not bool(embeds.isfinite().all()):
        raise InvalidValue(f"{who}: embeddings must be finite; got NaN or infinity.")
    return embeds


def _with_one(rows: Float[Tensor, "P E"]) -> Float[Tensor, "P F"]:
    return torch.cat((rows, rows.new_ones(len(rows), 1)), 1)
