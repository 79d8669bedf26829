"""`tokenry measure tokenizers`: all that is counted of tokenizers, one beside the other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import warn, working
from tokenry.core.errors import InvalidValue, UnreadableInput

SCHEMA = "tokenry.tokenizers/0"
WORD = "tokenizers"
"""What stands where else a method is named."""


def measured(
    names: Sequence[str], corpus: Sequence[str], languages: Sequence[str], words: Path | None, draws: int
) -> dict[str, Any]:
    """The document of tokenizers over texts."""
    if not names or not corpus:
        lacks = "a tokenizer" if not names else "--corpus FILE"
        raise InvalidValue(f"measure tokenizers: must have {lacks}; got none; pass at least one.")

    from tokenry.measure.comparison.sheet import compare
    from tokenry.measure.morphs.gold import words_of
    from tokenry.segment.engines.encoding import LostBytes
    from tokenry.segment.engines.opening import open_tokenizer

    texts = [document.text for document in o.read_documents(list(corpus))]
    parallel = dict(map(_language, languages)) if languages else None
    gold = words_of(_read(words)) if words is not None else None
    if gold == []:
        raise InvalidValue(f"words: must have a word on a line, as ev+ler; {words} has none.")
    given = {name: name if name == "bytes" else open_tokenizer(name) for name in names}
    with working() as status, warnings.catch_warnings():
        # What is lost is a row of the table.
        warnings.simplefilter("ignore", LostBytes)
        tell = status.counting(len(given))
        sheet = compare(given, texts, languages=parallel, words=gold, draws=draws, tell=tell)
    return {"schema": SCHEMA, **sheet.to_dict()}


def draw(document: dict[str, Any], file: Path) -> None:
    """Write the page."""
    from tokenry.core.saving import write_text
    from tokenry.report.tokenizers_page import tokenizers_page

    write_text(file, tokenizers_page(document))
    warn(f"html: {file}")


def _language(given: str) -> tuple[str, list[str]]:
    name, equals, file = given.partition("=")
    if not equals or not name or not file:
        raise InvalidValue(f"languages: must be NAME=FILE, a file with a passage on each line; got {given!r}.")
    return name, [line for line in _read(Path(file)).splitlines() if line.strip()]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UnreadableInput(
            f"{file}: must be a readable text in UTF-8; {getattr(error, 'strerror', None) or error}."
        ) from error
