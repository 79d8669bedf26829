"""`tokenry list` and `tokenry explain`: what methods there are, read from their sources."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.core.card import KV, Card
from tokenry.core.described import Needs, fields_of, needs_of
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import ROOMS, entries, find, parts


def list_methods(
    room: Annotated[str | None, typer.Option(help="Only this room.", autocompletion=complete.rooms)] = None,
    as_json: o.Json = False,
) -> None:
    """List the methods, with what each needs: a question, a model, an encoder, training."""
    if room is not None and room not in ROOMS:
        raise InvalidValue(f"room: must be one of {', '.join(ROOMS)}; got {room!r}.")
    found = [e for e in entries() if room in (None, e.room)]
    if as_json:
        rows = [
            {"name": e.name, "room": e.room, "title": e.card.title, "year": e.card.year, "url": e.card.url,
             "summary": e.card.summary, "needs": asdict(needs_of(e)), "kv": _kv(e.card)}
            for e in found
        ]  # fmt: skip
        sys.stdout.write(json.dumps(rows) + "\n")
        return

    from tokenry.apps.cli.tables import listed

    if room == "attend":
        # All of them need a model and no question; what tells them apart is what they do to its cache.
        shown = [(e.full_name, e.card.action, e.card.granularity, e.card.evidence, e.card.summary) for e in found]
        listed([("method", *KV, "what it does"), *shown])
        return
    heading = ("method", "question", "model", "encoder", "training", "what it does")
    listed([heading, *((e.full_name, *_marked(needs_of(e)), e.card.summary) for e in found)])


def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.explained)], as_json: o.Json = False
) -> None:
    """Explain one method or part of one: what it does, what it needs, its fields, how it differs from the paper."""
    part = next((e for e in parts() if name in (e.name, e.full_name)), None)
    entry = part or find(name)
    settings, needs = fields_of(entry), needs_of(entry)
    card = entry.card
    if as_json:
        found = {
            "name": entry.name, "room": entry.room, "title": card.title, "year": card.year, "url": card.url,
            "summary": card.summary, "doc": entry.doc, "needs": None if part else asdict(needs),
            "kv": _kv(card), "identity_at": [dict(at) for at in card.identities],
            "claims": list(card.claims), "deviations": list(card.deviations), "exempt": dict(card.exempt),
            "fields": [asdict(f) for f in settings],
        }  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")
        return
    lines = [entry.full_name, "=" * len(entry.full_name), f"{card.title} ({card.year})", card.url, "", entry.doc]
    lines += [] if part else ["", "Needs", f"    {_said(needs)}"]
    kv = _kv(card)
    lines += ["", "On cached keys", f"    {', '.join(f'{name}: {word}' for name, word in kv.items())}"] if kv else []
    lines += ["", "Fields"]
    for f in settings:
        lines += [f"    {f.name}: {f.type} = {f.default}", f"        {f.doc}"]
        lines += [f"        must be {f.allowed}"] if f.allowed else []
    lines += [] if settings else ["    none"]
    identities = [", ".join(f"{name}={value}" for name, value in at.items()) for at in card.identities]
    for heading, items in (
        ("Changes nothing at", identities), ("Claims", card.claims), ("Differs from the paper", card.deviations),
    ):  # fmt: skip
        lines += ["", heading, *(f"    - {i}" for i in items)] if items else []
    if part is None and entry.room in ("compress", "attend") and not card.training:
        lines += ["", f"Try it:  tokenry run report.txt --ask '…' --use {entry.full_name}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _kv(card: Card) -> dict[str, str] | None:
    """What a method does to cached keys, if that is what it does."""
    return {name: getattr(card, name) for name in KV} if card.action else None


def _marked(needs: Needs) -> tuple[str, str, str, str]:
    """A cell for each thing that is needed."""
    rest = ("yes" if wanted else "" for wanted in (needs.model, needs.encoder, needs.training))
    return ("" if needs.question == "no" else needs.question, *rest)  # type: ignore[return-value]


def _said(needs: Needs) -> str:
    """What is needed, in words."""
    question = {"yes": "a question", "sometimes": f"a question ({needs.when[:1].lower()}{needs.when[1:]})"}
    words = [question[needs.question]] if needs.question in question else []
    words += ["a language model"] if needs.model else []
    words += ["a text encoder"] if needs.encoder else []
    words += ["training, or a trained one"] if needs.training else []
    return ", ".join(words) or "nothing but its input"
