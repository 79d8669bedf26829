"""The prompt as tokens that know their source: template, documents and question."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import InvalidValue
from tokenry.core.origin import Source, SourceKind
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.models.text.as_text import text_tokens, unused
from tokenry.models.text.document import Document
from tokenry.models.text.text_bytes import byte_offsets

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt.

    Args:
        text: as it is tokenized.
        kind: what it is; only `text` may be removed.
        name: what to call it.
        protect: half-open character spans that no method may remove.
        marks: the spelling of a mark is that mark, as it always is in a template.
    """

    text: str
    kind: SourceKind
    name: str = ""
    protect: tuple[tuple[int, int], ...] = ()
    marks: bool = False


_GAP = Piece("\n\n", "template")


def prompt(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], ask: str | None, system: str | None = None
) -> TokenBatch:
    """One row: the chat template around the documents and the question, as the model would read it.

    The ids are those of the whole text tokenized at once, and only the template writes marks. Tokens of the template,
    the system message and the question are protected, and so are marked spans; every token knows its source and its
    bytes there. A system message that the template does not show stands at the beginning of the user's text.

    Raises:
        InvalidValue: no document, documents without any text, or a template that does not show the user's text once.
    """
    if not any(d.text for d in documents):
        raise InvalidValue("documents: must hold some text; got none.")
    told = [Piece(system, "system")] if system else []
    inner = _texts(documents) + ([_GAP, Piece(ask, "question")] if ask else [])
    bare = getattr(tokenizer, "chat_template", None) is None
    pieces = _ahead(told, inner) if bare else _framed(tokenizer, told, inner)
    return TokenBatch.collate([tokenize(tokenizer, pieces, whole=bare)])


def plain(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> TokenBatch:
    """One row: only the documents, without template, question or special tokens."""
    if not any(d.text for d in documents):
        raise InvalidValue("documents: must hold some text; got none.")
    return TokenBatch.collate([tokenize(tokenizer, _texts(documents), whole=False)])


def _texts(documents: Sequence[Document]) -> list[Piece]:
    parts = [Piece(d.text, "text", d.name or f"document {i + 1}", d.protect, d.marks) for i, d in enumerate(documents)]
    return list(chain.from_iterable((part, _GAP) for part in parts))[:-1]


def _ahead(told: list[Piece], inner: list[Piece]) -> list[Piece]:
    return [*told, _GAP, *inner] if told else inner


def _framed(tokenizer: PreTrainedTokenizerBase, told: list[Piece], inner: list[Piece]) -> list[Piece]:
    """The chat template around the user's pieces, with the system message where it shows one, else before them."""
    # Templates may trim or wrap what they are given: characters that stand in no text find it again.
    given = "".join(p.text for p in (*told, *inner))
    user = unused(given)
    system = unused(given + user)
    if told:
        try:
            rendered = _rendered(tokenizer, user, system)
        except InvalidValue as error:
            log.info("%s The system message stands before the documents.", error)
        else:
            if system in rendered:
                return _filled(rendered, {user: inner, system: told})
            log.info("the chat template shows no system message, which stands before the documents")
    return _filled(_rendered(tokenizer, user), {user: _ahead(told, inner)})


def _rendered(tokenizer: PreTrainedTokenizerBase, user: str, system: str = "") -> str:
    talk = [{"role": "system", "content": system}] if system else []
    talk.append({"role": "user", "content": user})
    try:
        return str(tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # A template is a program of a stranger, which may raise anything.
        roles = " and ".join(message["role"] for message in talk)
        raise InvalidValue(f"model: its chat template must take a message of {roles}; it says: {error}.") from error


def _filled(rendered: str, contents: Mapping[str, list[Piece]]) -> list[Piece]:
    """A rendered template with pieces in place of the characters that stand for them."""
    pieces, at = [], 0
    for start, sign in sorted((rendered.find(sign), sign) for sign in contents):
        if rendered.count(sign) != 1:
            raise InvalidValue(
                f"model: its chat template must show every message once; it shows one {rendered.count(sign)} times; "
                "use another template, or none with tokenizer.chat_template = None."
            )
        pieces += [Piece(rendered[at:start], "template"), *contents[sign]]
        at = start + 1
    return [*pieces, Piece(rendered[at:], "template")]


def tokenize(tokenizer: PreTrainedTokenizerBase, pieces: list[Piece], whole: bool) -> TokenSequence:
    """Tokenize all pieces as one text; a token that reaches out of a document is protected."""
    text = "".join(p.text for p in pieces)
    edges = np.cumsum([0, *(len(p.text) for p in pieces)])
    marking = [p.marks or p.kind == "template" for p in pieces]
    own = [(low, low + len(p.text)) for p, low, m in zip(pieces, edges.tolist(), marking, strict=False) if m]
    tokens = text_tokens(tokenizer, text, own=own, whole=whole)
    ids, spans = torch.tensor(tokens.ids, dtype=torch.long), _tiled(tokens.spans, text)
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
