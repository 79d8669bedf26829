"""The library that a vocabulary was made for: its ids are right by definition, and it knows where tokens stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from tokenry.core.errors import StorageError
from tokenry.core.needs import need
from tokenry.models.files.vocabularies.opened import Described, Opened, Ranked, Scored
from tokenry.models.text.as_text import rename, unused
from tokenry.models.text.text_bytes import byte_offsets
from tokenry.models.text.vocabulary import kinds, table_of
from tokenry.segment.engines.hostile import TEXTS

Ids = Int[np.ndarray, "T"]

TEXT_UNTOUCHED = {"Prepend", "Replace", "Sequence"}
"""Normalisers that only write spaces as another character."""


class Original(Protocol):
    """One vocabulary in its own library."""

    name: str
    byte_level: bool
    rule: str

    def ids(self, text: str) -> Ids:
        """The ids of a text."""

    def offsets(self, text: str) -> tuple[Ids, Sequence[tuple[int, int]]]:
        """The same with the characters that each stands for."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """What ids spell."""

    def normalise(self, text: str) -> str:
        """What is done to a text before it is split."""


def original(opened: Opened, special: bool) -> Original:
    """The vocabulary in its own library.

    Raises:
        StorageError: the library refuses the file.
        InvalidValue: the library is not installed.
    """
    content = opened.content
    with _Refusing(opened.name):
        if isinstance(content, Described):
            return _Tokenizers(opened, content, special)
        if isinstance(content, Ranked):
            return _Tiktoken(opened, content, special)
        return _SentencePiece(opened, content)


class _Refusing:
    """Whatever a library raises over a file, when it reads it or when a text first meets what is wrong, is a sentence.

    A class, since it stands around every text: a generator would cost more than a short text takes.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # Rust code that gives up raises something that is no Exception.
        if error is None or isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            return
        if type(error).__name__ == "PanicException" or type(error).__module__.startswith("builtins"):
            raise StorageError(
                f"tokenizer {self._name!r}: its library refuses the file; {str(error)[:160]}."
            ) from error


class _Tokenizers:
    """tokenizers, for tokenizer.json and GGUF files."""

    def __init__(self, opened: Opened, content: Described, special: bool) -> None:
        from tokenizers import Tokenizer

        self.name = "tokenizers"
        self._refusing = _Refusing(opened.name)
        description = content.description if special else _without_names(content.description)
        self._library = Tokenizer.from_str(json.dumps(description))
        # Files may ask for texts to be cut or filled up, which is not for a tokenizer to do.
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = not special
        self._surfaces = opened.surfaces
        decoder = content.description.get("decoder")
        steps, changes = kinds(decoder), kinds(content.description.get("normalizer"))
        self.byte_level = steps <= {"ByteLevel", "Sequence", "Fuse"} and "ByteLevel" in steps
        # Without a decoder the library puts a space between pieces.
        spelling = {"Metaspace", "Sequence", "Replace", "ByteFallback", "Fuse", "Strip"}
        self._spells = self.byte_level or (bool(steps) and steps <= spelling)
        self._ahead = _strips(decoder) if self._spells and not self.byte_level else False
        self._changes = bool(changes - TEXT_UNTOUCHED)
        rules = sorted(changes - {"Sequence", "Prepend", "Replace"})
        self.rule = ", ".join(rules) if rules else "U+2581 becomes a space"

    def ids(self, text: str) -> Ids:
        with self._refusing:
            found = self._library.encode_batch_fast([text], add_special_tokens=False)[0]
        return np.array(found.ids, np.int64)

    def offsets(self, text: str) -> tuple[Ids, Sequence[tuple[int, int]]]:
        with self._refusing:
            found = self._library.encode(text, add_special_tokens=False)
        return np.array(found.ids, np.int64), found.offsets

    def decode(self, ids: Sequence[int]) -> bytes:
        if not self._spells:
            with self._refusing:
                return str(self._library.decode(ids, skip_special_tokens=False)).encode()
        text = b"".join(self._surfaces[i] for i in ids)
        return text.removeprefix(b" ") if self._ahead else text

    def normalise(self, text: str) -> str:
        if self._changes and self._library.normalizer is not None:
            with self._refusing:
                text = self._library.normalizer.normalize_str(text)
        if self.byte_level:
            return text
        text = text.replace("▁", " ")
        return text.removeprefix(" ") if self._ahead and self._changes else text


class _Tiktoken:
    """tiktoken, for byte pairs by rank."""

    name, byte_level, rule = "tiktoken", True, ""

    def __init__(self, opened: Opened, content: Ranked, special: bool) -> None:
        library = need("tiktoken", opened.name)
        marks = {mark: i - content.first for mark, i in opened.marks.items()}
        self._library = library.Encoding(
            opened.name, pat_str=content.pattern, mergeable_ranks=dict(content.ranks), special_tokens=marks
        )
        self._first, self._surfaces = content.first, opened.surfaces
        self._allowed = set(marks) if special else set()
        self._name, self._refusing = opened.name, _Refusing(opened.name)
        for text in TEXTS:
            if b"".join(self._surfaces[i] for i in self.ids(text).tolist()) != text.encode():
                self.offsets(text)

    def ids(self, text: str) -> Ids:
        with self._refusing:
            found = self._library.encode_to_numpy(text, allowed_special=self._allowed, disallowed_special=())
        return found.astype(np.int64) + self._first

    def offsets(self, text: str) -> tuple[Ids, Sequence[tuple[int, int]]]:
        # Every byte has a piece, so pieces spell the text but where the pattern leaves some of it out.
        raise StorageError(
            f"tokenizer {self._name!r}: its pattern must take in every character of a text; of {text[:20]!r} it leaves "
            f"some out; correct the pattern."
        )

    def decode(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._surfaces[i] for i in ids)

    def normalise(self, text: str) -> str:
        return text


class _SentencePiece:
    """sentencepiece, for its own models. Marks in a text are text to it."""

    name, byte_level = "sentencepiece", False

    def __init__(self, opened: Opened, content: Scored) -> None:
        self._library = need("sentencepiece", opened.name).SentencePieceProcessor(model_proto=content.data)
        self._opened, self._prefix, self._keeps = opened, content.prefix, content.keeps_spaces
        plain = content.rule == "identity" and content.keeps_spaces
        self.rule = "U+2581 becomes a space" if plain else content.rule

    def ids(self, text: str) -> Ids:
        return np.array(self._library.encode(text), np.int64)

    def offsets(self, text: str) -> tuple[Ids, Sequence[tuple[int, int]]]:
        ids = self.ids(text)
        if not len(ids):
            return ids, []
        pieces: list[str] = self._library.encode(text, out_type=str)
        normal, origin = self._library.normalize(text, with_offsets=True)
        # Pieces spell the normalised text; what is unknown is shown as it stands there.
        spelled = [self._opened.vocabulary[i] or p.encode() for i, p in zip(ids.tolist(), pieces, strict=True)]
        ends = np.cumsum([len(s) for s in spelled], dtype=np.int64)
        at = byte_offsets(str(normal).replace("▁", " "))
        first = np.searchsorted(at, np.concatenate(([0], ends[:-1])), side="right") - 1
        last = np.searchsorted(at, ends)
        origin = np.array([*origin, len(text)], np.int64)
        bounds = np.stack((origin[first.clip(0, len(origin) - 1)], origin[last.clip(0, len(origin) - 1)]), 1)
        return ids, bounds.tolist()

    def decode(self, ids: Sequence[int]) -> bytes:
        found, ahead = [], self._prefix or not self._keeps
        for i in ids:
            piece = self._opened.surfaces[i]
            # The space before the text goes; where runs of spaces are removed, so does one of each piece before a word.
            if ahead and piece.startswith(b" ") and not self._library.is_byte(i) and not self._library.is_unknown(i):
                piece, ahead = piece[1:], not self._keeps
            ahead = ahead and not piece
            found.append(piece)
        return b"".join(found)

    def normalise(self, text: str) -> str:
        found = str(self._library.normalize(text)).replace("▁", " ")
        return found.removeprefix(" ") if self._prefix else found


def _without_names(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same vocabulary in which no text spells a mark, also where marks are pieces of the model."""
    marks = [a for a in description.get("added_tokens") or [] if a["special"]]
    pieces = table_of(description["model"])
    names = {a["content"]: f"{unused(''.join(pieces))}{a['id']}" for a in marks if a["content"] in pieces}
    if not names:
        return description
    added = [a | {"content": names.get(a["content"], a["content"])} for a in description["added_tokens"]]
    return {**description, "model": rename(description["model"], names), "added_tokens": added}


def _strips(decoder: Any) -> bool:
    """Whether decoding takes a space off the beginning."""
    if decoder["type"] == "Metaspace":
        return decoder.get("prepend_scheme", "always") != "never" and decoder.get("add_prefix_space", True)
    inner = decoder.get("decoders", [])
    return any(_strips(d) if d["type"] == "Metaspace" else d["type"] == "Strip" and d["start"] == 1 for d in inner)
