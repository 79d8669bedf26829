"""`tokenry compress`: the compressed text itself, for models behind an API."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import working
from tokenry.core.errors import InvalidValue

COMPRESS_SCHEMA = "tokenry.compress/0"
MESSAGES_SCHEMA = "tokenry.messages/0"


def compress(
    documents: Annotated[
        list[str] | None,
        typer.Argument(metavar="DOC...", help="Text files; - reads standard input.", autocompletion=complete.files),
    ] = None,
    messages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Chat messages in JSON: a list, or a request that holds one.")
    ] = None,
    use: o.Use = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of standard output.")] = None,
    ask: o.Ask = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Whose tokens count: a model, o200k_base, a file …", autocompletion=complete.tokenizers
        ),
    ] = "smollm2",
    floor: Annotated[int, typer.Option(help="Of messages: results of fewer tokens stay.")] = 2000,
    keep: Annotated[list[str] | None, typer.Option(help="Of messages: a tool whose results stay.")] = None,
    older_every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of messages: older turns shrink whenever N tokens came.")
    ] = None,
    older_use: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Of messages: by what results of older turns shrink.")
    ] = None,
    protect: o.Protect = None,
    as_json: o.Json = False,
) -> None:
    """Shorten documents to a budget and print what is left, or shorten the results of tools in chat messages."""
    if (messages is None) == (not documents):
        raise InvalidValue("compress: needs text files, or --messages with a file; got both or neither.")
    if messages is not None:
        options = {"floor": floor, "keep": keep or [], "older_every": older_every}
        if older_use:
            options["older_use"] = tuple(older_use)
        _messages(messages, use, out, ask, tokenizer, options, as_json)
        return
    if not use:
        raise InvalidValue(
            "use: needs at least one method, such as --use lexical_relevance:budget=0.5 with --ask; got none."
        )
    o.check(use=use)
    texts = o.read_documents(documents or [], protect)

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


def _messages(
    file: Path, use: list[str] | None, out: Path | None, ask: str | None, tokenizer: str, options: dict[str, Any],
    as_json: bool,
) -> None:  # fmt: skip
    """Write the same document with shorter results of tools."""
    from tokenry.core.saving import write_text
    from tokenry.pipeline.messages.compressing import USE, compress_messages
    from tokenry.pipeline.messages.raw import exchanged

    text, given = o.read_messages(file)
    fields = [name for name in ("messages", "input") if isinstance(given, dict) and isinstance(given.get(name), list)]
    found = compress_messages(
        given[fields[0]] if fields else given, use=tuple(use or USE), tokenizer=tokenizer, ask=ask, **options
    )
    # Numbers, escapes and the order of everything else stay as they are written.
    written = exchanged(text, {(*fields[:1], *path): short for path, short in found.texts.items()}).rstrip("\n") + "\n"
    if out is not None:
        write_text(out, written)
    if as_json:
        changes = [
            {"path": list(c.path), "tool": c.tool, "kind": c.kind, "tokens_in": c.tokens_in,
             "tokens_out": c.tokens_out, "why": c.why, "older": c.older}
            for c in found.changes
        ]  # fmt: skip
        shown = {
            "schema": MESSAGES_SCHEMA, "tokens_in": found.tokens_in, "tokens_out": found.tokens_out,
            "changes": changes, "points": [asdict(point) for point in found.points], "messages": found.messages,
        }  # fmt: skip
        sys.stdout.write(json.dumps(shown) + "\n")
        return
    if out is None:
        sys.stdout.write(written)
    shorter = sum(not c.why for c in found.changes)
    sys.stderr.write(
        f"{found.tokens_in} -> {found.tokens_out} tokens of {tokenizer} in {len(found.changes)} results, "
        f"{shorter} of them shorter\n"
        + "".join(
            f"before message {p.message + 1} older turns shrank: {p.saved} tokens fewer from there on, {p.reread} read "
            "again once\n"
            for p in found.points
        )
    )
