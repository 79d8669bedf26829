"""What vectors of patches have in common: their width, and what is added for their places."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.learned import LearnedPart
from tokenry.signal.picture_content import PictureContent
from tokenry.signal.pictures.patch_grid import patch_boxes
from tokenry.signal.position import Position


@dataclass(eq=False, repr=False, kw_only=True)
class PatchVectors(LearnedPart, PictureContent):
    """A content that gives each patch one vector.

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
