"""Encode with the library a vocabulary was made for, or with a faster one that gives the same ids."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Int

from tokenry.core.errors import InvalidValue, Notice
from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.models.files.vocabularies.opened import Opened
from tokenry.segment.engines.barred import bar, barred
from tokenry.segment.engines.fast import Encode, candidates
from tokenry.segment.engines.hostile import sample, thorough
from tokenry.segment.engines.lossless import Lossless, judge
from tokenry.segment.engines.original import original
from tokenry.segment.engines.spans import Bounds, by_offsets, by_spelling

WORTH_LOADING = 1 << 18
"""Characters after which a faster library has paid for being loaded and checked."""

_STAND_IN = "\ufffd"
_BROKEN = re.compile("([\udc80-\udcff]+)")


class LostBytes(Notice):
    """Some bytes of a text have no id and are not in its tokens."""


def encode(opened: Opened, raw: str | bytes, special: bool) -> TokenSequence:
    """The tokens of a text with their places."""
    found, bounds, text = runner(opened, special).encode(raw)
    spans = torch.zeros(len(found), 6, dtype=torch.long)
    spans[:, :2] = torch.from_numpy(bounds)
    return TokenSequence(
        ids=torch.from_numpy(found),
        source=torch.zeros(len(found), dtype=torch.long),
        spans=spans,
        sources=(Source("text", text),),
    )


def decode(opened: Opened, tokens: Iterable[int] | TokenSequence, special: bool) -> bytes:
    """The bytes that some ids spell."""
    return runner(opened, special).original.decode(known_ids(tokens, len(opened.vocabulary)))


def known_ids(tokens: Iterable[int] | TokenSequence, size: int) -> list[int]:
    """Tokens as ids of a vocabulary of some size.

    Raises:
        InvalidValue: an id that there is not.
    """
    ids = tokens.ids.tolist() if isinstance(tokens, TokenSequence) else list(tokens)
    wrong = next((i for i in ids if not 0 <= i < size), None)
    if wrong is not None:
        raise InvalidValue(f"decode: ids must be from 0 to {size - 1}; got {wrong}.")
    return ids


@lru_cache(maxsize=16)
def runner(opened: Opened, special: bool) -> Runner:
    """The libraries of a vocabulary that is open, loaded once."""
    return Runner(opened, special)


class Runner:
    """One vocabulary with the library it was made for and, for long texts, a faster one."""

    def __init__(self, opened: Opened, special: bool) -> None:
        self.opened, self._special = opened, special
        self.original = original(opened, special)
        self._seen = 0
        self._missing = bytes(opened.vocabulary.missing_bytes) if self.original.byte_level else b""

    @property
    def engine(self) -> str:
        """The name of the library for long texts."""
        return self._fast[0]

    @cached_property
    def lossless(self) -> Lossless:
        def back(text: str) -> bytes:
            return self.original.decode(self.original.ids(text).tolist())

        texts = sample(self.opened.marks)
        return judge(texts, back, self.original.normalise, self.original.rule, tuple(self._missing))

    def ids(self, raw: str | bytes) -> Int[np.ndarray, "T"]:
        """The ids of a text; pieces of broken bytes are spelled one by one."""
        text = checked(raw)
        if isinstance(text, bytes):
            return self._broken(text)[0]
        self._warn(text.encode())
        return self._ids(text)

    def encode(self, raw: str | bytes) -> tuple[Int[np.ndarray, "T"], Bounds, str | bytes]:
        """Ids, bytes of each, and the text they count in."""
        text = checked(raw)
        if isinstance(text, bytes):
            return (*self._broken(text), text)
        data = text.encode()
        self._warn(data)
        return (*self._whole(text, data), text)

    def _whole(self, text: str, data: bytes) -> tuple[Int[np.ndarray, "T"], Bounds]:
        ids = self._ids(text)
        bounds = by_spelling(self._spelled(ids), data)
        if bounds is None:
            again, offsets = self.original.offsets(text)
            if not np.array_equal(ids, again):
                assert self.engine != self.original.name, "the library gives other ids when it is asked for places"
                bar(self.opened, self.engine)
                self._fast, ids = (self.original.name, self.original.ids), again
            bounds = by_offsets(offsets, self._spelled(ids), text)
        return ids, bounds

    def _broken(self, data: bytes) -> tuple[Int[np.ndarray, "T"], Bounds]:
        """Bytes that are no UTF-8: one id for each where bytes have ids, else the character that stands in for them."""
        if not self.original.byte_level:
            bad = sum(len(part) for part, good in _parts(data) if not good)
            _say(f"{bad} bytes are no UTF-8 and are encoded as U+FFFD", self.opened.name)
            return self._replaced(data)
        self._warn(data)
        ids, bounds, at = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)], 0
        for part, good in _parts(data):
            if good:
                found, place = self._whole(part.decode(), part)
            else:
                known = [
                    (i, self.opened.vocabulary.ids[bytes([b])]) for i, b in enumerate(part) if b not in self._missing
                ]
                found = np.array([i for _, i in known], np.int64)
                place = np.array([(i, i + 1) for i, _ in known], np.int64).reshape(-1, 2)
            ids.append(found)
            bounds.append(place + at)
            at += len(part)
        return np.concatenate(ids), _covering(np.concatenate(bounds), len(data))

    def _replaced(self, data: bytes) -> tuple[Int[np.ndarray, "T"], Bounds]:
        text, ends, at = "", [0], 0
        for part, good in _parts(data):
            sizes = [len(c.encode()) for c in part.decode()] if good else [1] * len(part)
            text += part.decode() if good else _STAND_IN * len(part)
            ends += (at + np.cumsum(sizes)).tolist()
            at += len(part)
        ids, bounds = self._whole(text, text.encode())
        characters = np.cumsum([0, *(len(c.encode()) for c in text)])
        return ids, np.array(ends, np.int64)[np.searchsorted(characters, bounds)]

    def _ids(self, text: str) -> Int[np.ndarray, "T"]:
        self._seen += len(text)
        if self._seen > WORTH_LOADING:
            with suppress(Exception):  # A library may refuse a text that the original takes.
                return self._fast[1](text)
        return self.original.ids(text)

    @cached_property
    def _fast(self) -> tuple[str, Encode]:
        texts = thorough(self.opened.marks, self.opened.vocabulary)
        right = [self.original.ids(text) for text in texts]
        wrong = barred(self.opened)
        for name, encode in candidates(self.opened, self._special):
            if name not in wrong and _same(encode, texts, right):
                return name, encode
        return self.original.name, self.original.ids

    def _spelled(self, ids: Int[np.ndarray, "T"]) -> list[bytes]:
        return list(map(self.opened.surfaces.__getitem__, ids.tolist()))

    def _warn(self, data: bytes) -> None:
        if self._missing:
            lost = len(data) - len(data.translate(None, self._missing))
            if lost:
                _say(f"{lost} bytes have no piece in it and are left out", self.opened.name)


def checked(raw: str | bytes) -> str | bytes:
    """Text where it is text, bytes where they are none."""
    if isinstance(raw, bytes):
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw
    try:
        raw.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"encode: text must hold whole characters; got half a surrogate pair at {error.start}; pass bytes."
        ) from None
    return raw


def _same(encode: Encode, texts: Sequence[str], right: Sequence[Int[np.ndarray, "_"]]) -> bool:
    try:
        return all(np.array_equal(encode(text), ids) for text, ids in zip(texts, right, strict=True))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return False


def _parts(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Stretches that are UTF-8 and stretches that are not, in turn."""
    for part in _BROKEN.split(data.decode("utf-8", "surrogateescape")):
        if part:
            yield part.encode("utf-8", "surrogateescape"), not _BROKEN.fullmatch(part)


def _covering(bounds: Bounds, size: int) -> Bounds:
    """Bounds of tokens in order, stretched over what none of them holds."""
    if len(bounds):
        bounds[1:, 0] = bounds[:-1, 1]
        bounds[0, 0], bounds[-1, 1] = 0, size
    return bounds


def _say(what: str, name: str) -> None:
    warnings.warn(f"tokenizer {name!r}: {what}; see its `lossless`.", LostBytes, stacklevel=5)
