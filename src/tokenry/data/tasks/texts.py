"""Rows of bytes from files of text; the last tenth of each is kept for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.data import documents, read


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Rows from random places of the first nine tenths of some files, each file as often as it has bytes.

    Args:
        files: paths of UTF-8 texts; the sample documents where there are none.
        length: bytes of a row at most; it begins and ends with whole characters.

    Raises:
        InvalidValue: rows shorter than the longest character.
    """

    files: tuple[str, ...] = ()
    length: int = 256

    def __post_init__(self) -> None:
        if self.length < 4:
            raise InvalidValue(f"Texts: length must be at least 4, the bytes of a character; got {self.length}.")

    @cached_property
    def parts(self) -> dict[str, tuple[bytes, bytes]]:
        """What is learned from and what is not, by the name of the file.

        Raises:
            UnreadableInput: a file is missing or no UTF-8 text.
            InvalidValue: a file is too short for a row of both parts.
        """
        found = {}
        for name, data in _read(self.files):
            cut = _whole(data, len(data) * 9 // 10)
            found[name] = (data[:cut], data[cut:])
            if len(data) - cut < self.length:
                raise InvalidValue(
                    f"Texts: {name} must have at least {10 * self.length + 40} bytes, ten rows; got {len(data)}; give "
                    "more text or shorter rows."
                )
        return found

    def sample(self, rows: int, generator: torch.Generator) -> list[bytes]:
        """Some rows to learn from; the same generator gives the same ones."""
        learned = [first for first, _ in self.parts.values()]
        sizes = torch.tensor([len(text) for text in learned], dtype=torch.double)
        which = torch.multinomial(sizes, rows, replacement=True, generator=generator).tolist()
        places = torch.rand(rows, generator=generator, dtype=torch.double).tolist()
        return [
            _row(learned[i], int(p * (len(learned[i]) - self.length)), self.length)
            for i, p in zip(which, places, strict=True)
        ]

    def held_out(self, most: int) -> dict[str, list[bytes]]:
        """Rows that no step learns from: at most so many of each file, spread evenly over what is kept."""
        found = {}
        for name, (_, kept) in self.parts.items():
            count = min(most, len(kept) // self.length)
            starts = [i * (len(kept) - self.length) // max(1, count - 1) for i in range(count)]
            found[name] = [_row(kept, start, self.length) for start in starts]
        return found


def _read(files: Sequence[str]) -> list[tuple[str, bytes]]:
    if not files:
        return [(name, read(name).encode()) for name in sorted(documents())]
    found = []
    for file in files:
        try:
            data = Path(file).read_bytes()
            data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableInput(f"{file}: must be a readable file of UTF-8 text; {error}.") from error
        found.append((Path(file).stem, data))
    if len({name for name, _ in found}) < len(found):
        raise InvalidValue("Texts: files must have names of their own; got one twice.")
    return found


def _row(text: bytes, start: int, length: int) -> bytes:
    start = _whole(text, start)
    return text[start : _whole(text, min(len(text), start + length))]


def _whole(text: bytes, at: int) -> int:
    """The beginning of the character that a byte is of."""
    while 0 < at < len(text) and text[at] & 0xC0 == 0x80:
        at -= 1
    return at
