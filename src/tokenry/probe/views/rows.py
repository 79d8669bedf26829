"""Rows as a probe reads them: cut from a long text, each with the mark that begins a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch


def cut(batches: Sequence[TokenBatch], length: int, most: int) -> TokenBatch:
    """Parts of `length` tokens of the rows of some batches, at most `most`, spread evenly over all of them.

    What is left at the end of a row is no part, unless the row is shorter than one.

    Raises:
        InvalidValue: tokens without ids.
    """
    parts = []
    for batch in batches:
        ids_of(batch)
        for row, real in enumerate(batch.mask):
            columns = real.nonzero()[:, 0]
            size = min(length, len(columns))
            parts += [_part(batch, row, at) for at in columns.split(max(1, size)) if len(at) == size]
    count = min(most, len(parts))
    return TokenBatch.collate([parts[i * len(parts) // count] for i in range(count)])


def _part(batch: TokenBatch, row: int, at: Int[Tensor, "M"]) -> TokenSequence:
    origin = batch.origin
    return TokenSequence(
        ids=ids_of(batch)[row, at], source=origin.source[row, at], spans=origin.spans[row, at], sources=origin.sources,
        protected=batch.protected[row, at], modality=batch.modality[row, at],
    )  # fmt: skip


def first_columns(batch: TokenBatch) -> Int[Tensor, "B"]:
    """The column of the first real token of each row."""
    return batch.mask.long().argmax(1)


def begun(batch: TokenBatch, mark: int | None) -> TokenBatch:
    """The same rows with the mark before those that do not begin with it; nothing is changed without a mark."""
    ids = ids_of(batch)
    first = first_columns(batch)
    if mark is None:
        return batch
    lacks = ids.gather(1, first.unsqueeze(1))[:, 0].ne(mark)
    if not bool(lacks.any()):
        return batch
    wide = torch.cat((torch.zeros_like(ids[:, :1]), ids), 1)
    mask = torch.cat((torch.zeros_like(batch.mask[:, :1]), batch.mask), 1)
    rows = lacks.nonzero()[:, 0]
    wide[rows, first[rows]], mask[rows, first[rows]] = mark, True
    return TokenBatch.from_ids(wide, mask)


def ids_of(batch: TokenBatch) -> Int[Tensor, "B N"]:
    """The ids of a batch of which every real token has one.

    Raises:
        InvalidValue: a token without an id.
    """
    if batch.ids is None or bool((batch.ids[batch.mask] < 0).any()):
        raise InvalidValue("probe: batch must have an id for every token; got embeddings; pass tokens of a text.")
    return batch.ids
