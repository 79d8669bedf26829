"""What people wrote is text: where it spells a mark, such as `<|im_end|>`, its tokens are those of the letters."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import InvalidValue
from tokenry.models.text.text_bytes import sound

log = logging.getLogger(__name__)

Span = tuple[int, int]

PRIVATE = range(0xE000, 0xF8FF)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A text in tokens.

    Args:
        ids: of the vocabulary.
        spans: the characters of each; none where a tokenizer put a mark around the text.
    """

    ids: list[int]
    spans: Int[np.ndarray, "N 2"]


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text, without marks around it and without marks in it."""
    return text_tokens(tokenizer, text).ids


def text_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, *, own: Sequence[Span] = (), whole: bool = False
) -> Tokens:
    """The tokens of a text in which marks count nowhere but in some spans.

    They are those of the text tokenized at once. Where a mark is spelled outside of `own`, they are what the tokenizer
    would give if that mark were called otherwise.

    Args:
        own: characters in which the spelling of a mark is that mark, such as those of a chat template.
        whole: put marks around the text as the tokenizer does.

    Raises:
        InvalidValue: half of a surrogate pair, which no vocabulary spells.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"text: must be text that UTF-8 can hold; got half of a surrogate pair at character {error.start}."
        ) from error
    encoded = tokenizer(text, add_special_tokens=whole, return_offsets_mapping=True, verbose=False)
    found = _tokens(encoded["input_ids"], encoded["offset_mapping"])
    marks = mark_names(tokenizer)
    wrong = [at for _, at in _spelled(found, text, marks, _unknown(tokenizer)) if not _inside(at, own)]
    if not wrong:
        return found
    log.info("a text spells %s, which is read as text", ", ".join(sorted({text[a:b] for a, b in wrong})))
    return _renamed(tokenizer, text, own, whole)


def text_windows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int) -> list[tuple[int, Encoding]]:
    """Texts with the marks that an encoder wants around them: number of the text and tokens of each part of it.

    Args:
        longest: tokens of a part, marks included; a longer text comes in several.
    """
    texts = [sound(text) for text in texts]
    encoded = tokenizer(
        texts, padding=False, truncation=True, max_length=longest, return_overflowing_tokens=True, verbose=False
    )
    parts = list(zip(encoded["overflow_to_sample_mapping"], encoded.encodings or (), strict=True))
    marks, unknown = mark_names(tokenizer), _unknown(tokenizer)
    if not any(True for i, part in parts for _ in _spelled(_tokens(part.ids, part.offsets), texts[i], marks, unknown)):
        return parts
    log.info("a text spells a mark, which is read as text")
    backend = _other_names(tokenizer, unused("".join(texts)))
    backend.enable_truncation(longest, direction=tokenizer.truncation_side)
    found = backend.encode_batch(texts)
    backend.no_truncation()
    return [(i, part) for i, first in enumerate(found) for part in (first, *first.overflowing)]


def mark_names(tokenizer: PreTrainedTokenizerBase) -> Mapping[int, str]:
    """What stands for no text: special tokens, and other added ones that the chat template writes."""
    if not hasattr(tokenizer, "added_tokens_decoder"):
        return {}
    template: Any = getattr(tokenizer, "chat_template", None) or ""
    written = template if isinstance(template, str) else "\n".join(template.values())
    # Whoever adds a token makes the tokenizer longer.
    return _mark_names(tokenizer, written, len(tokenizer))


@lru_cache(maxsize=8)
def _mark_names(tokenizer: PreTrainedTokenizerBase, written: str, _: int) -> Mapping[int, str]:
    return {
        i: token.content
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content.strip() and token.content in written)
    }


def unused(text: str) -> str:
    """A character for private use that stands nowhere in a text."""
    return next(c for c in map(chr, PRIVATE) if c not in text)


def _renamed(tokenizer: PreTrainedTokenizerBase, text: str, own: Sequence[Span], whole: bool) -> Tokens:
    """The same with other names for all marks, which only those of `own` get in the text."""
    sign = unused(text)
    parts, back, at = [], [np.zeros(0, dtype=np.int64)], 0
    for mark, (start, stop) in _marks_in(tokenizer, text, own):
        name = _name(sign, mark)
        parts += [text[at:start], name]
        back += [np.arange(at, start), np.full(len(name), start)]
        at = stop
    encoded = _other_names(tokenizer, sign).encode("".join((*parts, text[at:])), add_special_tokens=whole)
    places = np.concatenate((*back, np.arange(at, len(text) + 1)))
    found = _tokens(encoded.ids, encoded.offsets)
    return Tokens(found.ids, places[found.spans])


def _marks_in(tokenizer: PreTrainedTokenizerBase, text: str, own: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    """The marks of each span by itself, so that no text beside it has a part in them."""
    marks = mark_names(tokenizer)
    for low, high in own:
        part = text[low:high]
        encoded = tokenizer(part, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        found = _tokens(encoded["input_ids"], encoded["offset_mapping"])
        for mark, (start, stop) in _spelled(found, part, marks, _unknown(tokenizer)):
            yield mark, (low + start, low + stop)


def _spelled(tokens: Tokens, text: str, marks: Mapping[int, str], unknown: int | None) -> Iterator[tuple[int, Span]]:
    """The marks among the tokens of a text and where they are spelled, white space that they swallow left out."""
    at = np.isin(tokens.ids, list(marks)) & (tokens.spans[:, 0] < tokens.spans[:, 1])
    for k in np.flatnonzero(at).tolist():
        start, stop = tokens.spans[k].tolist()
        piece = text[start:stop]
        if piece.strip():
            start, stop = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        # What stands for all unknown pieces may come of any text; only its own name is a mark.
        if tokens.ids[k] != unknown or text[start:stop] == marks[unknown]:
            yield tokens.ids[k], (start, stop)


def _inside(span: Span, own: Sequence[Span]) -> bool:
    return any(low <= span[0] and span[1] <= high for low, high in own)


def _unknown(tokenizer: PreTrainedTokenizerBase) -> int | None:
    found = getattr(tokenizer, "unk_token_id", None)
    return found if isinstance(found, int) else None


def _other_names(tokenizer: PreTrainedTokenizerBase, sign: str) -> Tokenizer:
    return _built(tokenizer, sign, frozenset(mark_names(tokenizer)))


@lru_cache(maxsize=4)
def _built(tokenizer: PreTrainedTokenizerBase, sign: str, marks: frozenset[int]) -> Tokenizer:
    """The same tokenizer with names for its marks that no text holds; no id changes."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    names = {a["content"]: _name(sign, a["id"]) for a in description["added_tokens"] if a["id"] in marks}
    for a in description["added_tokens"]:
        if a["id"] in marks:
            a |= {"content": names[a["content"]], "normalized": False}
    description |= {"model": rename(description["model"], names), "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(description))


def rename(model: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A description of a tokenizer's model in which some pieces are written otherwise, so that no text makes them."""
    changed = dict(model)
    if isinstance(model["vocab"], Mapping):
        changed["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:
        changed["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if "merges" in model:
        pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
        changed["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & names.keys()]
    if model.get("unk_token") in names:
        changed["unk_token"] = names[model["unk_token"]]
    return changed


def _name(sign: str, mark: int) -> str:
    return f"{sign}{mark}{sign}"


def _tokens(ids: Sequence[int], offsets: Sequence[Sequence[int]]) -> Tokens:
    return Tokens(list(ids), np.array(offsets, dtype=np.int64).reshape(-1, 2))
