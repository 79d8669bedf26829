"""Pictures in and out: whatever Pillow decodes safely becomes rows of red, green and blue."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.core.saving import whole_file

if TYPE_CHECKING:
    import PIL.Image

LARGEST_MEGAPIXELS = 64.0
"""A picture that its header says is larger is refused before anything is decoded."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
"""What is decoded. Pillow knows more, among them formats for which it would start other programs."""

_NAMED = "PNG, JPEG, WebP, GIF, TIFF, BMP, PPM, JPEG 2000 or AVIF"
_DRAWN = {b"%PDF": "PDF", b"%!PS": "PostScript", b"\xd7\xcd\xc6\x9a": "WMF", b"\xc5\xd0\xd3\xc6": "EPS"}
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_PAGES = 1000
_LONGEST_JPEG = 65500
_ORIENTATION = 0x0112
_BITS, _WHITE_IS_ZERO = 258, 262
_RAISING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Image:
    """A picture: rows from top to bottom, red, green and blue from 0 to 255.

    Args:
        pixels: what it shows, at least one row and one column.
        name: what to call it.

    Raises:
        InvalidValue: pixels of another shape or type.
    """

    pixels: UInt8[Tensor, "Y X 3"]
    name: str = ""

    def __post_init__(self) -> None:
        _check_shape(self.pixels, self.name or "pixels")
        if self.pixels.dtype != torch.uint8:
            raise InvalidValue(
                f"{self.name or 'pixels'}: must be uint8; got {self.pixels.dtype}; open it with read_image."
            )


def read_image(
    source: str | Path | bytes | PIL.Image.Image | np.ndarray | Tensor,
    *,
    megapixels: float = LARGEST_MEGAPIXELS,
) -> Image:
    """Open a picture.

    Files are those of `FORMATS`, known by their content and not by their suffix. Grey, palette, one-bit, CMYK and
    YCbCr pictures become red, green and blue; colour profiles are not applied. Of 16 bits the upper 8 are kept.
    What is transparent shows white. The orientation in EXIF is applied. A truncated file is refused; damage inside
    is, where the format has checksums (PNG) or the rest cannot be decoded.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array or tensor of shape (Y, X, 3) or (Y, X), with
            uint8 from 0 to 255 or floats from 0 to 1. Arrays are copied.
        megapixels: the largest picture to decode, in millions of pixels.

    Raises:
        UnreadableInput: a file that is missing, damaged, too large, or made of no pixels.
        InvalidValue: an array of another shape or type, or with values out of range.

    Warns:
        UserWarning: the file holds several pictures, of which the first is read; or its EXIF is damaged.
    """
    if isinstance(source, np.ndarray | Tensor):
        return Image(_from_array(source))
    import PIL.Image

    if isinstance(source, PIL.Image.Image):
        with _decoding("image", megapixels):
            return Image(_from_pillow(source, "image", megapixels))
    if isinstance(source, bytes | bytearray | memoryview):
        return Image(_from_file(io.BytesIO(source), "image", megapixels))
    if not isinstance(source, str | Path):
        raise InvalidValue(
            "image: must be a path, bytes, a Pillow image, an array or a tensor; "
            f"got {type(source).__name__}; pass one of these."
        )
    path = Path(source)
    try:
        if not path.is_file():
            raise UnreadableInput(f"{path}: must be a file; none is there; pass another path.")
        with path.open("rb") as file:
            return Image(_from_file(file, str(path), megapixels), path.name)
    except OSError as error:
        raise UnreadableInput(f"{path}: must be a readable file; {error.strerror}; pass another path.") from error


def write_image(pixels: Image | np.ndarray | Tensor, path: str | Path) -> None:
    """Write a picture as PNG (exactly) or JPEG (quality 95, colours at full size) by suffix, whole or not at all.

    Raises:
        InvalidValue: another suffix, pixels that `read_image` refuses, or a side too long for JPEG.
        StorageError: no permission or no space; an older file stays as it was.
    """
    import PIL.Image

    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InvalidValue(f"{path}: must end in {', '.join(_SUFFIXES)}; got {path.suffix!r}; choose one of these.")
    rows = (pixels.pixels if isinstance(pixels, Image) else _from_array(pixels)).cpu().numpy()
    if kind == "JPEG" and max(rows.shape) > _LONGEST_JPEG:
        raise InvalidValue(
            f"{path}: a JPEG must have sides of at most {_LONGEST_JPEG}; got {rows.shape[1]}x{rows.shape[0]}; use .png."
        )
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    with whole_file(path) as draft:
        PIL.Image.fromarray(rows).save(draft, format=kind, **options)


def _from_array(values: np.ndarray | Tensor) -> UInt8[Tensor, "Y X 3"]:
    if isinstance(values, np.ndarray):
        native = values.dtype.newbyteorder("=")
        if native not in (np.uint8, np.float16, np.float32, np.float64):
            raise InvalidValue(_wrong_type(values.dtype))
        values = torch.from_numpy(np.array(values, dtype=native, order="C", subok=False))
    elif values.dtype != torch.uint8 and not values.is_floating_point():
        raise InvalidValue(_wrong_type(values.dtype))
    if values.dim() == 2:
        values = values[:, :, None].expand(-1, -1, 3)
    _check_shape(values, "pixels")
    if values.is_floating_point():
        values = _from_floats(values, "pixels")
    return values.detach().cpu().clone(memory_format=torch.contiguous_format)


def _wrong_type(dtype: Any) -> str:
    return f"pixels: must be uint8, or floats from 0 to 1; got {dtype}; scale them to one of these."


def _check_shape(pixels: Tensor, who: str) -> None:
    shape = tuple(pixels.shape)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InvalidValue(
            f"{who}: must have shape (Y, X, 3) with Y and X from 1; got {shape}; "
            "put the colours last and leave out what is no colour."
        )


def _from_floats(values: Tensor, who: str) -> Tensor:
    values = values.detach().double() if values.dtype == torch.float64 else values.detach().float()
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):
        raise InvalidValue(
            f"{who}: must be finite floats from 0 to 1; got {low:g} to {high:g}; scale them or replace what is missing."
        )
    return (values * 255).round().to(torch.uint8)


def _from_file(file: BinaryIO, who: str, megapixels: float) -> Tensor:
    import PIL.Image

    PIL.Image.init()
    known = [kind for kind in FORMATS if kind in PIL.Image.OPEN]
    with _decoding(who, megapixels), _allowing(megapixels):
        _refuse_drawings(file, who)
        with PIL.Image.open(file, formats=known) as image:
            _check_size(image, who, megapixels)
            if image.format == "PNG":
                image.verify()
        file.seek(0)
        with PIL.Image.open(file, formats=known) as image:
            several = _several(image)
            pixels = _from_pillow(image, who, megapixels)
    if several:
        warnings.warn(f"{who}: holds {several} pictures; the first one is read.", stacklevel=3)
    return pixels


@contextmanager
def _decoding(who: str, megapixels: float) -> Iterator[None]:
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


def _check_size(image: PIL.Image.Image, who: str, megapixels: float) -> None:
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


def _from_pillow(image: PIL.Image.Image, who: str, megapixels: float) -> Tensor:
    _check_size(image, who, megapixels)
    image.load()
    pixels = _colours(image, who)
    turned = _upright(pixels, _orientation(image, who))
    return torch.from_numpy(np.array(turned, dtype=np.uint8, order="C"))


def _colours(image: PIL.Image.Image, who: str) -> np.ndarray:
    if image.mode == "F":
        return _in_colour(_from_floats(torch.from_numpy(np.array(image)), who).numpy())
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _in_colour(_from_16_bits(image, who))
    if image.has_transparency_data:
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _in_colour(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_16_bits(image: PIL.Image.Image, who: str) -> np.ndarray:
    """The upper 8 bits, as Pillow takes of 16-bit colours; its own conversion of 16-bit grey clips at 255."""
    values = np.asarray(image)
    if image.mode == "I" and (image.format not in ("PPM", "PNG") or values.min() < 0 or values.max() > 0xFFFF):
        raise UnreadableInput(f"{who}: must have 8 or 16 bits a colour; got 32; scale it and pass an array.")
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    grey = (values >> (bits - 8)).astype(np.uint8)
    if tags.get(_WHITE_IS_ZERO) == 0:
        grey = 255 - grey
    clear = image.info.get("transparency")
    return grey if clear is None else np.where(values == clear, np.uint8(255), grey)


def _over_white(pixels: np.ndarray) -> np.ndarray:
    """round((alpha c + (255 - alpha) 255) / 255), exactly."""
    alpha = pixels[:, :, 3:].astype(np.uint16)
    mixed: np.ndarray = (alpha * pixels[:, :, :3] + (255 - alpha) * np.uint16(255) + np.uint16(127)) // np.uint16(255)
    return mixed.astype(np.uint8)


def _orientation(image: PIL.Image.Image, who: str) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:
        warnings.warn(f"{who}: its EXIF is damaged; the picture may lie on its side.", stacklevel=4)
        return None


def _upright(pixels: np.ndarray, orientation: Any) -> np.ndarray:
    """Undo one of the eight EXIF orientations: 2 to 4 mirror or turn over, 5 to 8 also exchange rows and columns."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
