"""`tokenry decode`: the bytes that ids stand for."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.apps.cli.encode import Name
from tokenry.core.errors import InvalidValue

DECODE_SCHEMA = "tokenry.decode/0"


def decode(
    ids: Annotated[list[str], typer.Argument(metavar="IDS...", help="Numbers; - reads them from standard input.")],
    tokenizer: Name = "smollm2",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of standard output.")] = None,
    as_json: o.Json = False,
) -> None:
    """Turn ids into the text they stand for, byte for byte."""
    numbers = _numbers(sys.stdin.read(o.LARGEST_DOCUMENT) if ids == ["-"] else " ".join(ids))

    from tokenry.core.saving import whole_file
    from tokenry.segment.opening import open_tokenizer

    data = open_tokenizer(tokenizer).decode(numbers)
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


def _numbers(text: str) -> list[int]:
    """Ids between anything that is no number, or those of what `tokenry encode --json` printed."""
    if text.lstrip().startswith("{"):
        try:
            return [int(i) for i in json.loads(text)["ids"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValue(f"ids: must be numbers, or what `tokenry encode --json` prints; {error!r}.") from error
    wrong = re.search(r"[^\d\s,\[\]]", text)
    if wrong:
        raise InvalidValue(f"ids: must be whole numbers; got {text[max(0, wrong.start() - 10) : wrong.end()]!r}.")
    return [int(i) for i in re.findall(r"\d+", text)]
