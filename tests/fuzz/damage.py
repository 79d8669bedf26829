"""Any bytes as a change of something whole: a file that is nearly right reaches further than noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 1e308, 0.5, "", "a", "\0", "\ud800", "é", "##", "▁", "(", [],
    {}, [[]], {"type": "BPE"}, ["a", "b"], "Unigram", "WordPiece", "Sequence", "ByteLevel", "Split", "Precompiled",
)  # fmt: skip


class Draws:
    """Numbers and bytes out of bytes; zeros where they end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def below(self, size: int) -> int:
        """A number from 0 to `size` - 1."""
        return int.from_bytes(self.take(1 if size <= 256 else 3), "little") % max(1, size)

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def rest(self) -> bytes:
        return self.take(self.left)


def damaged(wholes: Sequence[bytes], data: bytes) -> bytes:
    """The bytes themselves, or one of some whole files with stretches replaced, cut out and put in."""
    draws = Draws(data)
    chosen = draws.below(len(wholes) + 1)
    if chosen == len(wholes):
        return draws.rest()
    found = bytearray(wholes[chosen])
    while draws.left:
        at, gone, new = draws.below(len(found) + 1), draws.below(8), draws.take(draws.below(8))
        found[at : at + gone] = new
    return bytes(found)


def damaged_json(wholes: Sequence[bytes], data: bytes) -> bytes:
    """A JSON file with some values replaced, taken out or told twice; half of the time damaged as bytes."""
    draws = Draws(data)
    if draws.below(2):
        return damaged(wholes, draws.rest())
    found = json.loads(wholes[draws.below(len(wholes))])
    while draws.left:
        found = _changed(found, draws)
    return json.dumps(found).encode()


def _changed(value: Any, draws: Draws) -> Any:
    """A value with one change somewhere inside."""
    if isinstance(value, dict | list) and value and draws.below(6):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[draws.below(len(keys))]
        changed = value.copy()
        if draws.below(8) == 0:
            del changed[key]
        else:
            changed[key] = _changed(value[key], draws)
        return changed
    way = draws.below(3)
    if way == 0:
        return VALUES[draws.below(len(VALUES))]
    if way == 1:
        return draws.take(draws.below(8)).decode("latin1")
    return [value, value] if draws.below(2) else {"a": value}
