"""How far a training is, noted in the cache folder, so that the same training goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenry.core.errors import StorageError
from tokenry.core.saving import read_json, whole_file
from tokenry.models.files import store
from tokenry.segment.training.merges import Merges

EVERY = 20.0
"""Seconds of merging between two notes; a short training writes none."""


class Note:
    """Of one training.

    Args:
        words: it learns from.
        begin: what there was before.
        settings: whatever else decides the merges.
        every: seconds between two notes.
    """

    def __init__(self, words: Mapping[str, int], begin: Merges, settings: tuple[Any, ...], every: float) -> None:
        self._every, self._last, self._begin = every, time.monotonic(), len(begin.pairs)
        self._file = folder() / f"{_key(words, begin, settings)}.json"

    def read(self) -> list[tuple[int, int, int]]:
        """Merges and their counts of an interrupted training, the first one at the end."""
        try:
            found = read_json(self._file)["merges"]
            return [(int(left), int(right), int(count)) for left, right, count in found][::-1]
        except (StorageError, KeyError, TypeError, ValueError):
            return []

    def write(self, found: Merges) -> None:
        """Note how far it is, where some time has gone by."""
        if time.monotonic() - self._last < self._every:
            return
        merges = [(*pair, count) for pair, count in zip(found.pairs, found.counts, strict=True)]
        # A training does not fail for want of a note.
        with suppress(StorageError), whole_file(self._file) as draft:
            draft.write_text(json.dumps({"merges": merges[self._begin :]}), encoding="utf-8")
        self._last = time.monotonic()

    def remove(self) -> None:
        """The training is done."""
        self._file.unlink(missing_ok=True)


def folder() -> Path:
    """Where notes are; it may be emptied at any time."""
    return store.folder().parent / "trainings"


def _key(words: Mapping[str, int], begin: Merges, settings: tuple[Any, ...]) -> str:
    hashed = hashlib.sha256(repr((settings, begin.pieces, begin.pairs)).encode())
    hashed.update(repr(list(words.items())).encode())
    return hashed.hexdigest()[:32]
