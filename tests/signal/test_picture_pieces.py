"""Tiles, thumbnails and pixel unshuffle: tokens of pieces know where they are in the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pixel_unshuffle as unshuffled_by_torch

from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image
from tokenry.signal.parts.patch_vectors import Projection
from tokenry.signal.patches import Patches
from tokenry.signal.pictures.pixel_unshuffle import pixel_shuffle, pixel_unshuffle
from tokenry.signal.pictures.tiles import thumbnail, tiles


def image(height, width):
    generator = torch.Generator().manual_seed(0)
    return Image(torch.randint(256, (height, width, 3), generator=generator, dtype=torch.uint8), "whole")


def vectors(shown, size=4, width=8):
    with torch.no_grad():
        return Patches(size=size, content=Projection(width=width)).build().encode(shown)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (19, 9), (1, 30), (5, 5)])
def test_tiles_together_are_the_picture(height, width):
    shown, method = image(height, width), Patches(size=4)
    pieces = tiles(shown, 8)
    assert len(pieces) == -(-height // 8) * -(-width // 8)
    for piece in pieces:
        y0, y1, x0, x1 = piece.box
        assert torch.equal(piece.image.pixels, shown.pixels[y0:y1, x0:x1])
    whole = TokenSequence.joined([piece.place(method.encode(piece.image)) for piece in pieces])
    assert torch.equal(method.decode(whole).pixels, shown.pixels)
    assert all(source.data is shown for source in whole.sources)
    boxes = {tuple(box) for piece in pieces for box in piece.place(vectors(piece.image)).spans.tolist()}
    assert boxes == {tuple(box) for box in vectors(shown).spans.tolist()}


@pytest.mark.parametrize(("height", "width", "expected"), [(40, 30, (20, 15)), (100, 3, (20, 1)), (7, 9, (7, 9))])
def test_a_thumbnail_shows_all(height, width, expected):
    shown = image(height, width)
    piece = thumbnail(shown, 20)
    assert piece.image.pixels.shape[:2] == expected
    placed = piece.place(Patches(size=4).encode(piece.image))
    seen = torch.zeros(height, width)
    for _, _, y0, y1, x0, x1 in placed.spans.tolist():
        seen[y0:y1, x0:x1] += 1
    assert (seen >= 3).all(), "boxes cover the whole picture"
    if (height, width) == (40, 30):
        means = shown.pixels.float().view(20, 2, 15, 2, 3).mean((1, 3)).round()
        assert (piece.image.pixels - means).abs().max() <= 1
        assert (seen == 3).all()
    if (height, width) == (7, 9):
        assert torch.equal(piece.image.pixels, shown.pixels)


def test_a_box_of_a_thumbnail_covers_all_that_it_shows_something_of():
    placed = thumbnail(image(10, 10), 4).place(vectors(thumbnail(image(10, 10), 4).image, size=1))
    columns = placed.spans[:4, 4:].tolist()
    assert columns == [[0, 3], [2, 5], [5, 8], [7, 10]]
    assert placed.spans[::4, 2:4].tolist() == columns


def test_tokens_of_another_picture_are_not_placed():
    piece = tiles(image(16, 16), 8)[0]
    with pytest.raises(InvalidValue, match="place: tokens must be of this piece of 8x8"):
        piece.place(Patches(size=4).encode(image(9, 8)))
    for cutter in (tiles, thumbnail):
        with pytest.raises(InvalidValue, match="side must be at least 1"):
            cutter(image(4, 4), 0)


def test_unshuffled_vectors_are_those_of_torch():
    tokens = vectors(image(16, 24))
    found = pixel_unshuffle(tokens, size=4)
    grid = tokens.embeds.view(4, 6, 8).permute(2, 0, 1)
    # torch puts the numbers of a vector first and its place in the square last.
    expected = unshuffled_by_torch(grid, 2).view(8, 4, 2, 3).permute(2, 3, 1, 0).reshape(6, 32)
    assert torch.equal(found.embeds, expected)
    assert found.spans[0].tolist() == [0, 1, 0, 8, 0, 8]
    assert (found.shows == tokens.shows[0]).all()
    assert (found.ids == -1).all()


@pytest.mark.parametrize("by", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (19, 9), (1, 30), (4, 4)])
def test_shuffling_undoes_it(height, width, by):
    tokens = vectors(image(height, width))
    tokens = replace(tokens, protected=torch.zeros(len(tokens), dtype=torch.bool))
    few = pixel_unshuffle(tokens, size=4, by=by)
    rows, columns = -(-height // 4), -(-width // 4)
    assert len(few) == -(-rows // by) * -(-columns // by)
    again = pixel_shuffle(few, size=4, by=by)
    assert torch.equal(again.embeds, tokens.embeds)
    assert torch.equal(again.spans, tokens.spans)
    mixed = torch.randperm(len(few), generator=torch.Generator().manual_seed(1))
    turned = replace(few, **{n: getattr(few, n)[mixed] for n in ("ids", "source", "spans", "modality", "embeds")})
    assert torch.equal(pixel_shuffle(turned, size=4, by=by).embeds, tokens.embeds)


def test_a_picture_that_lost_its_last_patches_keeps_its_size():
    tokens = vectors(image(11, 18))
    first = replace(tokens, **{n: getattr(tokens, n)[:2] for n in ("ids", "source", "spans", "modality", "embeds")})
    few = pixel_unshuffle(first, size=4)
    assert few.spans.tolist() == [[0, 1, 0, 8, 0, 8]]
    again = pixel_shuffle(few, size=4)
    assert torch.equal(again.spans, tokens.spans[[0, 1, 5, 6]])
    assert torch.equal(again.embeds[:2], tokens.embeds[:2])


def test_missing_patches_are_zero_and_a_protected_one_protects():
    tokens = vectors(image(8, 16))
    keep = torch.tensor([1, 2, 3, 5, 7])
    guarded = torch.tensor([False, False, True, False, False])
    part = replace(
        tokens, **{n: getattr(tokens, n)[keep] for n in ("ids", "source", "spans", "modality", "embeds")},
        protected=guarded,
    )  # fmt: skip
    few = pixel_unshuffle(part, size=4)
    assert few.guarded.tolist() == [False, True]
    assert not few.embeds[0].view(4, 8)[[0, 2]].any()
    assert torch.equal(few.embeds[0].view(4, 8)[[1, 3]], tokens.embeds[[1, 5]])


def test_what_cannot_be_unshuffled_is_refused():
    tokens = vectors(image(8, 8))
    with pytest.raises(InvalidValue, match="tokens must have embeddings"):
        pixel_unshuffle(Patches(size=4).encode(image(8, 8)), size=4)
    with pytest.raises(InvalidValue, match="squares of 8 pixels"):
        pixel_unshuffle(tokens, size=8)
    with pytest.raises(InvalidValue, match="width must be a multiple of 9; got 32"):
        pixel_shuffle(pixel_unshuffle(tokens, size=4), size=4, by=3)
