"""Every family of transformers that can be made small: whether its models read the same through tokenry as without."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.models.courses import Course, NotThere, courses
from benchmarks.models.small import KINDS, NotBuilt, small
from benchmarks.record import RESULTS
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.token_select import TokenSelect
from tokenry.core.budget import Budget
from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.core.saving import write_text
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site

FILE = RESULTS / "models" / "every_family.json"
SECONDS = 90
"""Of the processor, for one family."""
ALL = Budget(tokens=1_000_000, per="layer")
"""A budget that covers everything, at which methods change nothing."""

EXACT, TOLERANCE = 2e-5, 1e-3
"""Two runs of the model itself may differ by the first; one through tokenry by the second, which other orders of
summation stay below."""

Row = dict[str, Any]
Way = Callable[[], AbstractContextManager[Any]]

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
            rows[family] = tried(kind, family)
            print(f"{kind} {family}: {rows[family]['status']} {rows[family].get('why', '')}", flush=True)
            write_text(file, json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read(file: Path = FILE) -> dict[str, dict[str, dict[str, Row]]]:
    """Rows by version of transformers, kind and family."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def tried(kind: str, family: str) -> Row:
    """One row, from a process of its own that may not take long."""
    forked = multiprocessing.get_context("fork")
    ours, theirs = forked.Pipe(duplex=False)
    process = forked.Process(target=_in_a_process, args=(kind, family, theirs), daemon=True)
    process.start()
    theirs.close()
    row: Row = {"status": "timeout", "why": "nothing was said"}
    try:
        while True:
            row = ours.recv()
    except EOFError:
        process.join()
    return row


def _in_a_process(kind: str, family: str, to: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    to.send({"status": "timeout", "why": f"took more than {SECONDS} seconds"})
    try:
        row = judged(kind, family)
    except BaseException as error:
        row = {"status": "crash", "why": _said(error)}
    to.send(row)


@torch.no_grad()
def judged(kind: str, family: str) -> Row:
    """What is found of a family."""
    try:
        model = small(kind, family)
    except NotBuilt as error:
        return {"status": "not built", "why": str(error)}
    row: Row = {"model": type(model).__name__}
    ways = courses(model, kind)
    tried = {name: _twice(course) for name, course in ways.items()}
    own = {name: answers for name, answers in tried.items() if isinstance(answers, list)}
    runs = {name: ways[name] for name in own}
    if not runs:
        return row | {"status": "not built", "why": f"its own code {tried['whole']}"}
    row["ran"] = list(runs)
    try:
        adapter = ModelAdapter.of(model)
    except UnsupportedModel as error:
        return row | {"status": "refused", "why": str(error)}
    row["attention"] = dict(sorted(Counter(place.kind for place in adapter.sites.values()).items()))
    tools: Mapping[str, Way] = {
        "dense": lambda: adapter.attached_to(lambda _: Site.dense), "attached": adapter.attached,
        "token_select": lambda: TokenSelect(budget=ALL)(model), "snapkv": lambda: SnapKV(budget=ALL)(model),
    }  # fmt: skip
    faults: dict[str, str] = {}
    refused: dict[str, str] = {}
    for tool, way in tools.items():
        for name, course in runs.items():
            said = _compared(own[name], course, way, refused, f"{tool}, {name}")
            if said:
                faults[f"{tool}, {name}"] = said
    for name, course in runs.items():
        if _compared(own[name], course, nullcontext, refused, name):
            faults[f"afterwards, {name}"] = "wrong: it is not as it was before"
    if faults:
        wrong = any(said.startswith("wrong") for said in faults.values())
        return row | {"status": "wrong" if wrong else "crash", "faults": faults}
    if refused:
        return row | {"status": "dense", "why": next(iter(refused.values()))}
    return row | {"status": "exact"}


def _twice(course: Course) -> list[Tensor] | str:
    """What the model says by itself, or why that is nothing to compare with."""
    try:
        first, again = _seeded(course), _seeded(course)
    except NotThere:
        return "has no such course"
    except Exception as error:
        return f"does not run: {_said(error)}"
    if any(bool(t.isnan().any()) for t in first):
        return "gives numbers that are none"
    return first if _equal(first, again, EXACT / 2) else "says something else each time"


def _compared(own: list[Tensor], course: Course, way: Way, refused: dict[str, str], name: str) -> str:
    """What is wrong; refusals are noted, not judged."""
    try:
        with way():
            found = _seeded(course)
    except (UnsupportedModel, Incompatible) as error:
        refused[name] = str(error)
        return ""
    except Exception as error:
        return f"crash: {_said(error)}"
    return "" if _equal(own, found, TOLERANCE) else f"wrong: {_apart(own, found)}"


def _seeded(course: Course) -> list[Tensor]:
    torch.manual_seed(0)
    return course()


def _equal(some: list[Tensor], others: list[Tensor], allowed: float) -> bool:
    if [a.shape for a in some] != [b.shape for b in others]:
        return False
    return all(_distance(a, b) <= allowed for a, b in zip(some, others, strict=True) if a.numel())


def _distance(a: Tensor, b: Tensor) -> float:
    """Relative to the largest value where that is more than one; infinite where it is no number."""
    found = float((a - b).abs().max() / a.abs().max().clamp_min(1))
    return found if found == found else float("inf")


def _apart(some: list[Tensor], others: list[Tensor]) -> str:
    if [a.shape for a in some] != [b.shape for b in others]:
        return "other shapes"
    return f"off by {max(_distance(a, b) for a, b in zip(some, others, strict=True) if a.numel()):.2g}"


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


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
    """A refusal without the name of its model."""
    rule = why.split(": ", 1)[-1].removeprefix(model).split(";")[0].strip().removeprefix("dense attention through ")
    return f": {rule}" if rule else ""


if __name__ == "__main__":
    main()
