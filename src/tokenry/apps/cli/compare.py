"""`tokenry compare`: methods beside dense and beside random choice, each in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import warn, working
from tokenry.core.described import fields_of
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import entries, load, parse


def compare(
    text: Annotated[
        list[str],
        typer.Option(metavar="FILE", help="Documents; - reads standard input.", autocompletion=complete.files),
    ],
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPEC...", help="Methods; 'a | b' makes a pipeline of two.", autocompletion=complete.methods
        ),
    ] = None,
    room: Annotated[
        str | None, typer.Option(help="All methods of this room that need no training.", autocompletion=complete.rooms)
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="BUDGET", help="Of the methods of the room, as in budget=256.")
    ] = None,
    ask: o.Ask = None,
    model: o.Model = "smollm2",
    max_new: o.MaxNew = 64,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    seed: o.Seed = 0,
    trust_remote_code: o.Trust = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw loss against cost: .html, .png or .svg.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Compare methods with the dense model and with random choice at the same budget; a room ends as a leaderboard."""
    from tokenry.report import pareto

    if plot is not None:
        pareto.check(plot)
    specs = [*(specs or ()), *(of_room(room, budget) if room else ())]
    if not specs or (budget is not None and room is None):
        raise InvalidValue("compare: methods must be given, or a room, which a budget is for; got neither.")
    o.check(use=[part.strip() for spec in specs for part in spec.split("|")], model=model, dtype=dtype)
    texts = o.read_documents(text)

    from tokenry.apps.cli.show import arm_table, print_answers, print_arm, print_leaderboard
    from tokenry.models.generate.answer import Sampling
    from tokenry.pipeline.arm import Job
    from tokenry.pipeline.compare import COMPARE_SCHEMA, Arm, pipelines, planned
    from tokenry.pipeline.compare import compare as run_arms

    job = Job(
        model=model, documents=o.job_documents(texts), ask=ask, device=device, dtype=dtype,
        sampling=asdict(Sampling(max_new_tokens=max_new, seed=seed)), trust_remote_code=trust_remote_code,
    )  # fmt: skip
    chosen = pipelines(specs)
    names = [name for name, _, _ in planned(chosen)]
    table = arm_table(names)
    with working() as status:

        def ended(arm: Arm) -> None:
            if not as_json:
                with status.aside():
                    print_arm(table, arm)

        if not as_json:
            with status.aside():
                table.heading()
        arms = run_arms(job, chosen, status.counting(len(names)), ended)
    if as_json:
        sys.stdout.write(json.dumps({"schema": COMPARE_SCHEMA, "arms": [a.to_dict() for a in arms]}) + "\n")
    else:
        print_answers(arms)
        if room is not None:
            print_leaderboard(arms)
    if plot is not None:
        pareto.write(arms, plot)
        warn(f"plot: {plot}")


def of_room(room: str, budget: str | None) -> list[str]:
    """The methods of a room, with a budget where they have one; those that refuse it are left out, which is said.

    Raises:
        InvalidValue: a room whose methods are not for pipelines of a text.
    """
    if room not in ("attend", "compress"):
        raise InvalidValue(f"compare: room must be attend or compress; got {room!r}.")
    found = []
    for entry in entries():
        if entry.room != room or entry.card.training or entry.name == "random":
            continue
        names, spec = {f.name for f in fields_of(entry)}, entry.full_name
        if budget is not None and "budget" in names:
            spec += f":budget={budget}"
        elif budget is not None and "inside" in names:
            made: Any = load(entry.full_name)()
            spec += f":inside={made.inside.name()}[budget={budget}]"
        try:
            parse(spec)
        except InvalidValue as error:
            warn(f"left out: {error}")
        else:
            found.append(spec)
    return found
