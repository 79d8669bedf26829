"""Pictures of all modes and depths become red, green and blue as documented, and stand upright."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch

from tests.data.picture_files import PHOTO, encoded, pillow, png, tiff
from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.data.image import read_image


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_modes_become_colours(mode):
    image = pillow().convert(mode)
    expected = torch.from_numpy(np.array(image.convert("RGB")))
    assert torch.equal(read_image(image).pixels, expected)
    kind = {"L": "PNG", "1": "PNG", "P": "GIF", "CMYK": "TIFF"}.get(mode)
    if kind:
        assert torch.equal(read_image(encoded(image, kind)).pixels, expected)


def test_cmyk_jpeg():
    read = read_image(encoded(pillow().convert("CMYK"), "JPEG", quality=95)).pixels
    assert (read.int() - PHOTO.int()).abs().float().mean() < 6


def test_modes_without_a_known_meaning_are_refused():
    with pytest.raises(UnreadableInput, match=r"image: must be a whole picture; ValueError"):
        read_image(PIL.Image.new("La", (2, 2)))
    with pytest.raises(UnreadableInput, match=r"image: must have 8 or 16 bits a colour; got 32; scale it"):
        read_image(encoded(PIL.Image.new("I", (2, 2), 1 << 20), "TIFF"))
    with pytest.raises(InvalidValue, match=r"image: must be finite floats from 0 to 1; got 7 to 7"):
        read_image(encoded(PIL.Image.new("F", (2, 2), 7.0), "TIFF"))
    half = read_image(encoded(PIL.Image.new("F", (2, 2), 0.2), "TIFF"))
    assert half.pixels.unique().tolist() == [51]


def test_16_bit_grey_is_scaled_and_not_clipped():
    values = np.arange(0, 1 << 16, 16, dtype=np.uint16).reshape(64, 64)
    expected = torch.from_numpy((values >> 8).astype(np.uint8))
    for kind in ("PNG", "TIFF", "PPM"):
        read = read_image(encoded(PIL.Image.fromarray(values), kind)).pixels
        assert (read == expected[:, :, None]).all(), kind
    assert read_image(np.float32(values / 65535)).pixels.max() == 255
    assert PIL.Image.fromarray(values).convert("RGB").getpixel((63, 0)) == (255, 255, 255), "Pillow no longer clips"


def test_16_bit_grey_and_16_bit_colours_agree():
    values = np.random.default_rng(0).integers(0, 1 << 16, (5, 7), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    tripled = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)
    assert torch.equal(read_image(png(7, 5, rows, 16, 0)).pixels, read_image(png(7, 5, tripled, 16, 2)).pixels)


def test_other_grey_tiffs():
    values = np.array([[0, 1000, 65535]], "<u2")
    assert read_image(tiff(3, 1, values.tobytes(), 16)).pixels[0, :, 0].tolist() == [0, 3, 255]
    assert read_image(tiff(3, 1, values.tobytes(), 16, white_is_zero=True)).pixels[0, :, 0].tolist() == [255, 252, 0]
    assert read_image(tiff(2, 1, b"\xff\xf0\x10", 12)).pixels[0, :, 0].tolist() == [255, 1]


def test_alpha_over_white_is_exact():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgba = np.stack([colour, colour, 255 - colour, alpha], 2).astype(np.uint8)
    share = alpha[:, :, None] / 255
    expected = np.floor(rgba[:, :, :3] * share + 255 * (1 - share) + 0.5)
    read = read_image(encoded(PIL.Image.fromarray(rgba))).pixels.numpy()
    assert np.abs(read - expected).max() == 0
    assert (read[0] == 255).all()


@pytest.mark.parametrize(("mode", "clear"), [("L", 0), ("1", 0), ("P", 0), ("RGB", (0, 0, 0)), ("I;16", 0)])
def test_a_transparent_colour_is_white(mode, clear):
    image = PIL.Image.new(mode, (2, 1), clear)
    if mode == "P":
        image.putpalette([0, 0, 0, 90, 90, 90])
    image.putpixel((1, 0), {"RGB": (90, 90, 90), "I;16": 90 << 8}.get(mode, 1 if mode in "1P" else 90))
    left, right = read_image(encoded(image, transparency=clear)).pixels[0].tolist()
    assert left == [255, 255, 255]
    assert right == ([255] * 3 if mode == "1" else [90] * 3)


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBa"])
def test_other_modes_with_alpha(mode):
    image = PIL.Image.new("RGBA", (2, 2), (40, 40, 40, 0))
    image.putpixel((0, 0), (40, 40, 40, 255))
    rows = read_image(image.convert(mode)).pixels[:, :, 0].tolist()
    assert rows == [[40, 255], [255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(kind, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = encoded(pillow(), kind, exif=exif)
    with PIL.Image.open(io.BytesIO(file)) as image:
        image.load()
        expected = torch.from_numpy(np.array(PIL.ImageOps.exif_transpose(image)))
        assert kind == "TIFF" or (image.size == (60, 40))
    assert torch.equal(read_image(file).pixels, expected)
    assert expected.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    with PIL.Image.open(io.BytesIO(file)) as image:
        assert torch.equal(read_image(image).pixels, expected)


def test_an_orientation_that_does_not_exist_is_ignored():
    exif = PIL.Image.Exif()
    exif[0x0112] = 99
    assert torch.equal(read_image(encoded(pillow(), exif=exif)).pixels, PHOTO)
