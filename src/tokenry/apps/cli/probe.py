"""`tokenry probe`: look at a model while it reads documents."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import warn, working
from tokenry.core.errors import InvalidValue

if TYPE_CHECKING:
    from tokenry.core.tokens import TokenBatch
    from tokenry.models.files.load import LanguageModel
    from tokenry.models.text.document import Document


def probe(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="A probe, [room/]name:field=value,…", autocompletion=complete.methods),
    ],
    documents: o.Documents,
    contrast: Annotated[
        list[str] | None, typer.Option(metavar="DOC", help="A document of another domain; repeatable.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=4, help="Tokens that are read together.")] = 512,
    rows: Annotated[int, typer.Option(min=1, help="Most parts of this length to read of each domain.")] = 8,
    model: o.Model = "smollm2",
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the tables: .html, .png or .svg.")] = None,
    as_json: o.Json = False,
) -> None:
    """Look at a model while it reads documents, and change nothing."""
    [entry] = o.check(use=[spec], model=model, dtype=dtype)
    if entry is None or entry.room != "probe":
        raise InvalidValue(f"probe: must be a method of the room probe; got {entry.full_name if entry else spec}.")
    given = {_label(names): o.read_documents(names) for names in filter(None, (documents, contrast))}
    if contrast and len(given) < 2:
        raise InvalidValue("contrast: must name other documents; got the same ones.")

    from tokenry.core.registry import parse
    from tokenry.models.files.load import load
    from tokenry.probe.base import Probe
    from tokenry.probe.reports.report import check_kind

    chosen = parse(spec)
    assert isinstance(chosen, Probe)
    if contrast and not chosen.compares:
        raise InvalidValue(f"contrast: {chosen.name()} must be given one domain; got two; leave --contrast out.")
    if plot is not None:
        check_kind(plot)
    with working() as status:
        language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        status.say(f"{chosen.name()} looks at {model}")
        domains = {name: _rows(language, found, tokens, rows) for name, found in given.items()}
        report = chosen.look(language, domains)
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict() | {"model": model}) + "\n")
    else:
        sys.stdout.write(report.summary() + "\n")
    if plot is not None:
        report.write(plot)
        warn(f"plot: {plot}")


def _label(names: list[str]) -> str:
    return "+".join("standard input" if name == "-" else Path(name).name for name in names)


def _rows(language: LanguageModel, documents: list[Document], tokens: int, most: int) -> TokenBatch:
    from tokenry.models.text.prompt import plain
    from tokenry.probe.views.rows import cut

    # The mark that begins a text takes one place of the context.
    length = min(tokens, (language.context or tokens + 1) - 1)
    return cut([plain(language.tokenizer, [d]) for d in documents], length, most)
