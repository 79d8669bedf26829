"""`tokenry run`: answer a question over documents with fewer tokens."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import Status, warn, working
from tokenry.core.errors import ContextOverflow, InvalidValue

if TYPE_CHECKING:
    from tokenry.models.text.document import Document
    from tokenry.pipeline.trace import Trace


def run(
    documents: o.Documents,
    ask: Annotated[str, typer.Option(help="The question.")],
    model: o.Model = "smollm2",
    use: o.Use = None,
    pipeline: o.PipelineFile = None,
    max_new: o.MaxNew = 64,
    compare: Annotated[str | None, typer.Option(metavar="dense", help="Also run the model alone and compare.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page that shows every token.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    protect: o.Protect = None,
    marks: Annotated[
        bool, typer.Option("--marks", help="Read marks that documents spell, such as <|im_end|>, as these marks.")
    ] = False,
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
    methods = o.chosen(use, pipeline)
    o.check(use=methods, model=model, dtype=dtype)
    texts = o.read_documents(documents, protect, marks)

    with working("starting") as status:
        trace = _answered(
            status, texts, ask, methods, compare is not None, report is not None, system, as_json,
            {"model": model, "device": device, "dtype": dtype, "trust_remote_code": trust_remote_code},
            {"max_new_tokens": max_new, "temperature": temperature, "top_p": top_p, "top_k": top_k,
             "repetition_penalty": repetition_penalty, "seed": seed},
        )  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(trace.run_dict()) + "\n")
    else:
        from tokenry.apps.cli.show import print_run

        print_run(trace)
    if report is not None:
        trace.report(report)
        warn(f"report: {report}")


def _answered(
    status: Status, texts: list[Document], ask: str, use: list[str], compare: bool, record: bool, system: str | None,
    as_json: bool, model: dict[str, Any], settings: dict[str, Any],
) -> Trace:  # fmt: skip
    """Load, read and say, with a sign of life until the answer begins."""
    from tokenry.models.files.load import load
    from tokenry.models.generate.answer import Sampling
    from tokenry.pipeline.arm import Job
    from tokenry.pipeline.compare import beside_dense
    from tokenry.pipeline.pipeline import Pipeline

    pipeline, sampling = Pipeline(use), Sampling(**settings)
    started = time.perf_counter()
    status.say("")
    language = load(model.pop("model"), **model)
    loaded = time.perf_counter() - started
    trace, _ = pipeline.run(
        texts, language, ask, sampling, system=system, record=record, loaded=loaded,
        tell=None if as_json else partial(_stream, status),
    )  # fmt: skip
    if not as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()
    if not compare:
        return trace
    job = Job(
        model=language.name, documents=o.job_documents(texts), ask=ask, system=system, sampling=settings, **model
    )  # fmt: skip
    status.resume("dense")
    try:
        return beside_dense(trace, pipeline, language, job)
    except ContextOverflow as error:
        status.stop()
        warn(f"dense could not run: {error}")
        return trace


def _stream(status: Status, text: str) -> None:
    # In a terminal the answer itself is the sign of life.
    if sys.stdout.isatty():
        status.stop()
    sys.stdout.write(text)
    sys.stdout.flush()
