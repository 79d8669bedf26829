"""Collages say truly what is where."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from tokenry.core.errors import InvalidValue
from tokenry.data.collages import PATCH, PLACES, QUARTER, SIDE, SMALLEST, collage, question
from tokenry.data.image import Image, read_image
from tokenry.data.photographs import photographs


@pytest.fixture(scope="module")
def shown():
    """One colour each, which is told apart whatever its contrast and brightness."""
    colours = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220), "yellow": (220, 220, 20),
               "pink": (220, 20, 220)}  # fmt: skip
    return {name: Image(torch.tensor(c, dtype=torch.uint8).expand(90, 70, 3)) for name, c in colours.items()}


def named(colour):
    bright = tuple((colour > 128).tolist())
    return {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue",
            (True, True, False): "yellow", (True, False, True): "pink"}[bright]  # fmt: skip


def test_every_photograph_stands_in_its_quarter(shown):
    sides = set()
    for seed in range(40):
        made = collage(shown, torch.Generator().manual_seed(seed))
        pixels = made.image.pixels
        assert pixels.shape == (SIDE, SIDE, 3)
        assert len(set(made.names)) == len(PLACES)
        photographed = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        for place, name in enumerate(made.names):
            y0, y1, x0, x1 = made.boxes[place].tolist()
            assert (y1 - y0) == (x1 - x0)
            sides.add((y1 - y0) // PATCH)
            row, column = divmod(place, 2)
            half = QUARTER * PATCH
            assert row * half <= y0 < y1 <= (row + 1) * half
            assert column * half <= x0 < x1 <= (column + 1) * half
            assert PLACES[place] == f"{('top', 'bottom')[row]} {('left', 'right')[column]}"
            inside = pixels[y0:y1, x0:x1]
            assert named(inside[3, 3]) == name
            assert (inside == inside[0, 0]).all()
            photographed[y0:y1, x0:x1] = True
            covered = made.covered(place).view(2 * QUARTER, 2 * QUARTER)
            assert covered.sum() == ((y1 - y0) // PATCH) ** 2
            assert covered[y0 // PATCH, x0 // PATCH]
            assert covered[y1 // PATCH - 1, x1 // PATCH - 1]
        grey = pixels[~photographed]
        assert (grey == grey[0, 0]).all()
    assert sides == set(range(SMALLEST, QUARTER + 1))


def test_the_same_seed_gives_the_same_collage_and_nothing_else_is_drawn(shown):
    before = torch.get_rng_state()
    a, b, c = (collage(shown, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(a.image.pixels, b.image.pixels)
    assert a.names == b.names
    assert not torch.equal(a.image.pixels, c.image.pixels)
    assert torch.equal(before, torch.get_rng_state())


def test_places_are_asked_for():
    assert question(2) == "What is at the bottom left?"


def test_photographs_are_real_and_have_one_word():
    found = photographs()
    assert len(found) == 19
    for word, file in found.items():
        pixels = read_image(file).pixels.float()
        assert " " not in word
        assert min(pixels.shape[:2]) >= 150
        assert pixels.std() > 10


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidValue, match=r'pip install "tokenry\[collages\]"'):
        photographs()
