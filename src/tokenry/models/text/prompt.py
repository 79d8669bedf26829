"""The prompt as tokens that know their source: template, documents and question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import InvalidValue
from tokenry.core.origin import Source, SourceKind
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.models.text.document import Document
from tokenry.models.text.text_bytes import byte_offsets


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt.

    Args:
        text: as it is tokenized.
        kind: what it is; only `text` may be removed.
        name: what to call it.
        protect: half-open character spans that no method may remove.
    """

    text: str
    kind: SourceKind
    name: str = ""
    protect: tuple[tuple[int, int], ...] = ()


def prompt(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], ask: str | None, system: str | None = None
) -> TokenBatch:
    """One row: the chat template around the documents and the question, as the model would read it.

    The ids are those of the whole text tokenized at once. Tokens of the template and the question are protected,
    and so are marked spans; every token knows its source and its bytes there.

    Raises:
        InvalidValue: no document, or documents without any text.
    """
    if not any(d.text for d in documents):
        raise InvalidValue("documents: must hold some text; got none.")
    pieces = _frame(tokenizer, documents, ask, system)
    return TokenBatch.collate([tokenize(tokenizer, pieces, whole=_template(tokenizer) is None)])


def plain(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> TokenBatch:
    """One row: only the documents, without template, question or special tokens."""
    if not any(d.text for d in documents):
        raise InvalidValue("documents: must hold some text; got none.")
    return TokenBatch.collate([tokenize(tokenizer, _texts(documents), whole=False)])


def _template(tokenizer: PreTrainedTokenizerBase) -> object:
    return getattr(tokenizer, "chat_template", None)


def _texts(documents: Sequence[Document]) -> list[Piece]:
    parts = [Piece(d.text, "text", d.name or f"document {i + 1}", d.protect) for i, d in enumerate(documents)]
    between = [Piece("\n\n", "template")] * len(parts)
    return list(chain.from_iterable(zip(parts, between, strict=True)))[:-1]


def _frame(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], ask: str | None, system: str | None
) -> list[Piece]:
    inner = _texts(documents)
    if ask:
        inner += [Piece("\n\n", "template"), Piece(ask, "question")]
    if _template(tokenizer) is None:
        return inner
    # Templates may trim or wrap what they are given: two marks that stand in no text find it again.
    mark = _unused("".join(p.text for p in inner) + (system or ""))
    messages = [{"role": "user", "content": mark + mark}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, found, rest = str(rendered).partition(mark)
    middle, found_again, after = rest.partition(mark)
    if not found or not found_again or middle:
        raise InvalidValue("model: its chat template must show the user's text once; it does not.")
    return [Piece(before, "template"), *inner, Piece(after, "template")]


def _unused(text: str) -> str:
    return next(c for c in map(chr, range(0xE000, 0xF8FF)) if c not in text)


def tokenize(tokenizer: PreTrainedTokenizerBase, pieces: list[Piece], whole: bool) -> TokenSequence:
    """Tokenize all pieces as one text; a token that reaches out of a document is protected."""
    text = "".join(p.text for p in pieces)
    encoded = tokenizer(text, add_special_tokens=whole, return_offsets_mapping=True, verbose=False)
    ids = torch.tensor(encoded["input_ids"], dtype=torch.long)
    spans = _tiled(np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2), text)
    edges = np.cumsum([0, *(len(p.text) for p in pieces)])
    piece = np.searchsorted(edges, spans[:, 0], side="right") - 1
    piece = np.clip(piece, 0, len(pieces) - 1)
    stop = edges[piece + 1]
    special = spans[:, 0] == spans[:, 1]
    protected = special | (spans[:, 1] > stop) | np.array([p.kind != "text" for p in pieces])[piece]
    for i, p in enumerate(pieces):
        for low, high in p.protect:
            protected |= (spans[:, 0] < edges[i] + high) & (spans[:, 1] > edges[i] + low)
    where = np.zeros((len(ids), 6), dtype=np.int64)
    for i, p in enumerate(pieces):
        mine = piece == i
        at = byte_offsets(p.text)
        where[mine, 0] = at[spans[mine, 0] - edges[i]]
        where[mine, 1] = at[np.minimum(spans[mine, 1], stop[mine]) - edges[i]]
    return TokenSequence(
        ids=ids,
        source=torch.from_numpy(np.where(special, -1, piece)),
        spans=torch.from_numpy(where),
        sources=tuple(Source(p.kind, p.text, p.name) for p in pieces),
        protected=torch.from_numpy(protected),
    )


def _tiled(spans: np.ndarray, text: str) -> np.ndarray:
    """Close the gaps that tokenizers leave where they trim spaces off their offsets."""
    out, end = spans.copy(), 0
    for i, (start, stop) in enumerate(spans.tolist()):
        if end < start < stop and text[end:start].isspace():
            out[i, 0] = end
        end = max(end, stop)
    return out
