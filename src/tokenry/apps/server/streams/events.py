"""Server-sent events: a stream's bytes in its own pieces, and what each of them says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

_BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r")
MOST_BYTES = 1 << 24
"""Of one event; what is longer passes in the pieces in which it came."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Args:
        raw: its bytes, with the blank line that ends it.
        data: what it says, where that is a JSON object; None otherwise, as for comments and `[DONE]`.
    """

    raw: bytes
    data: Mapping[str, Any] | None

    @classmethod
    def of(cls, raw: bytes) -> Event:
        lines = raw.splitlines()
        said = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        try:
            data = json.loads(said) if said[:1] == b"{" else None
        except (ValueError, RecursionError):
            data = None
        return cls(raw, data)

    @property
    def is_done(self) -> bool:
        """Whether it is the last line of OpenAI's chat streams."""
        return self.data is None and self.raw.strip() == b"data: [DONE]"


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The bytes of a stream, cut behind each event; joined they are the same bytes."""
    held = b""
    async for chunk in chunks:
        at, held = max(0, len(held) - 3), held + chunk
        start = 0
        while found := _BLANK.search(held, max(at, start)):
            yield held[start : found.end()]
            start = found.end()
        held = held[start:]
        if len(held) > MOST_BYTES:
            yield held
            held = b""
    if held:
        yield held


def written(data: Mapping[str, Any], name: str = "") -> bytes:
    """An event as bytes."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode(
        errors="backslashreplace"
    )
