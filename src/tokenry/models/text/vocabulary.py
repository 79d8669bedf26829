"""The vocabulary of a Hugging Face tokenizer in bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from tokenry.core.errors import StorageError, UnsupportedModel
from tokenry.core.vocabulary import Merge, Vocabulary
from tokenry.models.files.vocabularies.opened import LARGEST_ID

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_PIECE = 1024
"""Bytes of the longest piece whose halves are looked for, far beyond any real one."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=8)
def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The bytes of every id of a fast tokenizer, read from its pieces and not by decoding them.

    Added tokens that are marked special stand for no text, nor does the piece for what is unknown; all other added
    tokens stand for what they show. The merges of byte pairs come along.

    Raises:
        UnsupportedModel: a kind of piece that is not known.
    """
    return pieces_of(json.loads(tokenizer.backend_tokenizer.to_str()))


def pieces_of(description: Mapping[str, Any]) -> Vocabulary:
    """The same from what `tokenizer.json` holds.

    Raises:
        StorageError: an id that is no number, out of range, or given to two pieces.
    """
    added = description.get("added_tokens") or []
    model = description["model"]
    known = table_of(model)
    spelled = _speller(description)
    pieces: list[bytes | None] = [None] * (1 + max([*known.values(), *map(_id, added)], default=-1))
    for piece, i in known.items():
        pieces[i] = spelled(piece)
    unknown = _unknown(model, known)
    if unknown is not None:
        pieces[unknown] = None
    for a in added:
        pieces[a["id"]] = None if a["special"] else a["content"].encode()
    return Vocabulary(
        tuple(pieces),
        {a["content"]: a["id"] for a in added},
        partial(_merges, known, model["merges"], model.get("continuing_subword_prefix") or "")
        if model["type"] == "BPE"
        else None,
        whole_first=bool(model.get("ignore_merges")),
    )


def table_of(model: Mapping[str, Any]) -> dict[str, int]:
    """The id of every piece as it is written in the file."""
    found = model["vocab"]
    known = dict(found) if isinstance(found, dict) else {piece: i for i, (piece, _) in enumerate(found)}
    ids = [_checked(i) for i in known.values()]
    if len(set(ids)) < max(len(known), len(found)):
        raise StorageError("vocabulary: every piece must have an id of its own; got a piece or an id twice.")
    return known


def kinds(step: Mapping[str, Any] | None) -> set[str]:
    """The types of a step of a tokenizer and of all steps inside it."""
    if not step:
        return set()
    inner = [*(step.get("decoders") or []), *(step.get("pretokenizers") or []), *(step.get("normalizers") or [])]
    return {step["type"]}.union(*map(kinds, inner))


def byte_characters() -> dict[int, str]:
    """How byte-level vocabularies show each byte: itself where it is printable, else a character from 256 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def by_rank(ranks: Mapping[bytes, int], id_of: Callable[[bytes], int]) -> Iterable[Merge]:
    """The merges of a vocabulary in which two pieces merge where their whole is a piece, the lowest rank first."""
    for piece, rank in ranks.items():
        for cut in range(1, min(len(piece), LONGEST_PIECE)):
            left, right = piece[:cut], piece[cut:]
            if left in ranks and right in ranks:
                yield id_of(left), id_of(right), id_of(piece), rank


def _merges(known: Mapping[str, int], merges: Sequence[str | Sequence[str]], prefix: str) -> Iterable[Merge]:
    for rank, pair in enumerate(merges):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        yield known[left], known[right], known[left + right.removeprefix(prefix)], rank


def _speller(description: Mapping[str, Any]) -> Callable[[str], bytes]:
    steps = kinds(description.get("decoder")) | kinds(description.get("pre_tokenizer"))
    kind = description["model"]["type"]
    if "ByteLevel" in steps:
        return lambda piece: bytes(_BYTES[c] for c in piece) if all(c in _BYTES for c in piece) else piece.encode()
    if kind == "WordPiece":
        prefix = description["model"]["continuing_subword_prefix"]
        return lambda piece: piece.removeprefix(prefix).encode()
    if steps & {"Metaspace", "Replace", "ByteFallback"}:
        return _of_sentencepiece
    suffix = description["model"].get("end_of_word_suffix")
    if suffix:
        return lambda piece: (piece.removesuffix(suffix) + " " * piece.endswith(suffix)).encode()
    if kind in ("BPE", "Unigram", "WordLevel"):
        return str.encode
    raise UnsupportedModel(f"tokenizer: must be of a known kind; got the model {kind}.")


def _unknown(model: Mapping[str, Any], known: Mapping[str, int]) -> int | None:
    """The id that stands for whatever has no piece."""
    index, token = model.get("unk_id"), model.get("unk_token")
    if isinstance(index, int) and 0 <= index < len(known):
        return index
    return known.get(token) if isinstance(token, str) else None


def _id(token: Mapping[str, Any]) -> int:
    return _checked(token["id"])


def _checked(id: Any) -> int:
    if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < LARGEST_ID:
        raise StorageError(f"vocabulary: ids must be whole numbers from 0 to {LARGEST_ID - 1}; got {id!r}.")
    return id


def _of_sentencepiece(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()


_BYTES = {character: byte for byte, character in byte_characters().items()}
