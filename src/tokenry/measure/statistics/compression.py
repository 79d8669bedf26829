"""How short universal coders make bytes and ids."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]

CODERS: Mapping[str, Callable[[bytes], int]] = {
    "gzip": lambda data: len(gzip.compress(data, 9, mtime=0)),
    "lzma": lambda data: len(lzma.compress(data, lzma.FORMAT_RAW, filters=_FILTERS)),
}
"""Bytes of the compressed form. gzip looks back over 32 kB only, lzma over 8 MB."""


def packed(ids: Int[np.ndarray, "N"], entries: int) -> bytes:
    """Ids as bytes of a fixed width, the smallest that holds a vocabulary of so many entries."""
    width = max(1, -(-(max(entries, 1) - 1).bit_length() // 8))
    return ids.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
