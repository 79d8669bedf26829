"""The sentence that answers a question, and what became of its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from tokenry.core.tokens import TokenBatch


@dataclass(frozen=True, slots=True)
class Evidence:
    """The tokens of a sentence.

    Args:
        tokens: text of each.
        kept: whether each is still there.
        first: number of the first one in its document, from 0.
    """

    tokens: tuple[str, ...]
    kept: tuple[bool, ...]
    first: int

    @property
    def last(self) -> int:
        """Number of the last one in its document."""
        return self.first + len(self.tokens) - 1

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The sentence cut where what is kept ends or begins again."""
        for kept, pairs in groupby(zip(self.tokens, self.kept, strict=True), key=lambda pair: pair[1]):
            yield "".join(token for token, _ in pairs), kept


def evidence_of(sentence: str, before: TokenBatch, after: TokenBatch) -> Evidence:
    """The tokens of a sentence of the only document in `before`, and which of them are left in `after`."""
    (source,) = (i for i, s in enumerate(before.origin.sources) if s.kind == "text")
    data: bytes = before.origin.sources[source].data.encode("utf-8")
    start = data.index(sentence.encode("utf-8"))
    end = start + len(sentence.encode("utf-8"))
    columns = (before.origin.source[0] == source).nonzero()[:, 0]
    spans, left = before.origin.spans[0, columns, :2].tolist(), (after.survival()[0, columns] > 0).tolist()
    inside = [i for i, (low, high) in enumerate(spans) if low < end and high > start]
    texts = (data[max(start, spans[i][0]) : min(end, spans[i][1])].decode("utf-8", "replace") for i in inside)
    return Evidence(tuple(texts), tuple(left[i] for i in inside), inside[0])
