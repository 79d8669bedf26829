"""How a tokenizer spells bytes, and which id may follow which: what it would itself write, step by step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import UnsupportedModel
from tokenry.core.vocabulary import Vocabulary
from tokenry.models.text.vocabulary import vocabulary_of

Ids = tuple[int, ...]

SAMPLE = "A text, in 2 lines:\n  it's naïve\t— 日本!"
"""What a tokenizer must spell exactly, to be read byte by byte."""

KNOWN = 256
"""Beginnings of a split for which it is remembered what may follow."""

WINDOW = 16
"""Ids at the end of a text in which its last split is looked for first."""


@dataclass(eq=False)
class Spelling:
    """The tokenizer without what it adds before a text, in bytes.

    A sequence is valid where the tokenizer gives its ids for the text that they spell, and gives all but the last for
    the text up to there, and so on; so there is at most one for each text. Ids that end inside a character are valid
    where merging leaves them beside each other, until the character is whole.
    """

    vocabulary: Vocabulary
    plain: Tokenizer
    _follow: dict[Ids, Bool[np.ndarray, "V"]] = field(default_factory=dict)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Spelling:
        """The spelling of a tokenizer.

        Raises:
            UnsupportedModel: a tokenizer that is not a fast one, or that does not spell text exactly.
        """
        if not tokenizer.is_fast:
            raise UnsupportedModel("bytes: the tokenizer must be a fast one, whose pieces are known; got a slow one.")
        description = json.loads(tokenizer.backend_tokenizer.to_str())
        vocabulary = vocabulary_of(tokenizer)
        found = cls(vocabulary, Tokenizer.from_str(json.dumps(_bare(description))))
        sample = "".join(c for c in SAMPLE if c == " " or all(bytes([b]) in vocabulary.ids for b in c.encode()))
        if vocabulary.spell(found._encode(sample)) != sample.encode():
            raise UnsupportedModel(
                "bytes: the tokenizer must spell text exactly, spaces included; this one does not; use one of bytes."
            )
        return found

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest piece."""
        return max(len(piece or b"") for piece in self.vocabulary)

    @cached_property
    def text_ids(self) -> Int[np.ndarray, "V"]:
        """All ids that spell something, in the order of what they spell."""
        return np.array([i for i in self.vocabulary.starting_with(b"") if self.vocabulary[i]], dtype=np.int64)

    def starting_with(self, beginning: bytes) -> Int[np.ndarray, "C"]:
        """Ids of pieces that begin with some bytes."""
        if not beginning:
            return self.text_ids
        return np.array(self.vocabulary.starting_with(beginning), dtype=np.int64)

    def ids(self, text: bytes, before: Ids = ()) -> Ids | None:
        """The valid sequence of whole characters; None where there is none.

        Args:
            before: a valid sequence in front of the text that ends where a split does, or with some piece of it.
        """
        whole = text_of(text)
        if whole is None:
            return None
        found = tuple(self._encode(whole))
        if self.vocabulary.spell(found) != text:
            return None
        if before and found and not self._splits and not self._may_touch(before, found[0]):
            return self.ids(self.vocabulary.spell(before) + text)
        return (*before, *found)

    def spell_out(self, text: bytes) -> Ids:
        """Ids for any bytes; of what is no text the longest pieces from left to right, without bytes that have none."""
        found, at = [], 0
        ids = self.ids(text)
        if ids is not None:
            return ids
        while at < len(text):
            ends = range(min(len(text), at + self.longest), at, -1)
            end = next((e for e in ends if text[at:e] in self.vocabulary.ids), at + 1)
            found += [self.vocabulary.ids[text[at:end]]] if text[at:end] in self.vocabulary.ids else []
            at = end
        return tuple(found)

    def follows(self, before: Ids, candidates: Int[np.ndarray, "C"]) -> Bool[np.ndarray, "C"]:
        """Which ids make a valid sequence with a valid one before them."""
        kept = self.open(before)
        begun = self.vocabulary.spell(kept)
        whole = [begun + (self.vocabulary[i] or b"") for i in candidates.tolist()]
        texts = [text_of(w) for w in whole]
        found = iter(self.plain.encode_batch_fast([t for t in texts if t is not None], add_special_tokens=False))
        return np.array(
            [
                self._may_touch(kept, i) if text is None else next(found).ids == [*kept, i]
                for i, text in zip(candidates.tolist(), texts, strict=True)
            ],
            dtype=bool,
        )

    def may_follow(self, before: Ids) -> Bool[np.ndarray, "V"]:
        """The same for the whole vocabulary, remembered by what the last split has begun with."""
        kept = self.open(before)
        if kept not in self._follow:
            while len(self._follow) >= KNOWN:
                del self._follow[next(iter(self._follow))]
            mask = np.zeros(len(self.vocabulary), dtype=bool)
            mask[self.text_ids] = self.follows(kept, self.text_ids)
            self._follow[kept] = mask
        return self._follow[kept]

    def open(self, ids: Ids) -> Ids:
        """The ids of the last split of a text, which what comes next may still be part of."""
        if not self._splits:
            # Of byte pairs in one split each pair decides by itself; of others the whole sequence does.
            return ids if self.vocabulary.merging is None else ids[-1:] or ids
        take = WINDOW
        while True:
            tail = ids[-take:]
            whole = self.vocabulary.spell(tail)
            # A window may begin inside a character.
            skip = next((n for n in range(4) if text_of(whole[n : len(whole) - unfinished(whole)]) is not None), 0)
            text = whole[skip : len(whole) - unfinished(whole)].decode(errors="replace")
            splits = self.plain.pre_tokenizer.pre_tokenize_str(text) if text else []
            begin = skip + len(text[: splits[-1][1][0]].encode()) if splits else 0
            if take >= len(ids) or len(splits) > 1:
                break
            take *= 4
        at = 0
        for n, i in enumerate(tail):
            size = len(self.vocabulary[i] or b"")
            if at + size > begin:
                return tail[n:]
            at += size
        return ()

    @cached_property
    def _splits(self) -> bool:
        """Whether the tokenizer cuts text before it looks for pieces."""
        split = self.plain.pre_tokenizer
        return split is not None and len(split.pre_tokenize_str("a b")) > 1

    def _may_touch(self, kept: Ids, last: int) -> bool:
        return not kept or self.vocabulary.merging is None or self.vocabulary.valid_pair(kept[-1], last)

    def _encode(self, text: str) -> list[int]:
        return list(self.plain.encode(text, add_special_tokens=False).ids)


def text_of(data: bytes) -> str | None:
    """The text of bytes; None where they are no whole characters."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def unfinished(data: bytes) -> int:
    """How many bytes at the end begin a character that is not whole."""
    for size in range(1, min(3, len(data)) + 1):
        lead = data[-size]
        if lead >= 0xC0:
            return size if size < 2 + (lead >= 0xE0) + (lead >= 0xF0) else 0
        if lead < 0x80:
            return 0
    return 0


def _bare(description: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's file without marks, without what is added before or behind a text."""
    bare = {**description, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    bare["normalizer"] = _without_prefix(description.get("normalizer"), "normalizers")
    bare["pre_tokenizer"] = _without_prefix(description.get("pre_tokenizer"), "pretokenizers")
    return bare


def _without_prefix(step: dict[str, Any] | None, inner: str) -> dict[str, Any] | None:
    if not step or step["type"] == "Prepend":
        return None
    if step["type"] == "Sequence":
        parts = [found for part in step[inner] if (found := _without_prefix(part, inner))]
        return {**step, inner: parts} if parts else None
    if step["type"] == "ByteLevel":
        return {**step, "add_prefix_space": False}
    if step["type"] == "Metaspace":
        return {**step, "prepend_scheme": "never"}
    return step
