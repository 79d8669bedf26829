"""Pixel unshuffle: neighbouring patches become one token whose vector holds all of theirs."""

from __future__ import annotations

from dataclasses import replace

import torch

from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence, there
from tokenry.signal.pictures.patch_grid import Places, check_once, patch_boxes, places_of


def pixel_unshuffle(tokens: TokenSequence, *, size: int, by: int = 2) -> TokenSequence:
    """One token for each square of `by` x `by` patches, whose vector is theirs, row by row, one after the other.

    Where the picture has no such patch, or its token is missing, the vector is zero there.

    Args:
        tokens: those of one picture, with embeddings.
        size: pixels on the side of a patch.

    Raises:
        InvalidValue: no embeddings, or boxes that are none of patches of this size.
    """
    who = "pixel_unshuffle"
    places = _places(tokens, size, by, who)
    embeds = there(tokens.embeds)
    width = embeds.shape[1]
    wide = patch_boxes(places.height, places.width, size * by)
    columns = -(-places.grid[1] // by)
    at = places.rows // by * columns + places.columns // by
    inner = places.rows % by * by + places.columns % by
    made = embeds.new_zeros(len(wide), by * by, width)
    made[at.to(embeds.device), inner.to(embeds.device)] = embeds
    held = at.unique()
    protected = torch.zeros(len(wide), dtype=torch.bool).index_put_((at,), tokens.guarded.cpu(), accumulate=True)
    return replace(
        tokens,
        ids=torch.full((len(held),), -1),
        source=tokens.source.cpu().new_empty(len(wide)).index_put_((at,), tokens.source.cpu())[held],
        spans=wide[held],
        protected=protected[held],
        modality=tokens.shows.cpu().new_empty(len(wide)).index_put_((at,), tokens.shows.cpu())[held],
        embeds=made.flatten(1)[held.to(embeds.device)],
    )  # fmt: skip


def pixel_shuffle(tokens: TokenSequence, *, size: int, by: int = 2) -> TokenSequence:
    """The inverse: a token for each patch again, row by row.

    Args:
        tokens: what `pixel_unshuffle` made.
        size: pixels on the side of a patch, the small one.

    Raises:
        InvalidValue: a width that is no multiple of `by` squared, no embeddings, or boxes of another size.
    """
    who = "pixel_shuffle"
    places = _places(tokens, size * by, by, who)
    embeds = there(tokens.embeds)
    if embeds.shape[1] % (by * by):
        raise InvalidValue(f"{who}: width must be a multiple of {by * by}; got {embeds.shape[1]}.")
    small = Places(places.rows, places.columns, places.height, places.width, size)
    rows, columns = small.grid
    step = torch.arange(by)
    y = (places.rows.view(-1, 1, 1) * by + step.view(-1, 1)).expand(-1, by, by).flatten()
    x = (places.columns.view(-1, 1, 1) * by + step).expand(-1, by, by).flatten()
    inside = ((y < rows) & (x < columns)).nonzero()[:, 0]
    inside = inside[(y[inside] * columns + x[inside]).argsort()]
    patch, owner = (y * columns + x)[inside], inside // (by * by)
    return replace(
        tokens,
        ids=torch.full((len(inside),), -1),
        source=tokens.source.cpu()[owner],
        spans=patch_boxes(places.height, places.width, size)[patch],
        protected=tokens.guarded.cpu()[owner],
        modality=tokens.shows.cpu()[owner],
        embeds=embeds.view(len(tokens) * by * by, -1)[inside.to(embeds.device)],
    )  # fmt: skip


def _places(tokens: TokenSequence, size: int, by: int, who: str) -> Places:
    if tokens.embeds is None or by < 1:
        raise InvalidValue(f"{who}: tokens must have embeddings, and by must be at least 1; got none, or {by}.")
    places = places_of(tokens, size, who)
    check_once(places.patch, who)
    return places
