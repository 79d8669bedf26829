"""`tokenry adapt`: the same model over another vocabulary, as a folder that plain transformers loads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import bars, working
from tokenry.core.errors import InvalidValue
from tokenry.models.files.catalog import check_name

if TYPE_CHECKING:
    from tokenry.embed.transfer.donor import Tell
    from tokenry.models.files.load import LanguageModel

ADAPT_SCHEMA = "tokenry.adapt/0"

PASSAGE = 1200
"""Characters of each document on which the model is measured before and after; fewer where it reads less."""


def adapt(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="An alias, a folder, a GGUF file or a hub id.", autocompletion=complete.models
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Whose vocabulary it gets: an alias, a folder or a hub id.",
            autocompletion=complete.models,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for model and tokenizer.")],
    use: Annotated[
        str, typer.Option("--use", "--method", metavar="SPEC", help="What embeds new pieces, name:field=value,…")
    ] = "token_adapt",
    text: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Measure on this text, not on the samples; repeatable.")
    ] = None,
    multiple: Annotated[int, typer.Option(min=1, help="Pad the rows to a multiple of this.")] = 128,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Give a model another vocabulary, and say what that costs in bits per byte."""
    [entry] = o.check(use=[use], model=model, dtype=dtype)
    if entry is None or entry.room != "embed":
        raise InvalidValue(f"use: must be a method of room embed, see `tokenry list --room embed`; got {use}.")
    check_name(tokenizer)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidValue(f"out: must be a new or an empty folder; got {out}; choose another.")
    texts = [d.text for d in o.read_documents(text)] if text else None

    from tokenry.core.registry import parse
    from tokenry.embed.base import EmbeddingTable
    from tokenry.models.files.load import load, load_tokenizer
    from tokenry.models.text.embeddings import save

    method = parse(use)
    assert isinstance(method, EmbeddingTable)
    started = time.perf_counter()
    with working():
        pieces = load_tokenizer(tokenizer)
        language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    with bars() as tell:
        plan = method.plan(language, pieces, tell)
        adapted = plan.build(method.table(plan.pieces, plan.donor), multiple)
        measured = _measure(language, adapted, texts, tell)
        tell("writing", 0, 1)
        save(adapted, out)
    found = {
        "schema": ADAPT_SCHEMA,
        "model": model,
        "tokenizer": tokenizer,
        "method": str(method),
        "out": str(out),
        "rows": plan.counts | {"all": -(-len(plan.source) // multiple) * multiple},
        "without_rows": plan.donor.without_rows,
        "share_copied": round(plan.share, 4),
        "bits_per_byte": measured,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _show(found)


def _measure(
    before: LanguageModel, after: LanguageModel, texts: list[str] | None, tell: Tell
) -> dict[str, float | int | None]:
    """Mean bits per byte over the passages that both vocabularies spell exactly."""
    from tokenry.data import documents, read
    from tokenry.embed.transfer.bits import bits_per_byte, spells

    whole = texts if texts is not None else [read(name) for name in documents()]
    # A character is at most four bytes, and a byte at most one token.
    size = PASSAGE if before.context is None else min(PASSAGE, (before.context - 1) // 4)
    passages = [p for t in whole if (p := _middle(t, size)) and spells(before, p) and spells(after, p)]
    bits: list[tuple[float, float]] = []
    for i, passage in enumerate(passages):
        tell("measuring", i, len(passages))
        bits.append((bits_per_byte(before, passage), bits_per_byte(after, passage)))
    means = [round(sum(b) / len(bits), 4) for b in zip(*bits, strict=True)] if bits else [None, None]
    return {"before": means[0], "after": means[1], "passages": len(bits)}


def _middle(text: str, size: int) -> str:
    """A passage from the middle of a text, from one space to another where there are any."""
    start = max(0, (len(text) - size) // 2)
    cut = text[start : start + size]
    return cut if len(text) <= size else cut[cut.find(" ") + 1 : cut.rfind(" ")] or cut


def _show(found: dict[str, object]) -> None:
    rows, bits = found["rows"], found["bits_per_byte"]
    assert isinstance(rows, dict)
    assert isinstance(bits, dict)
    ignored = found["without_rows"]
    assert isinstance(ignored, list)
    lines = [f"the model has no rows for {len(ignored)} ids of its tokenizer, which are ignored: {_few(ignored)}"]
    lines = lines * bool(ignored) + [
        f"{rows['copied']:,} rows copied, {rows['made']:,} made by {found['method']}, {rows['idle']:,} used by no text",
        f"bits per byte: {bits['before']} before, {bits['after']} after; passages: {bits['passages']}"
        if bits["passages"]
        else "bits per byte: no passage that both vocabularies spell exactly",
        f"written to {found['out']} in {found['seconds']} s",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
