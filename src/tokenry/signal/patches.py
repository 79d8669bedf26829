"""Patches: a picture becomes squares of pixels, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, positive
from tokenry.core.learned import LearnedPart, Unbuilt
from tokenry.core.origin import Source, SourceKind
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.data.image import Image
from tokenry.signal.base import SegmentTokenizer
from tokenry.signal.parts.picture_content import PictureContent, Pixels
from tokenry.signal.pictures.patch_grid import check_size


@dataclass(eq=False, repr=False, kw_only=True)
class Patches(SegmentTokenizer):
    """Cut a picture into squares, row by row, and give each as tokens.

    What it does
        A picture of Y x X pixels has ceil(Y / size) ceil(X / size) patches. What a token holds is a part: the pixels
        themselves, one vector for each patch, or codes of what an encoder sees.
    Where it acts
        On pictures of any size and shape. The last row and column of patches hold what is left; boxes end where the
        picture ends.
    Shapes
        pixels (Y, X, 3) -> ids (3 Y X) of `pixels`, embeds (P, E) of `projection` and `conv_stem`, ids (P R) of `codes`
        and `pixel_codes`.
    Guarantees
        The boxes of the patches partition the picture. With `pixels` decoding gives the picture back, byte for byte.
        Decoding looks only at ids or embeddings, at boxes and at the size of the picture, takes tokens in any order,
        and is grey where none are.
    Raises
        InvalidValue: no `Image`, ids or boxes that are none of its own, no tokens at all, no size.
        Unbuilt: the content must be fitted first.
    Deviations
        See the card.
    Relations
        `pack` puts pictures of different sizes into rows of one length; `tiles` cuts a large picture, and `thumbnail`
        shrinks it; `pixel_unshuffle` makes one vector of four.
    """

    card = Card(
        title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        year=2020,
        url="https://arxiv.org/abs/2010.11929",
        summary="a picture becomes squares of pixels, row by row",
        trial={"size": 4},
        deviations=(
            "pictures keep their size: none is stretched or cropped, and patches at the edges may be smaller",
            "by default a token is a byte; `content=projection` is the paper's",
        ),
        training=True,
    )
    takes: ClassVar[type] = Image
    kind: ClassVar[SourceKind] = "image"

    size: int = positive(16, doc="pixels on the side of a patch")
    content: PictureContent = part(Pixels(), doc="a token holds pixels, projection, conv_stem, pixel_codes or codes")

    def make(self) -> None:
        if isinstance(self.content, LearnedPart):
            if not self.content.built:
                self.content.build(size=self.size)
            if self.content.size != self.size:
                raise InvalidValue(
                    f"{self.name()}: size must be {self.content.size}, for which {self.content.name()} was built; "
                    f"got {self.size}."
                )

    @property
    def vocab_size(self) -> int:
        return self.content.vocab_size

    @property
    def books(self) -> tuple[int, ...]:
        return self.content.codebook_sizes

    def encode(self, signal: Any) -> TokenSequence:
        pixels = self._pixels(signal)
        self._check_ready("encode")
        drawn = self.content.encode(pixels, self.size)
        return TokenSequence(
            ids=drawn.ids,
            source=torch.zeros_like(drawn.ids),
            spans=drawn.boxes,
            sources=(Source(self.kind, signal, signal.name, self.size_of(signal)),),
            modality=torch.full_like(drawn.ids, int(Modality.IMAGE)),
            embeds=drawn.embeds,
        )

    def decode(self, tokens: TokenSequence) -> Image:
        self._check_ready("decode")
        return Image(self.content.decode(tokens, self.size))

    def size_of(self, signal: Any) -> tuple[int, ...]:
        height, width, _ = self._pixels(signal).shape
        return height, width

    def count(self, size: tuple[int, ...]) -> int | None:
        return self.content.count(*check_size(size, self.name()), self.size)

    def places(self, size: tuple[int, ...], count: int) -> Int[Tensor, "N 6"]:
        boxes = self.content.boxes(*check_size(size, self.name()), self.size)
        if len(boxes) != count:
            raise InvalidValue(f"{self.name()}: a picture of size {size} must have {len(boxes)} tokens; got {count}.")
        return boxes

    def fit(self, signals: Sequence[Any], *, seed: int = 0) -> Self:
        if not len(signals):
            raise InvalidValue(f"{self.name()}: pictures must be at least one; got none.")
        pictures = [self._pixels(signal) for signal in signals]
        generator = torch.Generator().manual_seed(seed)
        self.content.learn(pictures, self.size, generator)
        if not self.built:
            self.build(generator=generator)
        return self.eval()

    def save(self, folder: str | Path) -> None:
        if not self.built and not isinstance(self.content, LearnedPart):
            self.build()
        super().save(folder)

    def _pixels(self, signal: Any) -> UInt8[Tensor, "Y X 3"]:
        if not isinstance(signal, Image):
            raise InvalidValue(
                f"{self.name()}: a picture must be an Image; got {type(signal).__name__}; open it with read_image."
            )
        return signal.pixels

    def _check_ready(self, wanted: str) -> None:
        if not self.content.ready or (isinstance(self.content, LearnedPart) and not self.built):
            raise self._unbuilt(wanted)

    def _unbuilt(self, wanted: str) -> Unbuilt:
        return Unbuilt(f"{self.name()}: must be fitted before {wanted!r} is used; call fit(pictures) or load a folder.")
