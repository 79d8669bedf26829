"""Find the vocabulary that a name means, and open it: an alias, a file, a folder, an encoding of tiktoken, a hub id."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tokenry.core.errors import InvalidValue, StorageError, UnknownModel
from tokenry.models.files import hub, store
from tokenry.models.files.catalog import ALIASES
from tokenry.models.files.vocabularies.gguf import read_gguf
from tokenry.models.files.vocabularies.merges_txt import read_merges
from tokenry.models.files.vocabularies.opened import LARGEST_FILE, Opened
from tokenry.models.files.vocabularies.ranks import read_encoding, read_tekken, read_tiktoken
from tokenry.models.files.vocabularies.sentencepiece import read_sentencepiece
from tokenry.models.files.vocabularies.tokenizer_json import read_tokenizer_json

SHIPPED: Mapping[str, Path] = {name: Path(__file__).with_name(name) for name in ("sample-unigram", "sample-lexicon")}
"""Vocabularies that come with this package."""

ENCODINGS = ("gpt2", "r50k_base", "p50k_base", "p50k_edit", "cl100k_base", "o200k_base", "o200k_harmony")
"""Names that tiktoken opens."""

_IN_FOLDERS = (
    "tokenizer.json", "tekken.json", "tokenizer.model", "merges.txt", "*.tiktoken", "tekken_*.json", "*.model",
    "*.gguf",
)  # fmt: skip


def open_vocabulary(name: str, pattern: str | None = None) -> Opened:
    """Open a vocabulary; an unchanged file is read once.

    Args:
        name: an alias of `tokenry models list`, a file, a folder, an encoding of tiktoken or a hub id.
        pattern: how a `.tiktoken` file that is not known by its name splits text.

    Raises:
        UnknownModel: nothing is found under this name.
        StorageError: the file is damaged or too large.
        UnsupportedModel: a kind of vocabulary that is not opened here.
        InvalidValue: a pattern is missing or not needed, or a library is not installed.
    """
    if name in ENCODINGS and not Path(name).exists():
        _only_for_ranks(name, pattern)
        return _encoding(name)
    file = find_vocabulary(name)
    if file.suffix != ".tiktoken":
        _only_for_ranks(name, pattern)
    try:
        stat = file.stat()
    except OSError as error:
        raise UnknownModel(f"tokenizer {name!r}: {file} must be readable; {error.strerror}.") from error
    return _read(name, file.absolute(), pattern, stat.st_size, stat.st_mtime_ns)


def find_vocabulary(name: str) -> Path:
    """The file that holds the vocabulary called `name`."""
    if name in SHIPPED:
        return SHIPPED[name] / "tokenizer.json"
    if name in ALIASES:
        return _inside(name, store.ensure(name))
    path = Path(name).expanduser()
    if path.is_dir():
        return _inside(name, path)
    if path.is_file():
        return path
    if name.startswith((".", "/", "~")) or path.suffix in (".json", ".model", ".tiktoken", ".gguf") or "/" not in name:
        near = difflib.get_close_matches(name, [*ALIASES, *SHIPPED, *ENCODINGS], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownModel(
            f"tokenizer {name!r}: {hint}must be an alias, a file, a folder, an encoding such as cl100k_base, or a hub "
            f"id such as owner/name; nothing is there."
        )
    return _from_hub(name)


@lru_cache(maxsize=8)
def _read(name: str, file: Path, pattern: str | None, size: int, changed: int) -> Opened:
    head = file.open("rb").read(4)
    if head == b"GGUF" or file.suffix == ".gguf":
        return read_gguf(name, file)
    if size > LARGEST_FILE:
        raise StorageError(f"{file}: must be at most {LARGEST_FILE >> 20} MB; got {size >> 20} MB.")
    if file.name == "merges.txt":
        return read_merges(name, file)
    if file.suffix == ".tiktoken":
        return read_tiktoken(name, file, pattern)
    if head[:1] == b"{" or file.suffix == ".json":
        return read_tekken(name, file) if _is_tekken(file) else read_tokenizer_json(name, file)
    if file.suffix == ".model" or ".model." in file.name:
        return read_sentencepiece(name, file)
    raise InvalidValue(
        f"{file}: must be a tokenizer.json, tekken .json, .tiktoken, merges.txt, SentencePiece .model or .gguf file; "
        f"got {file.name}; convert it to tokenizer.json."
    )


@lru_cache(maxsize=4)
def _encoding(name: str) -> Opened:
    return read_encoding(name)


def _is_tekken(file: Path) -> bool:
    """Whether a JSON file is tekken's, by its first keys where that is possible without reading it all."""
    if "tekken" in file.name:
        return True
    if file.name == "tokenizer.json":
        return False
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"config", "vocab"} <= set(found)


def _inside(name: str, folder: Path) -> Path:
    for wanted in _IN_FOLDERS:
        found = sorted(folder.glob(wanted))
        if found:
            return found[0]
    raise UnknownModel(f"tokenizer {name!r}: {folder} must hold one of {', '.join(_IN_FOLDERS)}; it holds none.")


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    hub.check(name, "tokenizer")
    reason = ""
    for wanted in ("tokenizer.json", "tekken.json", "tokenizer.model"):
        try:
            return Path(hf_hub_download(name, wanted))
        except Exception as error:
            reason = reason or f"{type(error).__name__}"
    raise UnknownModel(
        f"tokenizer {name!r}: must be an alias, a file, a folder or a hub id; nothing is there, and the hub gave no "
        f"tokenizer.json, tekken.json or tokenizer.model ({reason})."
    )


def _only_for_ranks(name: str, pattern: str | None) -> None:
    if pattern is not None:
        raise InvalidValue(f"tokenizer {name!r}: pattern is only for .tiktoken files that are not known; leave it out.")
