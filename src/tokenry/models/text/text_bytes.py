"""Where the characters of a text lie in its bytes, and those that have none."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Int

_LONE = re.compile("[\ud800-\udfff]")


def byte_offsets(text: str) -> Int[np.ndarray, "C"]:
    """Byte position of every character of a text, and of its end."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate(([0], np.cumsum(sizes)))


def sound(text: str) -> str:
    """The text, as long as it was, with U+FFFD for halves of surrogate pairs, which no vocabulary spells."""
    return text if text.isascii() else _LONE.sub("\ufffd", text)
