"""The header of a GGUF file: its names and values, without its tensors.

The reader of the gguf package goes through all tensors first, which takes seconds where only a vocabulary is asked for.
"""

from __future__ import annotations

import struct
from io import BufferedReader
from pathlib import Path
from typing import Any

from tokenry.core.errors import StorageError
from tokenry.models.files.vocabularies.opened import LARGEST_FILE, LARGEST_ID

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_NAMES = 1 << 12


def gguf_header(file: Path, prefix: str = "") -> dict[str, Any]:
    """The values whose names begin with `prefix`.

    Raises:
        StorageError: no GGUF file, a truncated one, or sizes that no real file has.
    """
    try:
        with file.open("rb") as stream:
            return _Header(stream).read(prefix)
    except (OSError, struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise StorageError(f"{file}: must be a whole GGUF file; {error}; fetch it again.") from error


class _Header:
    """A cursor over the header; it never reads more than a vocabulary may hold."""

    def __init__(self, stream: BufferedReader) -> None:
        self.stream, self.left = stream, LARGEST_FILE

    def read(self, prefix: str) -> dict[str, Any]:
        if self.bytes(4) != b"GGUF":
            raise ValueError("its first bytes say otherwise")
        version, _, names = self.number("I"), self.number("Q"), self.number("Q")
        if version not in (2, 3) or names > _MOST_NAMES:
            raise ValueError(f"its header says version {version} and {names} names")
        found = {}
        for _ in range(names):
            name = self.text()
            value = self.value(self.number("I"))
            if name.startswith(prefix):
                found[name] = value
        return found

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if count > LARGEST_ID:
            raise ValueError(f"a list of {count} values")
        if inner == _STRING:
            return [self.text() for _ in range(count)]
        code = _NUMBERS[inner]
        return list(struct.unpack(f"<{count}{code}", self.bytes(count * struct.calcsize(code))))

    def text(self) -> str:
        # Pieces of some files hold broken characters; names and pieces that matter do not.
        return self.bytes(self.number("Q")).decode("utf-8", "replace")

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(code)))[0]

    def bytes(self, count: int) -> bytes:
        self.left -= count
        if self.left < 0:
            raise ValueError(f"its header is larger than {LARGEST_FILE} bytes")
        data = self.stream.read(count)
        if len(data) < count:
            raise ValueError("it ends in the middle of its header")
        return data
