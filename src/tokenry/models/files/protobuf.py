"""Protobuf messages as numbered fields, without a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def fields(data: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message; what is not a number stays bytes, nested messages too.

    Raises:
        ValueError: a field ends behind the end of the message, or a number does not end.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
        if size < 0 or at + size > len(data):
            raise ValueError("a field ends behind the end of the file")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift <= 63:
        if at == len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number is too long")
