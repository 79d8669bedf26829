"""Rows for tests of the compress room: a small tokenizer of its own, so that no model is needed."""

from __future__ import annotations

import re
from itertools import pairwise
from zlib import crc32

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch

_PIECE = re.compile(r"\s?[^\W_]{1,5}|\s+|.", re.DOTALL)
DOCUMENTS = (
    "Sample text one. Another 3.5 sentence, with Mr. Smith!\n\nIt isn't long; but it has «quotes» and 12 tokens."
)

NASTY = (
    "", " ", "\n\n", "a", "a b", "Hi!", "...", "\r\n\r\n", "\t \t",
    "One two. Three four? Five six! Seven.", "no spaces" * 40, "x" * 400, "word " * 200, "a, " * 150,
    "👩‍👩‍👧 emoji 🎉🎉🎉. Then text 👍🏽!", "你好。我是学生！「真的?」 是。カタカナです。",
    "naïve café — Zoë’s “quoted” text… End.", "line one\r\nline two\r\n\r\nline four",
    "- item one\n- item two\n\n1. first\n2. second\n",
    'Text:\n```python\ndef f(x):\n    return x + 1\n```\nAfter. {"key": "value", "n":[1,2,{"deep":null}]}',
    "Mr. J. R. Smith of the U.S. paid $3.50 at 5 p.m. Then he left. No. 5 is alive.",
    "\u200b\u200bzero width\ufeff", "e\u0301 combining a\u0308", "tabs\tand\x0bvertical\x0cfeeds",
    "  leading and trailing  ",
    "مرحبا. كيف حالك؟ بخير", "สวัสดีครับผมชื่อ", "a" + "\n" * 30 + "b", ". . . ? ! .",
    '"Quoted." "Again." (Paren.) [It] is.',
)  # fmt: skip


def pieces(text: str) -> list[tuple[str, int, int]]:
    """Text of each token and its bytes; a character of four bytes is two tokens, as byte-level tokenizers do."""
    found, at = [], 0
    for match in _PIECE.finditer(text):
        piece = match.group()
        n = len(piece.encode())
        cuts = [0, 2, n] if n == 4 and len(piece) == 1 else [0, n]
        found += [(f"{piece}{a}", at + a, at + b) for a, b in pairwise(cuts)]
        at += n
    return found


def row(*parts: str | tuple[str, str], protect: str | None = None) -> TokenSequence:
    """Texts of one row, each a document, or (kind, text) for protected template and question parts.

    `protect` names a piece of text whose tokens are protected wherever they stand.
    """
    ids, source, spans, protected, sources = [], [], [], [], []
    for part in parts:
        kind, text = part if isinstance(part, tuple) else ("text", part)
        for piece, start, end in pieces(text):
            ids.append(3 + crc32(piece.encode()) % 125)
            source.append(len(sources))
            spans.append((start, end, 0, 0, 0, 0))
            protected.append(kind != "text" or (protect is not None and piece.strip("0 \n") == protect))
        sources.append(Source(kind, text))
    return TokenSequence(
        ids=torch.tensor(ids, dtype=torch.long),
        source=torch.tensor(source, dtype=torch.long),
        spans=torch.tensor(spans, dtype=torch.long).view(-1, 6),
        sources=tuple(sources),
        protected=torch.tensor(protected, dtype=torch.bool),
    )


def batch(*rows: str | TokenSequence) -> TokenBatch:
    """A left-padded batch of texts or rows."""
    return TokenBatch.collate([row(r) if isinstance(r, str) else r for r in rows])


def free(tokens: TokenBatch) -> list[int]:
    """Document tokens of every row."""
    return (tokens.mask & ~tokens.protected).sum(1).tolist()


def characters() -> PreTrainedTokenizerFast:
    """A tokenizer of single characters for the vocabulary of the tiny models."""
    vocabulary = {c: i for i, c in enumerate(["<pad>", "<s>", "<unk>", "\n", *map(chr, range(32, 127))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>", pad_token="<pad>")
