"""The same text in other tokens, and the map that carries everything known about the old ones over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary

IGNORED = -100
"""The label that losses leave out."""


@dataclass(frozen=True, slots=True, eq=False)
class Respelling:
    """The parts of N tokens, in the order of the text.

    Args:
        ids: the M parts.
        parent: which old token each part belongs to; never decreases, and no old token is left out.
    """

    ids: Int[Tensor, "M"]
    parent: Int[Tensor, "M"]

    @classmethod
    def same(cls, ids: Int[Tensor, "N"]) -> Respelling:
        """Every token as it was."""
        return cls(ids, torch.arange(len(ids), device=ids.device))

    def __len__(self) -> int:
        return len(self.ids)

    def split(self) -> Bool[Tensor, "M"]:
        """Whether each part is one of several of its token."""
        return (self.parent.bincount() > 1)[self.parent]

    def spread(self, values: Shaped[Tensor, "N *_"]) -> Shaped[Tensor, "M *_"]:
        """What is known of the tokens, such as loss masks and weights, for the parts: each has its token's value."""
        return values[self.parent]

    def spread_labels(self, labels: Int[Tensor, "N"], ids: Int[Tensor, "N"]) -> Int[Tensor, "M"]:
        """Labels of the parts: the parts' own ids, and `IGNORED` for every part of a token that has this label.

        Args:
            labels: each token's own id or `IGNORED`, not shifted: models shift labels themselves.
            ids: the old tokens.

        Raises:
            InvalidValue: any other label, for it says nothing about the parts.
        """
        wrong = (labels != ids) & (labels != IGNORED)
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0, 0])
            raise InvalidValue(
                f"labels: must be the ids themselves or {IGNORED}; got {int(labels[at])} for the id {int(ids[at])} at "
                f"{at}; pass labels that are not shifted."
            )
        return torch.where(self.spread(labels) == IGNORED, IGNORED, self.ids)

    def spread_spans(self, spans: Int[Tensor, "N 6"], vocabulary: Vocabulary) -> Int[Tensor, "M 6"]:
        """Places of the parts: those of a token lie side by side from its first byte on, as long as their bytes."""
        out = self.spread(spans).clone()
        lengths = torch.where(self.split(), piece_lengths(vocabulary).to(self.ids.device)[self.ids], 0)
        ends = lengths.cumsum(0)
        before = ends - lengths
        starts = before - before[self._heads()][self.parent]
        parts = self.split()
        out[parts, 0] += starts[parts]
        out[parts, 1] = out[parts, 0] + lengths[parts]
        return out

    def _heads(self) -> Int[Tensor, "N"]:
        """The first part of every token."""
        counts = self.parent.bincount()
        return counts.cumsum(0) - counts


@lru_cache(maxsize=8)
def piece_lengths(vocabulary: Vocabulary) -> Int[Tensor, "V"]:
    """Bytes of every id, 0 for marks."""
    return torch.tensor([len(piece or b"") for piece in vocabulary], dtype=torch.long)
