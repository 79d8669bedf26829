"""Rows of a batch: one under the other, and soft tokens before the padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.fate import Fate
from tokenry.core.origin import NOWHERE, Origin, Source
from tokenry.core.sequence import Modality
from tokenry.core.tokens import TokenBatch


def ahead(batch: TokenBatch, soft: int) -> TokenBatch:
    """The columns of `soft` tokens, which follow the padding of each row, brought before it.

    The first columns of all rows are then the same tokens, so that a cache can hold them.
    """
    b, n = batch.shape
    pads = (~batch.mask).sum(1, keepdim=True)
    columns = torch.arange(n, device=batch.mask.device).expand(b, n)
    moved = torch.where(columns < pads + soft, columns - soft, columns)
    order = torch.where(columns < soft, columns + pads, moved)
    return batch.take(order).renumbered()


def stack(rows: Sequence[TokenBatch], held: Sequence[int] | None = None) -> TokenBatch:
    """Batches one under the other, padded on the left; all must hold embeddings, or all only ids.

    Args:
        held: of each batch, how many of its first columns are not to be moved away from the others': these stand
            before all padding, the shorter ones padded on their left.
    """
    if not rows:
        raise InvalidValue("stack: needs at least one row; got none.")
    if len({row.embeds is None for row in rows}) > 1 or len({row.positions.shape[0] for row in rows}) > 1:
        raise Incompatible("stack: rows must all hold embeddings, or all only ids, and equal position axes.")
    held = [0] * len(rows) if held is None else held
    zone, body = max(held), max(row.shape[1] - h for row, h in zip(rows, held, strict=True))
    places = [_places(row.shape[1], h, zone, body) for row, h in zip(rows, held, strict=True)]

    def joined(parts: list[Tensor], fill: int) -> Tensor:
        wide = []
        for part, at in zip(parts, places, strict=True):
            out = part.new_full((part.shape[0], zone + body, *part.shape[2:]), fill)
            wide.append(out.index_copy(1, at.to(part.device), part))
        return torch.cat(wide)

    def field(name: str, fill: int) -> Tensor | None:
        parts = [getattr(row, name) for row in rows]
        return None if any(part is None for part in parts) else joined(parts, fill)

    mask = joined([row.mask for row in rows], False)
    modality, protected = field("modality", int(Modality.PAD)), field("protected", False)
    assert modality is not None
    assert protected is not None
    return TokenBatch(
        ids=field("ids", 0),
        embeds=field("embeds", 0),
        mask=mask,
        positions=torch.stack([joined(list(axis), 0) for axis in zip(*(row.positions for row in rows), strict=True)]),
        modality=modality,
        protected=protected,
        fate=_fate(rows, places, zone + body),
        origin=_origin(rows),
    ).renumbered()


def with_embeds(batch: TokenBatch, lookup: Callable[[Tensor], Tensor]) -> TokenBatch:
    """The same tokens with their embeddings."""
    return replace(batch, embeds=batch.embedded(lookup))


def _places(n: int, held: int, zone: int, body: int) -> Tensor:
    """Where the n columns of a row go."""
    columns = torch.arange(n)
    return torch.where(columns < held, columns + zone - held, columns + zone + body - n)


def _fate(rows: Sequence[TokenBatch], places: Sequence[Tensor], width: int) -> Fate:
    originals = max(row.fate.shape[2] for row in rows)
    parts, first = [], 0
    for row, at in zip(rows, places, strict=True):
        b, n, n0 = row.fate.shape
        column, original = row.fate.index
        parts.append(
            torch.stack(
                (
                    (column // n + first) * width + at.to(column.device)[column % n],
                    (original // n0 + first) * originals + original % n0,
                )
            )
        )
        first += b
    weight = torch.cat([row.fate.weight for row in rows])
    return Fate.summed(torch.cat(parts, 1), weight, (first, width, originals))


def _origin(rows: Sequence[TokenBatch]) -> Origin:
    wide = max(row.origin.source.shape[1] for row in rows)
    sources: tuple[Source, ...] = ()
    source, spans = [], []
    for row in rows:
        mine, more = row.origin, wide - row.origin.source.shape[1]
        shifted = torch.where(mine.source >= 0, mine.source + len(sources), mine.source)
        source.append(pad(shifted, (0, more), value=NOWHERE))
        spans.append(pad(mine.spans, (0, 0, 0, more)))
        sources += mine.sources
    return Origin(sources, torch.cat(source), torch.cat(spans))
