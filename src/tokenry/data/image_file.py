"""Picture files, opened without trust: by content, within limits, and nothing but pixels."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from tokenry.core.errors import InvalidValue, Notice, UnreadableInput
from tokenry.data.image_colours import colours, orientation_of, upright

if TYPE_CHECKING:
    import PIL.Image

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
"""What is decoded. Pillow knows more, among them formats for which it would start other programs."""

_NAMED = "PNG, JPEG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF"
_DRAWN = {b"%PDF": "PDF", b"%!PS": "PostScript", b"\xd7\xcd\xc6\x9a": "WMF", b"\xc5\xd0\xd3\xc6": "EPS"}
_PAGES = 1000
_RAISING = threading.Lock()


def from_file(file: BinaryIO, who: str, megapixels: float) -> Tensor:
    import PIL.Image

    PIL.Image.init()
    known = [kind for kind in FORMATS if kind in PIL.Image.OPEN]
    with decoding(who, megapixels), _allowing(megapixels):
        _refuse_drawings(file, who)
        with PIL.Image.open(file, formats=known) as image:
            check_size(image, who, megapixels)
            if image.format == "PNG":
                image.verify()
        file.seek(0)
        with PIL.Image.open(file, formats=known) as image:
            several = _several(image)
            pixels = from_pillow(image, who, megapixels)
    if several:
        warnings.warn(f"{who}: holds {several} pictures; the first one is read.", Notice, stacklevel=3)
    return pixels


def from_pillow(image: PIL.Image.Image, who: str, megapixels: float) -> Tensor:
    check_size(image, who, megapixels)
    image.load()
    pixels = colours(image, who)
    turned = upright(pixels, orientation_of(image, who))
    return torch.from_numpy(np.array(turned, dtype=np.uint8, order="C"))


@contextmanager
def decoding(who: str, megapixels: float) -> Iterator[None]:
    """Decoders raise whatever a damaged file leads them to; here all of it becomes one sentence."""
    import PIL.Image

    try:
        yield
    except (UnreadableInput, InvalidValue, MemoryError):
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise UnreadableInput(
            f"{who}: must have at most {megapixels:g} megapixels; got far more; raise megapixels= if you trust it."
        ) from error
    except PIL.UnidentifiedImageError as error:
        raise UnreadableInput(
            f"{who}: must be a {_NAMED} file; got something else or a damaged header; convert it to PNG."
        ) from error
    except Exception as error:
        raise UnreadableInput(
            f"{who}: must be a whole picture; {type(error).__name__}: {str(error)[:120]}; fetch it again."
        ) from error


@contextmanager
def _allowing(megapixels: float) -> Iterator[None]:
    """Raise the limit that Pillow keeps for the whole process, only where ours is higher, and put it back."""
    import PIL.Image

    limit, wanted = PIL.Image.MAX_IMAGE_PIXELS, int(megapixels * 1e6)
    if limit is None or wanted <= limit:
        yield
        return
    with _RAISING:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, wanted
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _refuse_drawings(file: BinaryIO, who: str) -> None:
    head = file.read(1024)
    file.seek(0)
    drawn = "SVG" if b"<svg" in head else _DRAWN.get(head[:4])
    if drawn:
        raise UnreadableInput(
            f"{who}: must be made of pixels; got {drawn}, which describes shapes; render it as PNG first."
        )


def check_size(image: PIL.Image.Image, who: str, megapixels: float) -> None:
    x, y = image.size
    if min(x, y) < 1:
        raise UnreadableInput(f"{who}: must have at least one pixel; got {x}x{y}; pass another picture.")
    if x * y > megapixels * 1e6:
        raise UnreadableInput(
            f"{who}: must have at most {megapixels:g} megapixels; got {x}x{y}, {x * y / 1e6:.1f}; "
            "raise megapixels= if you trust it."
        )


def _several(image: PIL.Image.Image) -> str:
    """How many pictures a file holds, or nothing for one."""
    if image.format == "TIFF":
        pages = _pages(image)
        return "" if pages == 1 else str(pages) if pages <= _PAGES else f"more than {_PAGES}"
    frames = getattr(image, "n_frames", 1)
    return "" if frames == 1 else str(frames)


def _pages(image: PIL.Image.Image) -> int:
    """Of a TIFF, up to a bound: Pillow's time to find all is quadratic."""
    pages = 1
    with suppress(EOFError):
        while pages <= _PAGES:
            image.seek(pages)
            pages += 1
    image.seek(0)
    return pages
