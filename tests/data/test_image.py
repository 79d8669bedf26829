"""Pictures are read and written exactly, whatever they come from."""

from __future__ import annotations

import os
import resource
import warnings

import numpy as np
import PIL.Image
import pytest
import torch

from tests.data.picture_files import EXACT, PHOTO, encoded, pillow, tiff
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.data.image import Image, read_image, write_image

LOSSY = {"JPEG": {"quality": 95}, "AVIF": {"quality": 95}, "WEBP": {"quality": 95}, "MPO": {"quality": 95}}


@pytest.mark.parametrize("kind", EXACT)
def test_lossless_formats_are_exact(kind):
    assert torch.equal(read_image(encoded(pillow(), kind, **EXACT[kind])).pixels, PHOTO)


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_formats_are_close(kind):
    read = read_image(encoded(pillow(), kind, **LOSSY[kind])).pixels
    assert (read.int() - PHOTO.int()).abs().float().mean() < 6


def test_every_kind_of_source_gives_the_same(tmp_path):
    file = tmp_path / "a picture.jpg"
    file.write_bytes(encoded(pillow()))
    rows = PHOTO.numpy()
    sources = (file, str(file), file.read_bytes(), bytearray(file.read_bytes()), pillow(), rows, PHOTO)
    floats = (rows / 255, (rows / 255).astype(">f4"), PHOTO.float() / 255, (PHOTO / 255).requires_grad_())
    for source in (*sources, *floats):
        read = read_image(source)
        assert read.pixels.dtype == torch.uint8
        assert read.pixels.is_contiguous()
        assert not read.pixels.requires_grad
        assert torch.equal(read.pixels, PHOTO)
    assert read_image(file).name == "a picture.jpg"
    assert read_image(PHOTO).name == ""


def test_arrays_are_copied():
    rows, pixels = PHOTO.numpy().copy(), PHOTO.clone()
    first, second = read_image(rows), read_image(pixels)
    rows[:], pixels[:] = 0, 0
    assert torch.equal(first.pixels, PHOTO)
    assert torch.equal(second.pixels, PHOTO)
    assert torch.equal(read_image(PHOTO.numpy()[::-1, ::2]).pixels, PHOTO.flip(0)[:, ::2])


def test_grey_arrays_become_colours():
    grey = torch.arange(12, dtype=torch.uint8).view(3, 4)
    assert torch.equal(read_image(grey).pixels, grey[:, :, None].expand(3, 4, 3))
    assert torch.equal(read_image(grey.numpy()).pixels, grey[:, :, None].expand(3, 4, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_floats_give_all_256_values_back(dtype):
    levels = torch.arange(256).view(16, 16)
    assert torch.equal(read_image((levels / 255).to(dtype)).pixels[:, :, 0], levels.to(torch.uint8))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), -0.01, 1.01, 255.0])
def test_floats_out_of_range_are_refused(wrong):
    values = torch.full((2, 2, 3), 0.5)
    values[1, 0, 2] = wrong
    for source in (values, values.double().numpy(), values.bfloat16()):
        with pytest.raises(InvalidValue, match=r"pixels: must be finite floats from 0 to 1; got .*; scale them"):
            read_image(source)


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint16", "complex64", "object", "longdouble"])
def test_other_types_are_refused(dtype):
    with pytest.raises(InvalidValue, match=r"pixels: must be uint8, or floats from 0 to 1; got .*; scale them"):
        read_image(np.zeros((2, 2, 3), dtype))


def test_other_types_of_tensors_and_sources_are_refused():
    with pytest.raises(InvalidValue, match=r"got torch\.int32"):
        read_image(torch.zeros(2, 2, 3, dtype=torch.int32))
    with pytest.raises(InvalidValue, match=r"image: must be a path, .*; got list"):
        read_image([[0, 1]])


@pytest.mark.parametrize(
    "shape", [(), (3,), (3, 4, 5), (4, 5, 4), (4, 5, 1), (1, 4, 5, 3), (0, 5, 3), (5, 0, 3), (0, 0)]
)
def test_other_shapes_are_refused(shape):
    for source in (torch.zeros(shape), np.zeros(shape, "uint8")):
        with pytest.raises(InvalidValue, match=r"pixels: must have shape \(Y, X, 3\) with Y and X from 1; got \("):
            read_image(source)


def test_a_picture_knows_its_shape():
    with pytest.raises(InvalidValue, match=r"cat: must have shape"):
        Image(torch.zeros(3, 4, 5, dtype=torch.uint8), "cat")
    with pytest.raises(InvalidValue, match=r"pixels: must be uint8; got torch\.float32; open it with read_image"):
        Image(torch.zeros(4, 5, 3))


@pytest.mark.parametrize(("y", "x"), [(1, 1), (1, 700), (700, 1)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG"])
def test_one_row_or_one_column(kind, y, x):
    pixels = torch.full((y, x, 3), 200, dtype=torch.uint8)
    read = read_image(encoded(pillow(pixels), kind)).pixels
    assert read.shape == (y, x, 3)
    assert (read.int() - 200).abs().max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_read(kind):
    frames = [PIL.Image.new("RGB", (8, 6), colour) for colour in ("black", "white", "red")]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(UserWarning, match=r"image: holds 3 pictures; the first one is read\.") as caught:
        read = read_image(file)
    assert caught[0].filename == __file__
    assert read.pixels.max() == 0


def test_a_file_of_very_many_pages_is_not_counted_to_the_end():
    with pytest.warns(UserWarning, match="holds more than 1000 pictures"):
        read = read_image(tiff(1, 1, b"\x07", 8, pages=20_000))
    assert read.pixels.tolist() == [[[7, 7, 7]]]
    with pytest.warns(UserWarning, match="holds 1000 pictures"):
        read_image(tiff(1, 1, b"\x07", 8, pages=1000))


def test_one_picture_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("GIF", *EXACT):
            read_image(encoded(pillow(), kind))


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg"])
def test_what_is_written_is_read(tmp_path, suffix):
    file = tmp_path / "new" / f"a.{suffix}"
    for pixels in (PHOTO, PHOTO.numpy(), PHOTO / 255, Image(PHOTO)):
        write_image(pixels, file)
        read = read_image(file).pixels
        if suffix.lower() == "png":
            assert torch.equal(read, PHOTO)
        else:
            assert (read.int() - PHOTO.int()).abs().float().mean() < 2
    assert os.listdir(file.parent) == [file.name]


def test_colours_keep_their_places_in_a_jpeg(tmp_path):
    """Half the colours, as usual there, would be gone from lines of one pixel."""
    pixels = torch.zeros(16, 16, 3, dtype=torch.uint8)
    pixels[::2, :, 0] = 255
    pixels[1::2, :, 2] = 255
    write_image(pixels, tmp_path / "a.jpg")
    assert (read_image(tmp_path / "a.jpg").pixels.int() - pixels.int()).abs().max() < 40


def test_what_cannot_be_written_is_refused(tmp_path):
    file = tmp_path / "a.jpg"
    write_image(PHOTO, file)
    before = file.read_bytes()
    with pytest.raises(InvalidValue, match=r"a\.gif: must end in \.png, \.jpg, \.jpeg; got '\.gif'"):
        write_image(PHOTO, tmp_path / "a.gif")
    with pytest.raises(InvalidValue, match=r"must have sides of at most 65500; got 65501x1; use \.png"):
        write_image(torch.zeros(1, 65501, 3, dtype=torch.uint8), file)
    with pytest.raises(InvalidValue, match="must be finite floats"):
        write_image(torch.full((2, 2, 3), 2.0), file)
    with pytest.raises(StorageError, match="must be writable"):
        write_image(PHOTO, file / "b.png")
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.jpg"]
    write_image(torch.zeros(1, 65500, 3, dtype=torch.uint8), file)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.png"
    write_image(PHOTO, file)
    noise = torch.randint(0, 256, (200, 200, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"a\.png: could not be written; File too large; nothing was changed"):
            write_image(noise, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(read_image(file).pixels, PHOTO)
    assert os.listdir(tmp_path) == ["a.png"]
