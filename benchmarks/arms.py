"""The arms of a room are its methods, found through the registry: a new file of the room is a new row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from tokenry.core import registry
from tokenry.core.budget import SINKS, Budget
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import Entry, parse

RECENT = 4
"""One part in so many of the rows is for the most recent tokens."""


def methods(room: str, *, learned: bool = True) -> list[Entry]:
    """The methods of a room; with `learned=False` only those that work untrained."""
    return [e for e in registry.entries() if e.room == room and (learned or not e.card.training)]


def unnamed(room: str, specs: Iterable[str]) -> list[Entry]:
    """The methods of a room that are in none of these one-line forms; those of `attend` that work untrained."""
    named = {spec.partition(":")[0].rpartition("/")[2] for spec in specs}
    return [e for e in methods(room, learned=room != "attend") if e.name not in named]


def others(room: str, arms: Mapping[str, str | None]) -> dict[str, str]:
    """Arms for the methods of a room that are in none of these, with their defaults."""
    return {e.name: e.full_name for e in unnamed(room, filter(None, arms.values()))}


def at_rows(entry: Entry, rows: int, fed: int = 0) -> str | None:
    """The one-line form of an attention method that reads so many rows for each KV head; None where it has no budget.

    What all have in common is settled by the names of fields, so that only the choice differs. `budget` gets four
    sinks and a quarter of recent tokens, or as many as the method's own default has in proportion; the bare number
    where the method refuses that. A `window` of queries is at most that quarter. `dense_layers` is 0: every layer
    chooses. `chunk` is 0: the prompt is read densely. What evicts once, after the prompt, holds all that comes later,
    and so half of the `fed` tokens fewer of the prompt. A method around another is settled by its inside.

    Raises:
        InvalidValue: so many rows are too few for the method.
    """
    kind = registry.load(entry.full_name)
    known: dict[str, Any] = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    if "inside" in known:
        name, _, settings = (at_rows(registry.find(known["inside"].name()), rows, fed) or "").partition(":")
        return f"{entry.full_name}:inside={name.rpartition('/')[2]}[{settings}]"
    own = known.get("budget")
    if not isinstance(own, Budget):
        return None
    if kind(**entry.card.trial).grows:
        rows -= fed // 2
    share = own.recent / own.tokens if own.tokens else 0.0
    recent = max(rows // RECENT, int(share * rows))
    rest = [f"{name}=0" for name in ("dense_layers", "chunk") if name in known]
    rest += [f"window={min(known['window'], rows // RECENT)}"] if "window" in known else []
    for frame in (f":sink={SINKS}:recent={recent}", ""):
        spec = f"{entry.full_name}:" + ",".join([f"budget={rows}{frame}:per={own.per}", *rest])
        try:
            parse(spec)
        except InvalidValue:
            if not frame:
                raise
            continue
        return spec
    raise AssertionError
