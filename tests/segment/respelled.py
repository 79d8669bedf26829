"""A small vocabulary with marks, equal pieces and parts of characters, and prompts in it."""

from __future__ import annotations

from functools import cache

import torch

from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.core.vocabulary import Vocabulary

PIECES = (
    None, b" ", b"a", b"b", b"c", b"ab", b"bc", b"abc", b" a", b" ab", b" abc", b"cab", b" cab", b"\xc3", b"\xa9",
    b"\xc3\xa9", b"a\xc3", b"a\xc3\xa9", None, b"a", b"aaaa", b"bb", b"ca", b"bbb",
)  # fmt: skip
WORDS = "abc abcab cab abbc aéb aaaab bbb abc cab"


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary(PIECES)


def encoded(text: str) -> torch.Tensor:
    """The longest piece that fits, from left to right."""
    rest, ids = text.encode(), []
    while rest:
        piece = max((p for p in PIECES if p and rest.startswith(p)), key=len)
        ids.append(PIECES.index(piece))
        rest = rest[len(piece) :]
    return torch.tensor(ids, dtype=torch.long)


def prompted(*texts: str) -> TokenBatch:
    """A batch of texts whose tokens know their bytes."""
    rows = []
    for text in texts:
        ids = encoded(text)
        ends = torch.tensor([len(PIECES[i] or b"") for i in ids.tolist()]).cumsum(0)
        spans = torch.zeros(len(ids), 6, dtype=torch.long)
        spans[:, 1] = ends
        spans[1:, 0] = ends[:-1]
        rows.append(TokenSequence(ids=ids, source=torch.zeros_like(ids), spans=spans, sources=(Source("text", text),)))
    return TokenBatch.collate(rows)
