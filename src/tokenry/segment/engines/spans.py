"""The bytes of a text that each token stands for: they follow each other and cover the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from tokenry.models.text.text_bytes import byte_offsets

Bounds = Int[np.ndarray, "T 2"]


def by_spelling(spelled: Sequence[bytes], raw: bytes) -> Bounds | None:
    """Bounds of tokens whose pieces spell the text side by side, perhaps after a space put before it; else None."""
    text = b"".join(spelled)
    ahead = 1 if text != raw and text == b" " + raw else 0
    if not ahead and text != raw:
        return None
    ends = np.cumsum(np.fromiter(map(len, spelled), np.int64, len(spelled))) - ahead
    return np.stack((np.concatenate(([0], ends[:-1])).astype(np.int64), ends), 1) if len(ends) else _none()


def by_offsets(offsets: Sequence[Sequence[int]], spelled: Sequence[bytes], text: str) -> Bounds:
    """Bounds of tokens of which a library says the characters.

    What stands between two tokens, such as a space that was left out, belongs to the later one, and what stands at
    the end to the last one. Tokens that share characters share out their bytes in order.
    """
    if not offsets:
        return _none()
    at = byte_offsets(text)
    given = np.maximum.accumulate(np.array(offsets, np.int64), 0)
    ends = at[np.minimum(given[:, 1], len(text))]
    # Tokens of one character end together: each but the last ends where its own bytes do.
    starts = np.concatenate(([0], ends[:-1]))
    group = np.concatenate(([0], np.cumsum(ends[1:] != ends[:-1])))
    sizes = np.fromiter(map(len, spelled), np.int64, len(spelled))
    first = np.searchsorted(group, group)
    within = np.cumsum(sizes) - np.concatenate(([0], np.cumsum(sizes)))[first]
    begin = np.maximum(starts[first], np.minimum(at[np.minimum(given[first, 0], len(text))], ends))
    last = np.concatenate((group[1:] != group[:-1], [True]))
    ends = np.where(last, ends, np.minimum(begin + within, ends))
    ends[-1] = at[-1]
    ends = np.maximum.accumulate(ends)
    return np.stack((np.concatenate(([0], ends[:-1])), ends), 1)


def _none() -> Bounds:
    return np.zeros((0, 2), np.int64)
