"""`tokenry list` and `tokenry explain`: what methods there are, read from their sources."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import ROOMS, entries, fields_of, find, parts


def list_methods(
    room: Annotated[str | None, typer.Option(help="Only this room.")] = None, as_json: o.Json = False
) -> None:
    """List the methods."""
    if room is not None and room not in ROOMS:
        raise InvalidValue(f"room: must be one of {', '.join(ROOMS)}; got {room!r}.")
    found = [e for e in entries() if room in (None, e.room)]
    if as_json:
        rows = [
            {"name": e.name, "room": e.room, "title": e.card.title, "year": e.card.year, "url": e.card.url,
             "summary": e.card.summary}
            for e in found
        ]  # fmt: skip
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    wide = max((len(e.full_name) for e in found), default=0)
    for e in found:
        sys.stdout.write(f"{e.full_name:<{wide}}  {e.card.summary}\n")


def explain(name: Annotated[str, typer.Argument(metavar="NAME")], as_json: o.Json = False) -> None:
    """Explain one method or part of one: what it does, its fields, and how it differs from the paper."""
    part = next((e for e in parts() if name in (e.name, e.full_name)), None)
    entry = part or find(name)
    settings = fields_of(entry)
    if as_json:
        card = entry.card
        found = {
            "name": entry.name, "room": entry.room, "title": card.title, "year": card.year, "url": card.url,
            "summary": card.summary, "doc": entry.doc, "identity_at": [dict(at) for at in card.identities],
            "claims": list(card.claims),
            "deviations": list(card.deviations), "exempt": dict(card.exempt),
            "fields": [{"name": f.name, "type": f.type, "default": f.default, "doc": f.doc} for f in settings],
        }  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")
        return
    lines = [entry.full_name, "=" * len(entry.full_name), f"{entry.card.title} ({entry.card.year})", entry.card.url]
    lines += ["", entry.doc, "", "Fields"]
    lines += [f"    {f.name}: {f.type} = {f.default}\n        {f.doc}" for f in settings] or ["    none"]
    identities = [", ".join(f"{name}={value}" for name, value in at.items()) for at in entry.card.identities]
    for heading, items in (
        ("Changes nothing at", identities), ("Claims", entry.card.claims),
        ("Differs from the paper", entry.card.deviations),
    ):  # fmt: skip
        lines += ["", heading, *(f"    - {i}" for i in items)] if items else []
    if part is None and entry.room in ("compress", "attend"):
        lines += ["", f"Try it:  tokenry run report.txt --ask '…' --use {entry.full_name}"]
    sys.stdout.write("\n".join(lines) + "\n")
