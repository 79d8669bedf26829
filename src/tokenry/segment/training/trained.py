"""Write a trained vocabulary as a folder that tokenry and transformers open."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue, Notice, TokenryError
from tokenry.core.method import Method
from tokenry.core.registry import parse
from tokenry.core.saving import read_json, whole_folder
from tokenry.models.text.vocabulary import byte_characters
from tokenry.segment.training.words import BETWEEN, Words

_BY = "trained_by"

END = "<|endoftext|>"
"""The one mark of a trained vocabulary of bytes."""

ALPHABET: tuple[str, ...] = tuple(byte_characters()[b] for b in range(256))
"""A piece for every byte, so that any text can be spelled."""

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How text is split before pieces are learnt: words with the space before them, up to three digits, signs, spaces."""

LONGEST = 128
"""Characters of a word that pieces are learnt from; a longer one is learnt from in parts of so many. Merging takes time
with the square of a word, and sentencepiece leaves out what has more than 4,192 bytes."""


def byte_level_steps() -> tuple[Any, Any]:
    """The pre-tokenizer that splits text and shows it in bytes, and the decoder that undoes it."""
    from tokenizers import Regex, decoders, pre_tokenizers

    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    return pre_tokenizers.Sequence([split, _show()]), decoders.ByteLevel()


def shown_in_bytes() -> tuple[Any, Any]:
    """The pre-tokenizer that shows text in bytes without splitting it, and the decoder that undoes it."""
    from tokenizers import decoders

    return _show(), decoders.ByteLevel()


def byte_level_words() -> Any:
    """The same pre-tokenizer as training sees it, where no word is longer than `LONGEST`."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), in_parts(), _show()])


def byte_words(text: str) -> Words:
    """The words of a text in bytes, as training sees them."""
    return Words(Counter(word for word, _ in _byte_level_words().pre_tokenize_str(text)))


def between() -> Any:
    """The pre-tokenizer of words that are set apart already."""
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Split(BETWEEN, "removed")


@lru_cache(maxsize=1)
def _byte_level_words() -> Any:
    return byte_level_words()


def in_parts() -> Any:
    """The step that takes words of more than `LONGEST` characters apart."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(rf"[\s\S]{{1,{LONGEST}}}"), "isolated")


def trained_by(folder: Path) -> Method | None:
    """The method that wrote a folder, with the fields it learnt with; None for all other folders."""
    try:
        by = read_json(folder / "tokenizer_config.json").get(_BY)
        return parse(by) if isinstance(by, str) and by.startswith("segment/") else None
    except TokenryError:
        return None


def _show() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


class FewerIds(Notice):
    """A corpus gave fewer pieces than were asked for."""


@dataclass(frozen=True)
class Learnt:
    """A vocabulary that was learnt. Its length is how many ids it has.

    Args:
        description: what `tokenizer.json` holds.
        marks: what transformers calls each mark, such as `eos_token`.
        added: marks in the order of their ids.
        whole: text that is one token wherever it stands.
    """

    description: Mapping[str, Any]
    marks: Mapping[str, str]
    added: Sequence[str]
    whole: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids(self) -> dict[str, int]:
        """The id of every piece."""
        table = self.description["model"]["vocab"]
        found = dict(table) if isinstance(table, dict) else {piece: i for i, (piece, _) in enumerate(table)}
        for name in (*self.added, *self.whole):
            found.setdefault(name, len(found))
        return found


def enough(who: str, vocab_size: int, fewest: int) -> None:
    """Refuse fewer ids than every vocabulary of the kind has.

    Raises:
        InvalidValue: too few ids.
    """
    if vocab_size < fewest:
        raise InvalidValue(f"{who}: vocab_size must be at least {fewest}; got {vocab_size}.")


def say_fewer(who: str, asked: int, learnt: Learnt, why: str) -> None:
    """Warn of a vocabulary that is smaller than it was to be."""
    if len(learnt) < asked:
        warnings.warn(
            f"{who}: vocab_size is how many ids there shall be; asked for {asked}, learned {len(learnt)}: {why}; "
            "give more text, or ask for fewer.",
            FewerIds,
            stacklevel=3,
        )


def new_folder(who: str, out: str | Path) -> Path:
    """Where the vocabulary will stand.

    Raises:
        InvalidValue: something is there already.
    """
    folder = Path(out).expanduser()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InvalidValue(f"{who}: out must be a new folder; {folder} exists; choose another one or remove it.")
    return folder


def save(folder: Path, learnt: Learnt, by: str) -> None:
    """Write the folder, whole or not at all.

    Args:
        by: the method in its one-line form.
    """
    from tokenizers import Tokenizer

    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    ids = learnt.ids
    tokens = [{"id": ids[m], "content": m, **flags, "normalized": False, "special": True} for m in learnt.added]
    # Text is looked for after it was normalised, as all other pieces are.
    tokens += [{"id": ids[w], "content": w, **flags, "normalized": True, "special": False} for w in learnt.whole]
    library = Tokenizer.from_str(json.dumps({**learnt.description, "added_tokens": tokens}))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **learnt.marks, _BY: by,
    }  # fmt: skip
    with whole_folder(folder) as draft:
        library.save(str(draft / "tokenizer.json"))
        (draft / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
