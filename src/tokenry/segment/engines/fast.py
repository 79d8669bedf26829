"""Faster libraries for byte pairs: optional, and used only after they gave the ids of the original."""

from __future__ import annotations

import base64
import importlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tokenry.models.files.vocabularies.opened import Described, Opened, Ranked

Encode = Callable[[str], Int[np.ndarray, "T"]]


def candidates(opened: Opened, special: bool) -> Iterator[tuple[str, Encode]]:
    """Libraries that are installed and take the vocabulary, the fastest first; they are loaded one by one."""
    if opened.kind != "bpe" or not isinstance(opened.content, Described | Ranked):
        return
    for name, load in (("splintr", _splintr), ("fastokens", _fastokens)):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        try:
            yield name, load(opened, special)
        except BaseException as error:
            # Rust code that gives up raises something that is no Exception.
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise


def _fastokens(opened: Opened, special: bool) -> Encode:
    import fastokens

    content = opened.content
    if isinstance(content, Described):
        found = fastokens.Tokenizer.from_json_str(json.dumps(content.description))
    else:
        assert isinstance(content, Ranked)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "ranks.tiktoken"
            file.write_bytes(_lines(content))
            marks = _marks(opened, content)
            found = fastokens.Tokenizer.from_tiktoken(str(file), pattern=content.pattern, special_tokens=marks)
    first = content.first if isinstance(content, Ranked) else 0
    return lambda text: _numbers(found.encode_batch_flat([text], split_special_tokens=not special)[0], first)


def _splintr(opened: Opened, special: bool) -> Encode:
    import splintr

    content, first = opened.content, 0
    found: Any
    if isinstance(content, Described):
        found = splintr.from_json_bytes(json.dumps(content.description).encode())
    else:
        assert isinstance(content, Ranked)
        # Its engine does not backtrack and refuses possessive quantifiers; that the ids stay is checked on texts.
        greedy = re.sub(r"(?<!\\)([?*+}])\+", r"\1", content.pattern)
        found, first = splintr.Tokenizer.from_bytes(_lines(content), greedy, _marks(opened, content)), content.first
    encode = found.encode_with_special if special else found.encode_ordinary
    return lambda text: np.array(encode(text), np.int64) + first


def _lines(content: Ranked) -> bytes:
    return b"".join(b"%s %d\n" % (base64.b64encode(piece), rank) for piece, rank in content.ranks.items())


def _marks(opened: Opened, content: Ranked) -> dict[str, int]:
    return {mark: i - content.first for mark, i in opened.marks.items()}


def _numbers(data: bytes, first: int) -> Int[np.ndarray, "T"]:
    return np.frombuffer(data, np.uint32).astype(np.int64) + first
