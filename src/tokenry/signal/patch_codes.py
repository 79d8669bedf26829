"""What codes of patches have in common: an id is a code and the sizes of all codebooks before its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from tokenry.core.learned import LearnedPart
from tokenry.core.sequence import TokenSequence
from tokenry.quantize.base import Quantizer
from tokenry.signal.picture_content import Drawn, PictureContent, check_ids
from tokenry.signal.pictures.patch_grid import Places, check_once, patch_boxes, places_of


@dataclass(eq=False, repr=False, kw_only=True)
class PatchCodes(LearnedPart, PictureContent):
    """A content whose quantizer gives each patch R codes, which are learnt from pictures."""

    quantizer: Quantizer

    @property
    def vocab_size(self) -> int:
        return sum(self.quantizer.codebook_sizes)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    @property
    def ready(self) -> bool:
        return self.built and bool(self.get_buffer("learnt"))

    def boxes(self, height: int, width: int, size: int) -> Int[Tensor, "N 6"]:
        return patch_boxes(height, width, size).repeat_interleave(len(self.codebook_sizes), 0)

    def ids(self, codes: Int[Tensor, "P R"]) -> Int[Tensor, "P R"]:
        """Ids of codes; -1 where a codebook had no part."""
        return torch.where(codes >= 0, codes + self._first().to(codes.device), -1)

    def drawn(self, ids: Int[Tensor, "P R"], pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        """The tokens of a picture whose patches have these ids."""
        found = ids.cpu().flatten()
        return Drawn(found[found >= 0], self.boxes(pixels.shape[0], pixels.shape[1], size)[found >= 0])

    def placed(self, tokens: TokenSequence, size: int) -> tuple[Places, Int[Tensor, "N"], Int[Tensor, "N"]]:
        """Where tokens stand, of which codebook each is, and its code there.

        Raises:
            InvalidValue: ids that there are not, boxes that are none of patches, or a place that is said twice.
        """
        places = places_of(tokens.spans, size, self.name())
        ids, first = tokens.ids.cpu(), self._first()
        check_ids(ids, self.vocab_size, self.name())
        book = torch.bucketize(ids, first[1:], right=True)
        check_once(places.patch * len(first) + book, self.name())
        return places, book, ids - first[book]

    def _first(self) -> Int[Tensor, "R"]:
        """The first id of each codebook."""
        sizes = torch.tensor(self.codebook_sizes)
        return sizes.cumsum(0) - sizes
