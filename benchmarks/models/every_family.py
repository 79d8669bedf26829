"""Every family of transformers that can be made small: whether its models read the same through tokenry as without."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
import transformers

from benchmarks.models.alone import Row, alone
from benchmarks.models.compared import Way, itself, through
from benchmarks.models.courses import courses
from benchmarks.models.small import KINDS, NotBuilt, small
from benchmarks.record import RESULTS
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.token_select import TokenSelect
from tokenry.core.budget import Budget
from tokenry.core.errors import UnsupportedModel
from tokenry.core.saving import write_text
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site

FILE = RESULTS / "models" / "every_family.json"
SECONDS = 600
"""Of the processor, for one family."""
ALL = Budget(tokens=1_000_000, per="layer")
"""A budget that covers everything, at which methods change nothing."""

HEAD = """## Every family of transformers

By `python -m benchmarks.models.every_family`. Each family is built small from the names in its configuration, with
random weights, and read from in up to eleven ways (padded on both sides, in chunks, step by step and several tokens at
once, with masks of four axes, packed, greedily, with beams, with pictures or sounds): by itself, through tokenry, and
with `token_select` and `snapkv` at budgets that cover everything. **exact**: all the same. **dense**: the same where
nothing is chosen; methods that choose keys say that they cannot. **refused**: with a sentence, before anything is read.
**not built**: no small model came of the names, or it needs a package that is not installed.
"""


def main() -> None:
    """Try what was not tried with the installed version, one family after the other, and write the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="causal and so on; all where none is named")
    options.add_argument("--only", default="", help="these families, separated by commas, also where tried before")
    asked = options.parse_args()
    for kind in asked.kinds or KINDS:
        try_all(kind, FILE, only=[name for name in asked.only.split(",") if name])
    from benchmarks.models import families

    families.write_page()


def try_all(kind: str, file: Path, only: list[str] | None = None) -> None:
    """Enter a row for each family that has none yet, at once."""
    found = read(file)
    rows = found.setdefault(transformers.__version__, {}).setdefault(kind, {})
    for family in KINDS[kind][1]:
        if family in only if only else family not in rows:
            rows[family] = alone(SECONDS, judged, kind, family)
            print(f"{kind} {family}: {rows[family]['status']} {rows[family].get('why', '')}", flush=True)
            write_text(file, json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read(file: Path = FILE) -> dict[str, dict[str, dict[str, Row]]]:
    """Rows by version of transformers, kind and family."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


@torch.no_grad()
def judged(kind: str, family: str) -> Row:
    """What is found of a family."""
    try:
        model = small(kind, family)
    except NotBuilt as error:
        return {"status": "not built", "why": str(error)}
    row: Row = {"model": type(model).__name__}
    ways = courses(model, kind)
    answers = {name: itself(course) for name, course in ways.items()}
    own = {name: found for name, found in answers.items() if isinstance(found, list)}
    if not own:
        return row | {"status": "not built", "why": f"its own code {answers['whole']}"}
    row["ran"] = list(own)
    try:
        adapter = ModelAdapter.of(model)
    except UnsupportedModel as error:
        return row | {"status": "refused", "why": str(error)}
    row["attention"] = dict(sorted(Counter(place.kind for place in adapter.sites.values()).items()))
    tools: Mapping[str, Way] = {
        "dense": lambda: adapter.attached_to(lambda _: Site.dense), "attached": adapter.attached,
        "token_select": lambda: TokenSelect(budget=ALL)(model), "snapkv": lambda: SnapKV(budget=ALL)(model),
        "afterwards": nullcontext,
    }  # fmt: skip
    said = {f"{tool}, {name}": through(way, ways[name], own[name]) for tool, way in tools.items() for name in own}
    faults = {name: what for name, what in said.items() if what.startswith(("wrong", "crash"))}
    if faults:
        wrong = any(what.startswith("wrong") for what in faults.values())
        return row | {"status": "wrong" if wrong else "crash", "faults": faults}
    refused = [what.removeprefix("refused: ") for what in said.values() if what.startswith("refused")]
    return row | ({"status": "dense", "why": refused[0]} if refused else {"status": "exact"})


def section(found: Mapping[str, Mapping[str, Mapping[str, Row]]]) -> str:
    """The part of the page, for the newest version."""
    if not found:
        return ""
    version = max(found, key=lambda v: [int(part) for part in v.split(".") if part.isdigit()])
    statuses = ("exact", "dense", "refused", "not built", "timeout", "wrong", "crash")
    lines = [HEAD, f"With transformers {version}:\n", "| kind | families | " + " | ".join(statuses) + " |"]
    lines.append("| --- |" + " ---: |" * (len(statuses) + 1))
    kinds = [kind for kind in KINDS if kind in found[version]]
    for kind in kinds:
        counts = Counter(row["status"] for row in found[version][kind].values())
        lines.append(f"| {kind} | {counts.total()} | " + " | ".join(str(counts[s]) for s in statuses) + " |")
    for kind in kinds:
        lines += ["", f"### {kind[0].upper()}{kind[1:]}", "", "| | families |", "| --- | --- |"]
        for says, names in _grouped(found[version][kind], statuses):
            lines.append(f"| {says} | {', '.join(names)} |")
    return "\n".join([*lines, ""])


def _grouped(rows: Mapping[str, Row], statuses: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Families of which the same is said, by status."""
    found: dict[tuple[int, str], list[str]] = {}
    for family, row in sorted(rows.items()):
        status = row["status"]
        why = _reason(row.get("why", ""), row.get("model", "")) if status in ("dense", "refused") else ""
        found.setdefault((statuses.index(status), f"**{status}**{why}"), []).append(family)
    return [(says, names) for (_, says), names in sorted(found.items())]


def _reason(why: str, model: str) -> str:
    """A refusal without the name of its model, and without what is to be done."""
    rule, *more = why.split(": ", 1)[-1].removeprefix(model).split("; ")
    if more and more[0].startswith("attend: "):
        rule = more[0].removeprefix("attend: ")
    return f": {rule.strip().removeprefix('dense attention through ')}"


if __name__ == "__main__":
    main()
