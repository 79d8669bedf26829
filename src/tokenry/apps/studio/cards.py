"""What a page needs to draw a form for every method: names, limits and help, read from cards without importing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

from tokenry.core.described import check, fields_of, needs_of
from tokenry.core.registry import Entry, entries
from tokenry.core.source import lineage

PROMPT, SIGNAL = ("segment", "soft", "compress", "attend", "decode"), ("signal",)


@cache
def cards() -> list[dict[str, Any]]:
    """The methods that can be steps of an answer, or make tokens of a picture or a sound, by room."""
    return [_card(entry) for entry in _steps()]


def in_full(spec: str) -> str:
    """A one-line form with the room of its method, as cards name it; the folder of a saved method as it is.

    Raises:
        UnknownMethod, InvalidValue: a method or a field that there is not.
    """
    entry, (_, colon, fields) = check(spec), spec.partition(":")
    return spec if entry is None else f"{entry.full_name}{colon}{fields}"


def _steps() -> Iterator[Entry]:
    """Methods that work untrained; a trained one is chosen by its folder."""
    for entry in entries():
        if entry.room not in (*PROMPT, *SIGNAL) or (entry.card.training and entry.room not in SIGNAL):
            continue
        names = {node.name for node, _ in lineage(entry.module, entry.class_name)}
        untrained = entry.room in SIGNAL or not names & {"Layer", "Learned"}
        if untrained and (entry.room != "segment" or "Respeller" in names):
            yield entry


def _card(entry: Entry) -> dict[str, Any]:
    card = entry.card
    return {
        "name": entry.full_name, "room": entry.room, "title": card.title, "year": card.year, "summary": card.summary,
        "needs": asdict(needs_of(entry)), "deviations": list(card.deviations),
        "fields": [asdict(setting) for setting in fields_of(entry)],
    }  # fmt: skip
