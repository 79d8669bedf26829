"""Every way to generate, with every attention method at a setting under which it changes nothing."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.arms import methods
from benchmarks.models.alone import Row, alone
from benchmarks.models.compared import TOLERANCE, Way, itself, through
from benchmarks.models.modes import HALF, MODES
from benchmarks.record import RESULTS
from tokenry.core.registry import load
from tokenry.core.saving import write_text
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.files.tiny import tiny

FILE = RESULTS / "models" / "every_mode.json"
FAMILIES = ("llama", "gemma3_text", "qwen3")
SECONDS = 120
"""Of the processor, for one mode and family."""

HEAD = """## Every way to generate

By `python -m benchmarks.models.every_mode`: tiny models read and generate in each way by themselves, through tokenry,
and with each attention method at a setting under which it must change nothing. Named are the methods that refuse, each
with a sentence; all others give what the model gives. A dash: the model itself does not run in this way.
"""


def main() -> None:
    """Try what was not tried with the installed version, and write the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", default=(), metavar="MODE", help="these, also where tried before")
    try_all(FILE, only=options.parse_args().only)
    from benchmarks.models import families

    families.write_page()


def try_all(file: Path, only: Collection[str] = ()) -> None:
    """Enter a row for each family and mode that has none yet, or lacks a method, at once."""
    found = read(file)
    rows = found.setdefault(transformers.__version__, {})
    for family in FAMILIES:
        for mode in MODES:
            before = rows.setdefault(family, {}).get(mode, {})
            again = mode in only if only else "own" not in before and set(before.get("cells", ())) != set(names())
            if again:
                known = {} if only else before.get("cells", {})
                rows[family][mode] = row = alone(SECONDS, judged, family, mode, known)
                print(f"{family}, {mode}: {summary(row)}", flush=True)
                write_text(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def read(file: Path = FILE) -> dict[str, dict[str, dict[str, Row]]]:
    """Rows by version of transformers, family and mode."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def names() -> list[str]:
    """Nothing chosen, and the methods of the room that need no training."""
    return ["dense", *(entry.name for entry in methods("attend", learned=False))]


@torch.no_grad()
def judged(family: str, mode: str, known: Mapping[str, str]) -> Row:
    """What each method gives in one mode, beside what is known of some."""
    model = tiny(family)
    course = partial(MODES[mode], model)
    own = itself(course)
    if isinstance(own, str):
        return {"own": own}
    allowed = 5e-2 if mode in HALF else TOLERANCE
    ways = _ways(model)
    return {"cells": {n: known[n] if n in known else through(way, course, own, allowed) for n, way in ways.items()}}


def _ways(model: Any) -> dict[str, Way]:
    found: dict[str, Way] = {"dense": lambda: ModelAdapter.of(model).attached_to(lambda _: Site.dense)}
    for entry in methods("attend", learned=False):
        method: Any = load(entry.full_name)(**{**entry.card.trial, **entry.card.identities[0]})
        found[entry.name] = partial(method, model)
    return found


def summary(row: Row) -> str:
    """One cell of the table."""
    if "own" in row:
        return "–"
    if "cells" not in row:
        return f"**{row['status']}**"
    counts = Counter(said.split(":")[0] for said in row["cells"].values())
    if set(counts) == {"exact"}:
        return "exact"
    parts = []
    for what in ("refused", "wrong", "crash"):
        which = [name for name, said in row["cells"].items() if said.startswith(what)]
        if which:
            parts.append(f"{what}: {'all' if len(which) == counts.total() else ', '.join(which)}")
    return "; ".join(parts)


def section(found: Mapping[str, Mapping[str, Mapping[str, Row]]]) -> str:
    """The part of the page, for the newest version."""
    if not found:
        return ""
    version = max(found, key=lambda v: [int(part) for part in v.split(".") if part.isdigit()])
    families = [family for family in FAMILIES if family in found[version]]
    lines = [HEAD, f"With transformers {version}:\n", f"| mode | {' | '.join(families)} |", "|" + " --- |" * 4]
    for mode in MODES:
        rows = [found[version][family].get(mode) for family in families]
        lines.append(f"| {mode} | " + " | ".join("" if row is None else summary(row) for row in rows) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
