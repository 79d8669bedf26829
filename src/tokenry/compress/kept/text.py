"""The text that is left: slices of the sources in order, where a dropped stretch leaves a space or a line break."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int
from torch import Tensor

from tokenry.core.origin import Source
from tokenry.core.tokens import TokenBatch

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_BETWEEN_SOURCES = "\n\n"


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The text of some tokens, and where each of them stands in it.

    Args:
        text: what a reader of these tokens sees.
        starts: first character of each token; the starts never decrease.
        ends: the character after each token.
        stretch: number of the stretch of one source that each token belongs to.
    """

    text: str
    starts: Int[np.ndarray, "T"]
    ends: Int[np.ndarray, "T"]
    stretch: Int[np.ndarray, "T"]


def text_of(batch: TokenBatch, row: int = 0, kinds: Collection[str] = ("text",)) -> str:
    """The text of the tokens of one row that come from sources of the given kinds.

    An untouched source comes out as it went in. Where tokens were dropped, one space stands, or the line break or
    blank line that was dropped with them; words are never glued. A character that several tokens share is shown
    while any of them is left. Sources are set apart by a blank line.
    """
    sources = batch.origin.sources
    spans = batch.spans()[row][batch.mask[row]].cpu()
    shown = [s.kind in kinds and isinstance(s.data, str) for s in sources]
    wanted = [s >= 0 and shown[s] for s in spans[:, 0].tolist()]
    return read(sources, spans[wanted]).text


def read(sources: tuple[Source, ...], spans: Int[Tensor, "T 8"]) -> Reading:
    """Put tokens of text sources, in their order, back into one text; `spans` are those of `TokenBatch.spans`."""
    page = _Page()
    last, end = -1, 0
    for source, low, high in _characters(sources, spans):
        data: str = sources[source].data
        if source != last or low < page.latest:
            if last >= 0:
                page.skip(sources[last].data[end:])
            page.turn()
            last, end = source, 0
        if low > end:
            page.skip(data[end:low])
        page.token(data[max(low, end) : high], low)
        end = max(end, high)
    if last >= 0:
        page.skip(sources[last].data[end:])
    return page.reading()


class _Page:
    """Text as it is written. White space waits until the next visible character says what becomes of it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.stretch: list[int] = []
        self.length = 0  # without the space that waits
        self.space = ""
        self.dropped = False
        self.settled = 0  # tokens whose places can no longer move
        self.number = -1
        self.latest = 0

    def turn(self) -> None:
        """Another source begins, or the same one anew."""
        self.number += 1
        self.latest = 0
        if self.number:
            self.space += _BETWEEN_SOURCES
            self.dropped = True

    def skip(self, text: str) -> None:
        """Characters of the source that no token covers; visible ones were dropped."""
        self.space += text
        self.dropped = self.dropped or bool(text.strip())

    def token(self, text: str, at: int) -> None:
        self.latest = at
        self.stretch.append(self.number)
        visible = text.strip()
        if not visible:
            self.starts.append(self.length + len(self.space))
            self.space += text
            self.ends.append(self.length + len(self.space))
            return
        lead = text[: len(text) - len(text.lstrip())]
        self.space += lead
        between = self._between()
        start = self.length + len(between) - (0 if self.dropped else len(lead))
        self.parts += (between, visible)
        self.length += len(between) + len(visible)
        self.space = text[len(lead) + len(visible) :]
        self.dropped, self.settled = False, len(self.ends)
        self.starts.append(start)
        self.ends.append(self.length + len(self.space))

    def reading(self) -> Reading:
        self.parts.append("" if self.dropped else self.space)
        if self.dropped:
            self._clamp()
        starts, ends, stretch = (np.array(x, dtype=np.int64) for x in (self.starts, self.ends, self.stretch))
        return Reading("".join(self.parts), np.maximum.accumulate(starts) if len(starts) else starts, ends, stretch)

    def _between(self) -> str:
        """What stands before the next visible character."""
        if not self.dropped:
            return self.space
        self._clamp()
        if not self.length:
            return ""
        if "\n" not in self.space:
            return " "
        indent = self.space.rpartition("\n")[2]
        return ("\n\n" if _BLANK_LINE.search(self.space) else "\n") + ("" if indent.strip() else indent)

    def _clamp(self) -> None:
        """Tokens of white space beside a dropped stretch become part of the gap."""
        for k in range(self.settled, len(self.ends)):
            self.starts[k] = min(self.starts[k], self.length)
            self.ends[k] = min(self.ends[k], self.length)


def _characters(sources: tuple[Source, ...], spans: Int[Tensor, "T 8"]) -> list[tuple[int, int, int]]:
    """Source, first character and end of every token; a character that is only partly covered counts whole."""
    where = spans[:, [0, 2, 3]].numpy().copy()
    for source in np.unique(where[:, 0]).tolist():
        mine = where[:, 0] == source
        at = character_at(sources[source].data)
        low, high = np.clip(where[mine, 1:], 0, len(at) - 1).T
        where[mine, 1] = at[low]
        where[mine, 2] = np.where(high > low, at[np.maximum(high - 1, 0)] + 1, at[low])
    return [(int(s), int(a), int(b)) for s, a, b in where.tolist()]


@lru_cache(maxsize=4)
def character_at(text: str) -> Int[np.ndarray, "bytes"]:
    """Number of the character that holds each UTF-8 byte of `text`; one more entry for its end."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    first = (data & 0xC0) != 0x80
    return np.append(np.cumsum(first) - 1, len(text))
