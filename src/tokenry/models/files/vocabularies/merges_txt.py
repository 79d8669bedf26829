"""Open a folder of `vocab.json` and `merges.txt`, in which the first byte-level vocabularies were published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenry.core.errors import StorageError, UnsupportedModel
from tokenry.models.files.vocabularies.opened import LARGEST_FILE, Opened
from tokenry.models.files.vocabularies.tokenizer_json import describe

MARKS = ("<|endoftext|>", "<|startoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|im_start|>", "<|im_end|>")
"""What is a mark where no file beside the two says which pieces are."""

SPLITTING = {"GPT2Tokenizer", "GPT2TokenizerFast", "RobertaTokenizer", "RobertaTokenizerFast", "BartTokenizer",
             "BartTokenizerFast", "WhisperTokenizer", "WhisperTokenizerFast", "LEDTokenizer", "BlenderbotTokenizer",
             "LongformerTokenizer", "PreTrainedTokenizerFast", ""}  # fmt: skip
"""Classes that split text as GPT-2 does."""


def read_merges(name: str, file: Path) -> Opened:
    """The byte-level vocabulary of a folder.

    Args:
        file: its `merges.txt`.

    Raises:
        StorageError: a file is missing or damaged, or a merge has no piece.
        UnsupportedModel: the folder says that text is split in another way, or pieces that are not of bytes.
    """
    vocabulary = _json(file.with_name("vocab.json"))
    config = _json(file.with_name("tokenizer_config.json")) if file.with_name("tokenizer_config.json").exists() else {}
    kind = str(config.get("tokenizer_class") or "")
    if kind not in SPLITTING or any(str(piece).endswith("</w>") for piece in vocabulary):
        raise UnsupportedModel(
            f"{file.parent}: must split text as GPT-2 does; it says {kind or 'pieces with </w>'}; use its "
            "tokenizer.json."
        )
    merges = _merges(file)
    missing = next((pair for pair in merges if not {*pair, "".join(pair)} <= vocabulary.keys()), None)
    if missing:
        raise StorageError(f"{file}: must merge pieces of vocab.json; {' '.join(missing)!r} is not there; fetch both.")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    description = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level,
        "post_processor": None, "decoder": level,
        "added_tokens": [{"id": i, "content": mark, **flags} for mark, i in _marks(file, vocabulary, config).items()],
        "model": {
            "type": "BPE", "vocab": vocabulary, "merges": [list(m) for m in merges], "dropout": None, "unk_token": None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
        },
    }  # fmt: skip
    return describe(name, description, "merges.txt", file)


def _merges(file: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise StorageError(f"{file}: must be a readable list of merges; {error}; fetch it again.") from error
    for number, line in enumerate(lines, 1):
        if (number == 1 and line.startswith("#version")) or not line.strip():
            continue
        left, _, right = line.rstrip("\r").partition(" ")
        if not left or not right or " " in right:
            raise StorageError(f"{file}: line {number} must be two pieces; got {line[:40]!r}; fetch it again.")
        found.append((left, right))
    return found


def _marks(file: Path, vocabulary: dict[str, Any], config: dict[str, Any]) -> dict[str, int]:
    """Marks by name: those of the files beside it, or the usual ones."""
    added = file.with_name("added_tokens.json")
    more = _json(added) if added.exists() else {}
    named = file.with_name("special_tokens_map.json")
    roles = {**config, **(_json(named) if named.exists() else {})}
    # Some of what ends so, as add_bos_token, is no mark but yes or no.
    given = [v.get("content", v) if isinstance(v, dict) else v for r, v in roles.items() if r.endswith("_token")]
    names = [name for name in given if name and isinstance(name, str)]
    if any(isinstance(name, dict | list) for name in given):
        raise StorageError(f"{file.parent}: each mark must be a text; got {str(given)[:80]}; fetch it again.")
    known = {**vocabulary, **more}
    found = {n: known[n] for n in (*names, *more) if n in known}
    return found or {mark: vocabulary[mark] for mark in MARKS if mark in vocabulary}


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise StorageError(f"{file}: must be at most {LARGEST_FILE >> 20} MB.")
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{file}: must be a readable JSON file; {str(error)[:120]}; fetch it again.") from error
    if not isinstance(found, dict):
        raise StorageError(f"{file}: must hold a table; got {type(found).__name__}; fetch it again.")
    return found
