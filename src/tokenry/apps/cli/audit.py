"""`tokenry audit`: what a vocabulary lacks, and whether the fast libraries for it give the right ids."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.core.errors import InvalidValue

if TYPE_CHECKING:
    from tokenry.segment.base import FromFile
    from tokenry.segment.engines.audit import Audit

AUDIT_SCHEMA = "tokenry.audit/0"
FEW = 24


def audit(
    tokenizer: Annotated[
        str,
        typer.Argument(
            metavar="TOKENIZER", help="An alias, a file, a folder, a hub id …", autocompletion=complete.tokenizers
        ),
    ],
    corpus: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CORPUS]...", help="Text files, and folders of them; else the sample documents."),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Say what a vocabulary lacks, and compare the fast libraries for it with the one it was made for."""
    texts = [o.read_bytes(str(file)) for file in o.corpus_files(corpus)] if corpus else []

    from tokenry.data import documents, read
    from tokenry.segment.base import FromFile
    from tokenry.segment.engines.audit import audit as look
    from tokenry.segment.engines.opening import open_tokenizer

    method = open_tokenizer(tokenizer)
    if not isinstance(method, FromFile):
        raise InvalidValue(f"audit: must be a tokenizer with a vocabulary of its own; got {tokenizer}.")
    found = look(method.opened, texts or [read(name).encode() for name in documents()], method.special)
    if as_json:
        sys.stdout.write(json.dumps(_document(tokenizer, method, found)) + "\n")
        return
    for line in _lines(method, found):
        sys.stdout.write(line + "\n")


def _document(name: str, method: FromFile, found: Audit) -> dict[str, object]:
    return {
        "schema": AUDIT_SCHEMA, "tokenizer": name, "method": method.name(), "vocab_size": method.vocab_size,
        "marks": method.vocabulary.named_marks, "missing_bytes": list(found.missing_bytes),
        "duplicates": found.duplicates, "unreachable": list(found.unreachable),
        "lossless": {"level": found.lossless.level, "why": found.lossless.why},
        "engines": [asdict(engine) | {"good": engine.good} for engine in found.engines],
    }  # fmt: skip


def _lines(method: FromFile, found: Audit) -> list[str]:
    vocabulary, missing = method.vocabulary, found.missing_bytes
    lines = [
        f"{method.vocab_size} ids, {len(vocabulary.named_marks)} marks with names",
        f"bytes without a piece: {_few([f'0x{b:02x}' for b in missing])}",
        f"pieces that several ids spell: {found.duplicates}",
        f"ids that merging never gives: {_few([str(i) for i in found.unreachable])}",
        f"what comes back: {found.lossless}",
    ]
    for e in found.engines:
        if e.wrong:
            said = f"other ids for {e.wrong} of {e.texts} texts, such as {e.example!r}; not used for this vocabulary"
        elif e.steep:
            said = f"time grows faster than a text of {e.steep!r}; not used for this vocabulary"
        else:
            said = f"the right ids for {e.texts} texts" + (f", {e.speed:.0f} MB a second" if e.speed else "")
        lines.append(f"{e.name}: {said}")
    return lines if found.engines else [*lines, "no faster library is installed that takes it"]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{len(names)}" + (f" ({', '.join(names[:FEW])}{more})" if names else "")
