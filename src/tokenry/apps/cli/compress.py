"""`tokenry compress`: the compressed text itself, for models behind an API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import InvalidValue

COMPRESS_SCHEMA = "tokenry.compress/0"


def compress(
    documents: o.Documents,
    use: o.Use = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of standard output.")] = None,
    ask: o.Ask = None,
    tokenizer: Annotated[str, typer.Option(help="Model whose tokens the budget counts.")] = "smollm2",
    protect: o.Protect = None,
    as_json: o.Json = False,
) -> None:
    """Shorten documents to a budget and print what is left."""
    if not use:
        raise InvalidValue(
            "use: needs at least one method, such as --use lexical_relevance:budget=0.5 with --ask; got none."
        )
    from tokenry.core.registry import parse

    chosen = [parse(spec) for spec in use]
    texts = o.read_documents(documents, protect)

    from tokenry.apps.cli.show import warn
    from tokenry.core.saving import write_text
    from tokenry.models.files.load import load_tokenizer
    from tokenry.pipeline.pipeline import Pipeline

    counting = load_tokenizer(tokenizer)
    text = Pipeline(chosen).compress(texts, counting, ask)
    before, after = (len(counting(t, add_special_tokens=False, verbose=False)["input_ids"])
                     for t in ("\n\n".join(d.text for d in texts), text))  # fmt: skip
    if out is not None:
        write_text(out, text)
    if as_json:
        found = {"schema": COMPRESS_SCHEMA, "tokens_in": before, "tokens_out": after, "text": text}
        sys.stdout.write(json.dumps(found) + "\n")
    elif out is None:
        sys.stdout.write(text + "\n")
    if not as_json:
        warn(f"{before} -> {after} tokens of {tokenizer}" + (f", written to {out}" if out else ""))
