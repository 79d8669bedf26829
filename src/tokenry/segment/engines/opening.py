"""Open any tokenizer by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import entries, parse
from tokenry.models.files.vocabularies.find import SHIPPED, open_vocabulary
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile, Tokenizer
from tokenry.segment.bpe import Bpe
from tokenry.segment.training.trained import trained_by
from tokenry.segment.unigram import Unigram
from tokenry.segment.wordpiece import WordPiece

CLASSES: Mapping[Kind, type[FromFile]] = {"bpe": Bpe, "unigram": Unigram, "wordpiece": WordPiece}


def open_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a name means.

    Args:
        name: an alias of `tokenry models list`, a file, a folder, an encoding of tiktoken or a hub id, whose kind is
            looked up, unless a folder says which method learnt it; or a method of this room in its one-line form, such
            as `bpe:source=cl100k_base,special=true`.

    Raises:
        UnknownModel: nothing is found under this name.
        InvalidValue: a method that is no tokenizer.
        StorageError: the file is damaged.
        UnsupportedModel: a kind of vocabulary that is not opened.
    """
    method = name.partition(":")[0].strip()
    if method in {n for e in entries() if e.room == "segment" for n in (e.name, e.full_name)}:
        found = parse(name)
        if not isinstance(found, Tokenizer):
            raise InvalidValue(f"tokenizer {name!r}: must be a tokenizer; {method} changes tokens that there are.")
        return found
    by = trained_by(SHIPPED.get(name, Path(name).expanduser()))
    if isinstance(by, Tokenizer) and hasattr(by, "source"):
        return type(by).from_dict(by.to_dict() | {"source": name})
    return CLASSES[open_vocabulary(name).kind](source=name)
