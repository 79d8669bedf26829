"""`tokenry run`: answer a question over documents with fewer tokens."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import ContextOverflow, InvalidValue


def run(
    documents: o.Documents,
    ask: Annotated[str, typer.Option(help="The question.")],
    model: o.Model = "smollm2",
    use: o.Use = None,
    max_new: o.MaxNew = 64,
    compare: Annotated[str | None, typer.Option(metavar="dense", help="Also run the model alone and compare.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page that shows every token.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    protect: o.Protect = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most likely token.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample from this share of the probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from this many tokens; 0 for all.")] = 0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01, help="Above 1 discourages repetition.")] = 1.0,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Answer a question over documents, and say what it cost."""
    if compare not in (None, "dense"):
        raise InvalidValue(f"compare: must be dense; got {compare!r}.")
    from tokenry.core.registry import parse

    chosen = [parse(spec) for spec in use or []]
    texts = o.read_documents(documents, protect)

    from tokenry.apps.cli.show import print_run, warn
    from tokenry.models.files.load import load
    from tokenry.models.generate.answer import Sampling
    from tokenry.pipeline.arm import Job
    from tokenry.pipeline.compare import beside_dense
    from tokenry.pipeline.pipeline import Pipeline

    pipeline = Pipeline(chosen)
    sampling = Sampling(
        max_new_tokens=max_new, temperature=temperature, top_p=top_p, top_k=top_k,
        repetition_penalty=repetition_penalty, seed=seed,
    )  # fmt: skip
    started = time.perf_counter()
    language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    loaded = time.perf_counter() - started
    trace, _ = pipeline.run(
        texts, language, ask, sampling, system=system, record=report is not None, loaded=loaded,
        tell=None if as_json else _stream,
    )  # fmt: skip
    if not as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()
    if compare:
        job = Job(
            model=model, documents=o.job_documents(texts), ask=ask, system=system, sampling=asdict(sampling),
            device=device, dtype=dtype, trust_remote_code=trust_remote_code,
        )  # fmt: skip
        try:
            trace = beside_dense(trace, pipeline, language, job)
        except ContextOverflow as error:
            warn(f"dense could not run: {error}")
    if as_json:
        sys.stdout.write(json.dumps(trace.run_dict()) + "\n")
    else:
        print_run(trace)
    if report is not None:
        trace.report(report)
        warn(f"report: {report}")


def _stream(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
