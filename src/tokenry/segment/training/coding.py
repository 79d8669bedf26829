"""Choose merges by how many bytes a coder needs for the ids of a sample."""

from __future__ import annotations

import lzma
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

PASSAGE = 4096
"""Characters of a passage of the sample."""

CODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.compress(data, 6),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}]),
}


class Sampled:
    """Texts on their way, of which passages are kept: each is as likely as every other one.

    Args:
        texts: as they come.
        size: characters that are kept.
        seed: of the choice.
    """

    def __init__(self, texts: Iterable[str], size: int, seed: int) -> None:
        self.passages: list[str] = []
        self._texts, self._size, self._draws, self._seen = texts, size, random.Random(seed), 0

    def __iter__(self) -> Iterator[str]:
        most = max(1, self._size // PASSAGE)
        length = min(PASSAGE, self._size)
        for text in self._texts:
            for at in range(0, len(text), PASSAGE):
                self._seen += 1
                place = len(self.passages) if len(self.passages) < most else self._draws.randrange(self._seen)
                if place < most:
                    self.passages[place : place + 1] = [text[at : at + length]]
            yield text


class Coding:
    """A sample that follows every merge.

    Args:
        words: of the sample, in their order, as ids.
        width: pairs it chooses among.
        coder: one of `CODERS`.
    """

    def __init__(self, words: Sequence[Sequence[int]], width: int, coder: str) -> None:
        self.width = width
        self._ids = np.array([i for word in words for i in word], np.int64)
        ends = np.cumsum([len(word) for word in words], dtype=np.int64)
        self._last = np.zeros(len(self._ids), bool)
        self._last[ends[ends > 0] - 1] = True
        self._code = CODERS[coder]
        self._wide = np.dtype("<u2")
        self.name = f"{coder} {width} {zlib.crc32(self._ids.tobytes())}"

    def choose(self, pairs: Sequence[tuple[int, int]], made: int) -> int:
        """The pair after which the coder needs the fewest bytes."""
        sizes = [self.size(_joined(self._ids, self._last, *pair, made)[0]) for pair in pairs]
        return sizes.index(min(sizes))

    def merged(self, left: int, right: int, made: int) -> None:
        """Follow a merge."""
        self._ids, self._last = _joined(self._ids, self._last, left, right, made)
        self._wide = np.dtype("<u2" if made < (1 << 16) - 1 else "<u4")

    def size(self, ids: Int[np.ndarray, "T"] | None = None) -> int:
        """Bytes of the sample behind the coder, at two bytes an id, or four where these are not enough."""
        return len(self._code((self._ids if ids is None else ids).astype(self._wide).tobytes()))


def _joined(
    ids: Int[np.ndarray, "T"], last: Bool[np.ndarray, "T"], left: int, right: int, made: int
) -> tuple[Int[np.ndarray, "U"], Bool[np.ndarray, "U"]]:
    """The ids after a merge, and which of them end words."""
    (at,) = ((ids[:-1] == left) & (ids[1:] == right) & ~last[:-1]).nonzero()
    if left == right and len(at):
        # Of a run every second place merges, from the left.
        first = np.concatenate(([True], np.diff(at) > 1))
        start = np.maximum.accumulate(np.where(first, np.arange(len(at)), 0))
        at = at[(np.arange(len(at)) - start) % 2 == 0]
    out = ids.copy()
    out[at] = made
    kept = np.ones(len(ids), bool)
    kept[at + 1] = False
    ends = last.copy()
    ends[at] = last[at + 1]
    return out[kept], ends[kept]
