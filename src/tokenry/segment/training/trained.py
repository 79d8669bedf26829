"""Write a trained vocabulary as a folder that tokenry and transformers open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import whole_folder
from tokenry.models.text.vocabulary import byte_characters

END = "<|endoftext|>"
"""The one mark of a trained vocabulary of bytes."""

ALPHABET: tuple[str, ...] = tuple(byte_characters()[b] for b in range(256))
"""A piece for every byte, so that any text can be spelled."""

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How text is split before pieces are learnt: words with the space before them, up to three digits, signs, spaces."""


def byte_level_steps() -> tuple[Any, Any]:
    """The pre-tokenizer that splits text and shows it in bytes, and the decoder that undoes it."""
    from tokenizers import Regex, decoders, pre_tokenizers

    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    show = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, show]), decoders.ByteLevel()


@dataclass(frozen=True)
class Learnt:
    """A vocabulary that was learnt.

    Args:
        description: what `tokenizer.json` holds.
        marks: what transformers calls each mark, such as `eos_token`.
        added: marks in the order of their ids.
    """

    description: Mapping[str, Any]
    marks: Mapping[str, str]
    added: Sequence[str]


def enough(who: str, vocab_size: int, fewest: int) -> None:
    """Refuse fewer ids than every vocabulary of the kind has.

    Raises:
        InvalidValue: too few ids.
    """
    if vocab_size < fewest:
        raise InvalidValue(f"{who}: vocab_size must be at least {fewest}; got {vocab_size}.")


def new_folder(who: str, out: str | Path) -> Path:
    """Where the vocabulary will stand.

    Raises:
        InvalidValue: something is there already.
    """
    folder = Path(out).expanduser()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InvalidValue(f"{who}: out must be a new folder; {folder} exists; choose another one or remove it.")
    return folder


def save(folder: Path, learnt: Learnt) -> None:
    """Write the folder, whole or not at all."""
    from tokenizers import Tokenizer

    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    table = learnt.description["model"]["vocab"]
    ids = table if isinstance(table, dict) else {piece: i for i, (piece, _) in enumerate(table)}
    tokens = [{"id": ids[mark], "content": mark, **flags} for mark in learnt.added]
    library = Tokenizer.from_str(json.dumps({**learnt.description, "added_tokens": tokens}))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **learnt.marks}
    with whole_folder(folder) as draft:
        library.save(str(draft / "tokenizer.json"))
        (draft / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
