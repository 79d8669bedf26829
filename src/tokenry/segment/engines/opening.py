"""Open any tokenizer by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tokenry.core.errors import InvalidValue
from tokenry.core.method import Method
from tokenry.core.registry import SAVED, entries, parse
from tokenry.core.saving import read_json
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
            as `bpe:source=cl100k_base,special=true`; of a model that reads bytes in chunks, such as hnet, its folder:
            tokens are its chunks.

    Raises:
        UnknownModel: nothing is found under this name.
        InvalidValue: a method that is no tokenizer.
        StorageError: the file is damaged.
        UnsupportedModel: a kind of vocabulary that is not opened.
    """
    method = name.partition(":")[0].strip()
    if method in {n for e in entries() if e.room == "segment" for n in (e.name, e.full_name)}:
        return _tokenizer(name, parse(name))
    folder = SHIPPED.get(name, Path(name).expanduser())
    by = trained_by(folder)
    if isinstance(by, Tokenizer) and hasattr(by, "source"):
        return type(by).from_dict(by.to_dict() | {"source": name})
    saved = _saved(folder)
    return CLASSES[open_vocabulary(name).kind](source=name) if saved is None else _tokenizer(name, saved)


def _tokenizer(name: str, found: Method) -> Tokenizer:
    if isinstance(found, Tokenizer):
        return found
    from tokenry.segment.hierarchy.chunks import Chunks
    from tokenry.segment.hierarchy.model import HierarchicalLM

    if isinstance(found, HierarchicalLM):
        return Chunks(model=found)
    raise InvalidValue(f"tokenizer {name!r}: must be a tokenizer; {found.name()} changes tokens that there are.")


def _saved(folder: Path) -> Method | None:
    """The learned method that a folder holds: saved, with its checkpoint, or as a model of transformers."""
    for place in (folder, folder / "model"):
        if (place / SAVED).is_file():
            return parse(f"{place.absolute()}")
    if (folder / "config.json").is_file() and read_json(folder / "config.json").get("model_type") == "tokenry":
        from tokenry.models.generate.learned import LearnedForCausalLM

        return LearnedForCausalLM.from_pretrained(folder).method
    return None
