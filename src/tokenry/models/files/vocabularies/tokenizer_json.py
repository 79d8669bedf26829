"""Open a `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenry.core.errors import StorageError, UnsupportedModel
from tokenry.models.files.vocabularies.opened import Described, Kind, Opened
from tokenry.models.text.vocabulary import pieces_of, table_of

KINDS: Mapping[str, Kind] = {"BPE": "bpe", "Unigram": "unigram", "WordPiece": "wordpiece"}


def read_tokenizer_json(name: str, file: Path) -> Opened:
    """The tokenizer in a file.

    Raises:
        StorageError: damaged, or not a tokenizer.
        UnsupportedModel: another algorithm than the three.
    """
    try:
        description = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{file}: must be a readable tokenizer.json; {_short(error)}; fetch it again.") from error
    return describe(name, description, "tokenizer.json", file)


def describe(name: str, description: Any, format: str, file: Path) -> Opened:
    """The tokenizer that a description makes."""
    try:
        model = description["model"]
        # Files of early versions leave the type to be guessed.
        kind = model.setdefault("type", "BPE" if "merges" in model else "Unigram" if "unk_id" in model else "WordPiece")
        if kind not in KINDS:
            raise UnsupportedModel(f"{file}: must be a BPE, Unigram or WordPiece vocabulary; got {kind}.")
        # Dropout is for training; a file that still names it would give other ids at each call.
        model.pop("dropout", None)
        vocabulary = pieces_of(description)
        marks = {a["content"]: a["id"] for a in description.get("added_tokens") or [] if a["special"]}
        surfaces = [piece or b"" for piece in vocabulary]
        for piece, i in table_of(model).items():
            surfaces[i] = surfaces[i] or piece.encode()
        for a in description.get("added_tokens") or []:
            surfaces[a["id"]] = a["content"].encode()
    except StorageError as error:
        raise StorageError(f"{file}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{file}: must describe a tokenizer; {_short(error)}; fetch it again.") from error
    return Opened(name, KINDS[kind], format, vocabulary, tuple(surfaces), marks, Described(description))


def _short(error: Exception) -> str:
    return f"{type(error).__name__} {str(error)[:120]}"
