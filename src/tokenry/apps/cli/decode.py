"""`tokenry decode`: the bytes, the picture or the sound that ids stand for."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenry.apps.cli import options as o
from tokenry.apps.cli.encode import ENCODE_SCHEMA, USUAL, Name
from tokenry.apps.cli.signals import SCHEMA, decode_signal, whole
from tokenry.core.errors import InvalidValue

DECODE_SCHEMA = "tokenry.decode/0"


def decode(
    ids: Annotated[list[str], typer.Argument(metavar="IDS...", help="Numbers; - reads them from standard input.")],
    tokenizer: Name = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of standard output.")] = None,
    as_json: o.Json = False,
) -> None:
    """Turn ids into the text they stand for, byte for byte, or into the picture or sound of `encode --json`."""
    said = o.read_bytes("-").decode("utf-8", "replace") if ids == ["-"] else " ".join(ids)
    found = _object(said)
    if found.get("schema") == SCHEMA:
        decode_signal(found, tokenizer, out)
        return
    numbers = _of_text(found) if found else _numbers(said)
    tokenizer = tokenizer or found.get("tokenizer")

    from tokenry.core.saving import whole_file
    from tokenry.segment.engines.opening import open_tokenizer

    data = open_tokenizer(tokenizer or USUAL).decode(numbers)
    if out is not None:
        with whole_file(out) as draft:
            draft.write_bytes(data)
    if as_json:
        try:
            text: str | None = data.decode()
        except UnicodeDecodeError:
            text = None
        found = {"schema": DECODE_SCHEMA, "text": text, "base64": base64.b64encode(data).decode(), "bytes": len(data)}
        sys.stdout.write(json.dumps(found) + "\n")
    elif out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else {}
    except ValueError as error:
        raise InvalidValue(f"ids: must be numbers, or what `tokenry encode --json` prints; {error}.") from error
    return found if isinstance(found, dict) else {}


def _of_text(found: Mapping[str, Any]) -> list[int]:
    """The ids of what `tokenry encode --json` prints of a text."""
    try:
        if found["schema"] != ENCODE_SCHEMA or not isinstance(found.get("tokenizer", ""), str):
            raise TypeError(f"the schema is {found['schema']!r}")
        return whole(found["ids"])
    except (KeyError, TypeError) as error:
        raise InvalidValue(f"ids: must be numbers, or what `tokenry encode --json` prints; {error}.") from error


def _numbers(text: str) -> list[int]:
    """Ids between spaces, commas and brackets."""
    wrong = re.search(r"[^\d\s,\[\]]", text)
    if wrong:
        raise InvalidValue(f"ids: must be whole numbers; got {text[max(0, wrong.start() - 10) : wrong.end()]!r}.")
    return [int(i) for i in re.findall(r"\d+", text)]
