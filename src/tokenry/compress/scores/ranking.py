"""What a compressor found out about a batch: how important each unit of each row is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.compress.units.document import Document
from tokenry.core.tokens import TokenBatch


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of the units of every row.

    Args:
        documents: each row as a document.
        scores: for each row, one score per unit of its document; higher stays.
    """

    documents: tuple[Document, ...]
    scores: tuple[Float[Tensor, "U"], ...]

    def inverted(self) -> Ranking:
        """The worst first: the control that shows whether the scores mean anything."""
        return replace(self, scores=tuple(-s for s in self.scores))

    def columns(self, batch: TokenBatch) -> Float[Tensor, "B N"]:
        """The score of every column of the ranked batch; -inf where there is none, as for a template."""
        out = torch.full(batch.shape, float("-inf"))
        for row, (document, scores) in enumerate(zip(self.documents, self.scores, strict=True)):
            out[row, document.columns] = scores[torch.from_numpy(document.units.of)].float()
        return out

    def originals(self, batch: TokenBatch) -> Float[Tensor, "B N0"]:
        """The score of every original token of the ranked batch; -inf where it has none, or is gone already."""
        b, _, n0 = batch.fate.shape
        out = torch.full((b * n0,), float("-inf"))
        column, original = batch.fate.index.cpu()
        out[original] = self.columns(batch).flatten()[column]
        return out.view(b, n0)
