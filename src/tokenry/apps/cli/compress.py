"""`tokenry compress`: the compressed text itself, for models behind an API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import working
from tokenry.core.errors import InvalidValue

COMPRESS_SCHEMA = "tokenry.compress/0"


def compress(
    documents: o.Documents,
    use: o.Use = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of standard output.")] = None,
    ask: o.Ask = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Whose tokens count: a model, o200k_base, a file …", autocompletion=complete.tokenizers
        ),
    ] = "smollm2",
    protect: o.Protect = None,
    as_json: o.Json = False,
) -> None:
    """Shorten documents to a budget and print what is left."""
    if not use:
        raise InvalidValue(
            "use: needs at least one method, such as --use lexical_relevance:budget=0.5 with --ask; got none."
        )
    o.check(use=use)
    texts = o.read_documents(documents, protect)

    from tokenry.core.registry import parse
    from tokenry.core.saving import write_text
    from tokenry.models.text.counting import Counter
    from tokenry.pipeline.texts import shorten_all

    with working():
        found = shorten_all([parse(spec) for spec in use], texts, Counter.of(tokenizer), ask)
    text, before, after = found.text, found.tokens_in, found.tokens_out
    if out is not None:
        write_text(out, text)
    if as_json:
        shown = {
            "schema": COMPRESS_SCHEMA, "tokens_in": before, "tokens_out": after, "text": text,
            "left_out": [list(span) for span in found.left_out], "notes": list(found.notes),
        }  # fmt: skip
        sys.stdout.write(json.dumps(shown) + "\n")
    elif out is None:
        sys.stdout.write(text + "\n")
    if not as_json:
        said = f"{before} -> {after} tokens of {tokenizer}" + (f", written to {out}" if out else "")
        sys.stderr.write("".join(f"{line}\n" for line in (*found.notes, said)))
