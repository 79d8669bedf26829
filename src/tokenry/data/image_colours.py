"""What Pillow decoded as red, green and blue, the right way up."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tokenry.core.errors import Notice, UnreadableInput
from tokenry.data.image_values import from_floats

if TYPE_CHECKING:
    import PIL.Image

_ORIENTATION = 0x0112
_BITS, _WHITE_IS_ZERO = 258, 262


def colours(image: PIL.Image.Image, who: str) -> np.ndarray:
    if image.mode == "F":
        return _in_colour(from_floats(torch.from_numpy(np.array(image)), who).numpy())
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


def orientation_of(image: PIL.Image.Image, who: str) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:
        warnings.warn(f"{who}: its EXIF is damaged; the picture may lie on its side.", Notice, stacklevel=4)
        return None


def upright(pixels: np.ndarray, orientation: Any) -> np.ndarray:
    """Undo one of the eight EXIF orientations: 2 to 4 mirror or turn over, 5 to 8 also exchange rows and columns."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
