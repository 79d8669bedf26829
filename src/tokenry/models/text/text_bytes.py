"""Where the characters of a text lie in its bytes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def byte_offsets(text: str) -> Int[np.ndarray, "C"]:
    """Byte position of every character of a text, and of its end."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate(([0], np.cumsum(sizes)))
