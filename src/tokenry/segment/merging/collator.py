"""Training examples in merged tokens, so that an adapter learns to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.segment.merging.reader import DynamicReader, Merged
from tokenry.segment.spelling.respelling import IGNORED

Example = Mapping[str, Any]


class MergingCollator:
    """Makes batches of embeddings of examples as Hugging Face tokenizers make them.

    Tokens of a causal model that have a label stay as they are: the model learns to go on in its own vocabulary after a
    prompt in merged tokens. An encoder's labels of tokens, such as names of things, are those of the first of the
    tokens that were merged, and so are its types, which tell the sentences of a pair; a label of the whole text stays.
    Padding and special tokens never change.

    Args:
        reader: the model whose embeddings they are; PEFT may wrap it before or after.
        ratio: how far to shorten, in place of the method's.
        drawn: draw a ratio between these two for every batch instead.
        seed: of what is drawn.
    """

    def __init__(
        self,
        reader: DynamicReader,
        *,
        ratio: float | None = None,
        drawn: tuple[float, float] | None = None,
        seed: int = 0,
    ) -> None:
        if drawn is not None and not 0.0 <= drawn[0] <= drawn[1] <= 1.0:
            raise InvalidValue(f"MergingCollator: drawn must be two ratios in [0, 1], the lower first; got {drawn}.")
        self.reader, self.ratio, self.drawn = reader, ratio, drawn
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A batch of merged examples.

        Raises:
            InvalidValue: an example without tokens, or labels that are neither one nor one for each token.
        """
        ratio = self.ratio
        if self.drawn is not None:
            low, high = self.drawn
            ratio = low + (high - low) * float(torch.rand((), generator=self._generator))
        rows = [self._real(example) for example in examples]
        ids = [row["input_ids"].tolist() for row in rows]
        merged = self.reader.merge(ids, [self._free(row) for row in rows], ratio=ratio)
        batch = self.reader.inputs(merged)
        if all("token_type_ids" in row for row in rows):
            batch["token_type_ids"] = self._firsts(rows, merged, batch["attention_mask"], "token_type_ids", 0)
        if "labels" in rows[0]:
            batch["labels"] = self._labels(rows, merged, batch["attention_mask"])
        return batch

    def _real(self, example: Example) -> dict[str, Tensor]:
        """The example without its padding."""
        found = {name: torch.as_tensor(value) for name, value in example.items() if name != "position_ids"}
        size = found["input_ids"].shape
        real = found["attention_mask"].bool() if "attention_mask" in found else torch.ones(size, dtype=torch.bool)
        return {name: value[real] if value.shape == size else value for name, value in found.items()}

    def _free(self, row: Mapping[str, Tensor]) -> list[bool]:
        free = torch.ones_like(row["input_ids"], dtype=torch.bool)
        if "special_tokens_mask" in row:
            free &= ~row["special_tokens_mask"].bool()
        if self.reader.causal and "labels" in row:
            free &= row["labels"] == IGNORED
        found: list[bool] = free.tolist()
        return found

    def _labels(self, rows: Sequence[Mapping[str, Tensor]], merged: Sequence[Merged], mask: Tensor) -> Tensor:
        if all(row["labels"].ndim == 0 for row in rows):
            return torch.stack([row["labels"] for row in rows]).to(mask.device)
        for row in rows:
            if row["labels"].shape != row["input_ids"].shape:
                raise InvalidValue(
                    f"examples: labels must be one, or one for each token; got {tuple(row['labels'].shape)} for "
                    f"{len(row['input_ids'])} tokens."
                )
        return self._firsts(rows, merged, mask, "labels", IGNORED)

    def _firsts(
        self, rows: Sequence[Mapping[str, Tensor]], merged: Sequence[Merged], mask: Tensor, name: str, padding: int
    ) -> Tensor:
        """What the first of the tokens that were merged has."""
        found = torch.full(mask.shape, padding)
        for r, (row, tokens) in enumerate(zip(rows, merged, strict=True)):
            found[r, mask[r].bool().cpu()] = row[name][list(tokens.starts)]
        return found.to(mask.device)
