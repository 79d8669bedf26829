"""`tokenry compare`: methods beside dense and beside random choice, each in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import options as o


def compare(
    specs: Annotated[list[str], typer.Argument(metavar="SPEC...", help="Methods; 'a | b' makes a pipeline of two.")],
    text: Annotated[list[str], typer.Option(metavar="FILE", help="Documents; - reads standard input.")],
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
    """Compare methods with the dense model and with random choice at the same budget."""
    from tokenry.core.registry import parse
    from tokenry.report import pareto

    if plot is not None:
        pareto.check(plot)

    for spec in specs:
        for part in spec.split("|"):
            parse(part.strip())
    texts = o.read_documents(text)

    from tokenry.apps.cli.show import print_arms, warn, working
    from tokenry.models.generate.answer import Sampling
    from tokenry.pipeline.arm import Job
    from tokenry.pipeline.compare import COMPARE_SCHEMA, pipelines
    from tokenry.pipeline.compare import compare as run_arms

    job = Job(
        model=model, documents=o.job_documents(texts), ask=ask, device=device, dtype=dtype,
        sampling=asdict(Sampling(max_new_tokens=max_new, seed=seed)), trust_remote_code=trust_remote_code,
    )  # fmt: skip
    chosen = pipelines(specs)
    with working(1 + 2 * len(chosen)) as tell:
        arms = run_arms(job, chosen, tell)
    if as_json:
        sys.stdout.write(json.dumps({"schema": COMPARE_SCHEMA, "arms": [a.to_dict() for a in arms]}) + "\n")
    else:
        print_arms(arms)
    if plot is not None:
        pareto.write(arms, plot)
        warn(f"plot: {plot}")
