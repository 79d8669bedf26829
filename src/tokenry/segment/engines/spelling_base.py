"""A tokenizer that others stand in front of: its pieces must spell the text."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from pathlib import Path

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.base import FromFile, Tokenizer
from tokenry.segment.engines.encoding import runner
from tokenry.segment.engines.opening import open_tokenizer

PARTS = ("x=", "12", ";y ", "5", " z\n", "6")
"""What a tokenizer must spell alone as it does inside of a text."""


def spelling_base(name: str, who: str, field: str) -> Tokenizer:
    """The tokenizer of a name, whose pieces stand side by side in every text, and which spells any part of one alike.

    It is opened and looked at once, for as long as its files do not change.

    Args:
        who, field: the method, and the field that holds the name.

    Raises:
        UnknownModel: no tokenizer has this name.
        InvalidValue: its pieces do not spell the text, or parts of it otherwise than the whole.
    """
    found = _opened(name, _changed(name))
    _check(name, who, field, found.vocabulary)
    return found


@lru_cache(maxsize=8)
def _opened(name: str, changed: tuple[tuple[int, int], ...]) -> Tokenizer:
    return open_tokenizer(name)


def _changed(name: str) -> tuple[tuple[int, int], ...]:
    """What says that another method has written a folder; nothing of other names."""
    files = (Path(name).expanduser() / file for file in ("tokenizer.json", "tokenizer_config.json"))
    return tuple((found.st_ino, found.st_mtime_ns) for file in files if file.exists() for found in [file.stat()])


@lru_cache(maxsize=8)
def _check(name: str, who: str, field: str, vocabulary: Vocabulary) -> None:
    found = open_tokenizer(name)
    spells = isinstance(found, FromFile) and runner(found.opened, found.special).original.byte_level
    if not (found.lossless or spells):
        raise InvalidValue(
            f"{who}: {field} must be a tokenizer whose pieces spell the text; {name} is {found.lossless}; use one of "
            "bytes, such as smollm2."
        )
    alone = chain.from_iterable(found.encode(part).ids.tolist() for part in PARTS)
    if found.decode(alone) != found.decode(found.encode("".join(PARTS))):
        raise InvalidValue(
            f"{who}: {field} must spell the parts of a text as the text, without a space more or less; {name} does "
            "not; use another one of bytes, such as smollm2."
        )
