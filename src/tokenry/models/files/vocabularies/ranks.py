"""Open byte pairs by rank: `.tiktoken` files, tekken files and the encodings that tiktoken knows by name."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tokenry.core.errors import InvalidValue, StorageError, UnknownModel
from tokenry.core.needs import need
from tokenry.core.vocabulary import Vocabulary
from tokenry.models.files.vocabularies.opened import LARGEST_ID, Opened, Ranked
from tokenry.models.text.vocabulary import by_rank

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_LETTERS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = "|".join(
    (
        rf"{_LETTERS}*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{_ENDINGS}",
        rf"{_LETTERS}+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_ENDINGS}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
END = "<|endoftext|>"
_MIDDLE = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
_CHAT = (END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))

FILES: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "gpt2": (GPT2, {END: 50256}),
    "r50k_base": (GPT2, {END: 50256}),
    "p50k_base": (GPT2, {END: 50256}),
    "cl100k_base": (CL100K, {END: 100257, **_MIDDLE, "<|endofprompt|>": 100276}),
    "o200k_base": (O200K, {END: 199999, "<|endofprompt|>": 200018}),
    "qwen": (QWEN, {mark: 151643 + i for i, mark in enumerate(_CHAT)}),
}
"""Files that are known by name: how they split text, and their marks."""


def read_tiktoken(name: str, file: Path, pattern: str | None) -> Opened:
    """A `.tiktoken` file: a piece in base64 and its rank on every line.

    Raises:
        InvalidValue: a pattern is missing, given though it is known, or no regular expression.
        StorageError: the file is damaged.
    """
    known = FILES.get(file.stem)
    if known is None and pattern is None:
        raise InvalidValue(
            f"{file.name}: how it splits text must be given, since the file does not say; "
            f"pass pattern=, or name it {', '.join(f'{n}.tiktoken' for n in FILES)} if it is one of these."
        )
    if known is not None and pattern is not None:
        raise InvalidValue(f"{file.name}: pattern must not be given, since this file is known; leave it out.")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if line.strip():
            _enter(ranks, *_entry(line, file, number), file, number)
    split, marks = known or (pattern, {})
    return _ranked(name, "tiktoken", file, Ranked(ranks, str(split)), marks)


def read_tekken(name: str, file: Path) -> Opened:
    """A tekken file: pieces, their split pattern, and control marks that no text makes."""
    try:
        found = json.loads(file.read_bytes())
        config = found["config"]
        first = int(config["default_num_special_tokens"])
        count = int(config["default_vocab_size"]) - first
        ranks: dict[bytes, int] = {}
        for number, entry in enumerate(found["vocab"][: max(0, count)], 1):
            _enter(ranks, base64.b64decode(entry["token_bytes"], validate=True), int(entry["rank"]), file, number)
        pattern = str(config["pattern"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(
            f"{file}: must be a whole tekken file; {type(error).__name__} {str(error)[:120]}; fetch it again."
        ) from error
    if not 0 <= first < LARGEST_ID:
        raise StorageError(f"{file}: must have at most {LARGEST_ID} control marks; got {first}.")
    return _ranked(name, "tekken", file, Ranked(ranks, pattern, first), {})


def read_encoding(name: str) -> Opened:
    """An encoding that tiktoken knows; it keeps the file in its own cache, `TIKTOKEN_CACHE_DIR`."""
    tiktoken = need("tiktoken", name)
    try:
        found = tiktoken.get_encoding(name)
    except Exception as error:
        raise UnknownModel(
            f"tokenizer {name!r}: tiktoken could not fetch it ({type(error).__name__}); connect to the network once, "
            f"or pass the path of {name}.tiktoken."
        ) from error
    content = Ranked(found._mergeable_ranks, found._pat_str)
    return _ranked(name, "tiktoken", Path(name), content, found._special_tokens)


def _entry(line: bytes, file: Path, number: int) -> tuple[bytes, int]:
    try:
        piece, rank = line.split()
        return base64.b64decode(piece, validate=True), int(rank)
    except (ValueError, binascii.Error) as error:
        raise StorageError(
            f"{file}: line {number} must be a piece in base64 and its rank; got {line[:40]!r}; fetch it again."
        ) from error


def _enter(ranks: dict[bytes, int], piece: bytes, rank: int, file: Path, number: int) -> None:
    if not piece or piece in ranks:
        raise StorageError(f"{file}: piece {number} must be new and not empty; got {piece[:40]!r}; fetch it again.")
    if not 0 <= rank < LARGEST_ID:
        raise StorageError(f"{file}: ranks must be from 0 to {LARGEST_ID - 1}; got {rank} at piece {number}.")
    ranks[piece] = rank


def _ranked(name: str, format: str, file: Path, content: Ranked, marks: Mapping[str, int]) -> Opened:
    ranks, taken = content.ranks, set(content.ranks.values())
    missing = [b for b in range(256) if bytes([b]) not in ranks]
    if missing:
        raise StorageError(
            f"{file}: must hold a piece for each of the 256 bytes; {len(missing)} are missing, "
            f"the first 0x{missing[0]:02x}; fetch it again."
        )
    if len(taken) < len(ranks) or taken & {i - content.first for i in marks.values()}:
        raise StorageError(f"{file}: every piece must have a rank of its own; some have the same one.")
    _check_pattern(content.pattern, file)
    pieces: list[bytes | None] = [None] * (1 + max(max(taken) + content.first, *marks.values(), 0))
    for piece, rank in ranks.items():
        pieces[rank + content.first] = piece
    surfaces = [piece or b"" for piece in pieces]
    for mark, i in marks.items():
        surfaces[i] = mark.encode()
    merging = partial(by_rank, ranks, lambda piece: ranks[piece] + content.first)
    vocabulary = Vocabulary(tuple(pieces), dict(marks), merging, whole_first=True)
    return Opened(name, "bpe", format, vocabulary, tuple(surfaces), dict(marks), content)


def _check_pattern(pattern: str, file: Path) -> None:
    from tokenizers import Regex

    try:
        Regex(re.sub(r"(?<=[+*?}])\+", "", pattern))
    except Exception as error:
        raise InvalidValue(f"{file.name}: pattern must be a regular expression; got {pattern!r}; {error}.") from error
