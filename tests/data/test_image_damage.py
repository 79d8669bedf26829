"""Pictures are refused when they are not whole, too large, or nothing that is read safely."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
import zlib

import PIL.Image
import pytest
import torch
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tests.data.picture_files import PHOTO, chunk, encoded, pillow, png
from tokenry.core.errors import UnreadableInput
from tokenry.data.image import LARGEST_MEGAPIXELS, read_image, write_image
from tokenry.data.image_file import FORMATS


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "MPO"] + ["GIF"])
def test_every_truncation_is_refused_or_changes_nothing(kind):
    file = encoded(pillow(), kind)
    whole = read_image(file).pixels
    refused = 0
    for n in sorted({0, 1, 11, len(file) - 1, *range(0, len(file), max(1, len(file) // 60))}):
        try:
            assert torch.equal(read_image(file[:n]).pixels, whole)
        except UnreadableInput:
            refused += 1
    assert refused > 55


def test_every_damage_of_a_png_is_refused_or_changes_nothing():
    file, draw = encoded(pillow()), random.Random(0)
    for _ in range(300):
        damaged = bytearray(file)
        damaged[draw.randrange(len(file))] ^= 1 << draw.randrange(8)
        try:
            assert torch.equal(read_image(bytes(damaged)).pixels, PHOTO)
        except UnreadableInput:
            continue


def test_a_flipped_checksum_is_damage(tmp_path):
    write_image(torch.arange(48, dtype=torch.uint8).view(4, 4, 3), tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-13] ^= 1
    with pytest.raises(UnreadableInput):
        read_image(bytes(data))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "MPO"])
def test_damage_raises_nothing_else(kind):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file, draw = (
        encoded(pillow(), kind, **({"exif": exif} if kind in ("JPEG", "WEBP", "TIFF") else {})),
        random.Random(1),
    )
    for _ in range(150):
        damaged = bytearray(file)
        for _ in range(draw.choice((1, 3, 30))):
            damaged[draw.randrange(len(file) if draw.random() < 0.5 else min(120, len(file)))] = draw.randrange(256)
        try:
            assert read_image(bytes(damaged), megapixels=4).pixels.shape[2] == 3
        except UnreadableInput:
            continue


def test_a_damaged_exif_does_not_hide_the_picture():
    broken = ImageFileDirectory_v2()
    broken[0x0112] = 6
    file = encoded(pillow(), exif=b"Exif\0\0" + broken.tobytes()[:7] + b"\xff" * 40)
    with pytest.warns(UserWarning, match="image: its EXIF is damaged; the picture may lie on its side"):
        assert torch.equal(read_image(file).pixels, PHOTO)


@pytest.mark.parametrize(("x", "y"), [(9000, 9000), (30_000, 30_000), (1 << 30, 1 << 30), (1, 65_000_000)])
def test_bombs_are_refused_before_anything_is_decoded(x, y):
    with pytest.raises(UnreadableInput, match=r"must have at most 64 megapixels; got .*; raise megapixels="):
        read_image(png(x, y))


def test_the_bound_is_an_argument():
    assert LARGEST_MEGAPIXELS == 64
    file = encoded(pillow())
    with pytest.raises(UnreadableInput, match=r"must have at most 0\.002 megapixels; got 60x40, 0\.0"):
        read_image(file, megapixels=0.002)
    with pytest.raises(UnreadableInput, match=r"at most 0\.002 megapixels"):
        read_image(pillow(), megapixels=0.002)
    assert read_image(file, megapixels=0.0024).pixels.shape == (40, 60, 3)


def test_the_bound_can_be_above_the_one_of_pillow(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    for kind in ("PNG", "WEBP", "GIF"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(encoded(pillow(), kind)).pixels.shape == (40, 60, 3)
        assert PIL.Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(UnreadableInput, match="whole picture"):
        read_image(encoded(pillow())[:-50])
    assert PIL.Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.slow
def test_a_real_bomb_takes_no_memory():
    """A picture of 300 MB in 24 KB, in a process of its own."""
    script = (
        "import resource, struct, sys, zlib\n"
        "from tokenry.core.errors import UnreadableInput\n"
        "from tokenry.data.image import read_image\n"
        "import PIL.Image; PIL.Image.init()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_image(sys.stdin.buffer.read())\n"
        "except UnreadableInput as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    squeeze = zlib.compressobj(1)
    rows = b"".join(squeeze.compress(bytes(1251)) for _ in range(10_000)) + squeeze.flush()
    bomb = png(10_000, 10_000, bits=1, colour=0).replace(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", rows))
    done = subprocess.run([sys.executable, "-c", script], input=bomb, capture_output=True, check=True)
    said, more = done.stdout.decode().splitlines()
    assert "got 10000x10000, 100.0" in said
    assert int(more) < 20_000, "kilobytes"


@pytest.mark.parametrize("file", [png(0, 0), png(0, 5), png(5, 0), b"P6 0 0 255\n", b"GIF89a" + bytes(7) + b";"])
def test_pictures_without_pixels_are_refused(file):
    with pytest.raises(UnreadableInput, match="image: must"):
        read_image(file)


def test_a_pillow_image_without_pixels_is_refused():
    with pytest.raises(UnreadableInput, match=r"image: must have at least one pixel; got 0x5; pass another"):
        read_image(PIL.Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    ],
)
def test_drawings_are_refused(tmp_path, file, kind):
    path = tmp_path / "drawing.png"
    path.write_bytes(file)
    with pytest.raises(UnreadableInput, match=rf"drawing.png: must be made of pixels; got {kind}, .*; render it"):
        read_image(path)


def test_pictures_of_postscript_are_named():
    with pytest.raises(UnreadableInput, match="EPS"):
        read_image(b"\xc5\xd0\xd3\xc6" + bytes(40))


@pytest.mark.parametrize("file", [b"", b"hello", b"\0" * 500, random.Random(0).randbytes(5000)])
def test_what_is_no_picture_is_refused(file):
    with pytest.raises(UnreadableInput, match=r"image: must be a PNG, .* file; got something else"):
        read_image(file)


def test_formats_that_start_programs_or_are_rare_are_not_opened():
    for kind in ("EPS", "ICO", "PCX", "TGA", "SGI"):
        with pytest.raises(UnreadableInput, match="image: must be"):
            read_image(encoded(pillow(), kind))


def test_paths_that_are_no_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UnreadableInput, match=r": must be a file; none is there; pass another path"):
            read_image(path)
    with pytest.raises(UnreadableInput, match="must be a readable file; File name too long"):
        read_image("<svg>" * 100)
