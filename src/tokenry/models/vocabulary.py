"""The vocabulary of a Hugging Face tokenizer in bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import UnsupportedModel
from tokenry.core.vocabulary import Vocabulary

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=8)
def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The bytes of every id of a fast tokenizer, read from its pieces and not by decoding them.

    Added tokens that are marked special stand for no text; all other added tokens for what they show.

    Raises:
        UnsupportedModel: a kind of piece that is not known.
    """
    return pieces_of(json.loads(tokenizer.backend_tokenizer.to_str()))


def pieces_of(description: dict[str, Any]) -> Vocabulary:
    """The same from what `tokenizer.json` holds."""
    model, added = description["model"], description.get("added_tokens") or []
    found = model["vocab"]
    known = dict(found) if isinstance(found, dict) else {piece: i for i, (piece, _) in enumerate(found)}
    spelled = _speller(description)
    pieces: list[bytes | None] = [None] * (1 + max([*known.values(), *(a["id"] for a in added)], default=-1))
    for piece, i in known.items():
        pieces[i] = spelled(piece)
    for a in added:
        pieces[a["id"]] = None if a["special"] else a["content"].encode()
    return Vocabulary(tuple(pieces))


def _speller(description: dict[str, Any]) -> Callable[[str], bytes]:
    kinds = _kinds(description.get("decoder")) | _kinds(description.get("pre_tokenizer"))
    kind = description["model"]["type"]
    if "ByteLevel" in kinds:
        return lambda piece: bytes(_byte_of(c) for c in piece) if all(c in _BYTES for c in piece) else piece.encode()
    if kind == "WordPiece":
        prefix = description["model"]["continuing_subword_prefix"]
        return lambda piece: piece.removeprefix(prefix).encode()
    if kinds & {"Metaspace", "Replace", "ByteFallback"}:
        return _of_sentencepiece
    suffix = description["model"].get("end_of_word_suffix")
    if suffix:
        return lambda piece: (piece.removesuffix(suffix) + " " * piece.endswith(suffix)).encode()
    if kind in ("BPE", "Unigram", "WordLevel"):
        return str.encode
    raise UnsupportedModel(f"tokenizer: must be of a known kind; got the model {kind}.")


def _kinds(step: dict[str, Any] | None) -> set[str]:
    """The types of a step and of all steps inside it."""
    if not step:
        return set()
    inner = [*(step.get("decoders") or []), *(step.get("pretokenizers") or [])]
    return {step["type"]}.union(*map(_kinds, inner))


def _of_sentencepiece(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()


def _byte_table() -> dict[str, int]:
    """Byte-level vocabularies show every byte as a printable character: itself where it is one, else from 256 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


_BYTES = _byte_table()


def _byte_of(character: str) -> int:
    return _BYTES[character]
