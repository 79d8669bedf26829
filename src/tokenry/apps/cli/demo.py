"""`tokenry demo`: messages at a quarter of their tokens, then a speech with a model; everything shown is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenry.apps.cli import options as o

if TYPE_CHECKING:
    from tokenry.data import Question
    from tokenry.models.files.load import LanguageModel
    from tokenry.pipeline.pipeline import Pipeline
    from tokenry.pipeline.trace import Trace

DEMO_SCHEMA = "tokenry.demo/0"
DOCUMENT = "sotu_1975"
WHOLE, NEAREST, RANDOM = "the whole speech", "the nearest quarter", "a random quarter"
METHODS = {NEAREST: "compress/dense_relevance:budget=0.25", RANDOM: "compress/random:budget=0.25"}
ENCODER = "minilm"
"""What `dense_relevance` judges sentences with."""

First = Annotated[int | None, typer.Option("--questions", min=1, metavar="N", help="Ask only the first N questions.")]
Page = Annotated[Path, typer.Option(metavar="FILE.html", help="Where the page that shows every token is written.")]


def demo(
    model: o.Model = "smollm2", first: First = None, report: Page = Path("trace.html"), max_new: o.MaxNew = 32,
    as_json: o.Json = False,
) -> None:  # fmt: skip
    """Cut messages of an agent to a quarter, then ask a model about a quarter of a speech: what is kept and said."""
    o.check(model=model)

    from tokenry.apps.cli.status import warn, working
    from tokenry.apps.demo.door import opened
    from tokenry.apps.demo.screen import Screen

    screen = Screen(quiet=as_json)
    with working() as status:
        _fetch(model, warn if as_json else status.beside(screen.say))
        door = opened(model)
    screen.door(door, model)

    from tokenry.apps.demo import score
    from tokenry.apps.demo.evidence import evidence_of
    from tokenry.core.registry import parse
    from tokenry.data import questions, read
    from tokenry.models.files.load import load
    from tokenry.pipeline.pipeline import Pipeline

    pipelines = {name: Pipeline([parse(spec)]) for name, spec in METHODS.items()}
    asked, text = [q for q in questions() if q.document == DOCUMENT][:first], read(DOCUMENT)
    with working() as status:
        language = load(model)
        prepared = {name: p.prepare(text, language, asked[0].ask, max_new=max_new) for name, p in pipelines.items()}
    before = prepared[NEAREST].spelled
    screen.opening(int((~before.protected[0]).sum()), len(asked), {spec: name for name, spec in METHODS.items()})
    screen.evidence(asked[0], {n: evidence_of(asked[0].evidence, before, p.final) for n, p in prepared.items()})

    # The bars end before anything is said: what is said while one moves would go to standard error.
    with working() as status:
        tell = status.counting(3)
        trace = _beside_dense(pipelines[NEAREST], language, model, asked[0], max_new, tell)
        outcomes = {
            WHOLE: [score.outcome(asked[0], text, trace.dense.answer if trace.dense else None)],
            NEAREST: [score.outcome(asked[0], trace.final, trace.answer)],
            RANDOM: score.shortened(asked[:1], pipelines[RANDOM], language, max_new, tell),
        }
    screen.savings(trace)
    parameters = sum(p.numel() for p in language.model.parameters())
    screen.answers({name: found[0] for name, found in outcomes.items()}, language.name, parameters)
    with working() as status:
        tell = status.counting(3 * (len(asked) - 1))
        outcomes[WHOLE] += score.whole(asked[1:], language, max_new, tell)
        for name, pipeline in pipelines.items():
            outcomes[name] += score.shortened(asked[1:], pipeline, language, max_new, tell)
    screen.score(outcomes)
    trace.report(report)
    if as_json:
        said = {"schema": DEMO_SCHEMA, "messages": door.to_dict(), "run": trace.run_dict(), "questions": {
            name: {"asked": len(found), "there": sum(f.there for f in found), "right": sum(f.right for f in found)}
            for name, found in outcomes.items()
        }, "report": str(report)}  # fmt: skip
        sys.stdout.write(json.dumps(said) + "\n")
    screen.say(f"\nEvery token of the first question, and what it cost: {report}")


def _fetch(model: str, say: Callable[..., None]) -> None:
    """Fetch the model, and the encoder that judges sentences, where they are not there."""
    from tokenry.models.files import store
    from tokenry.models.files.catalog import ALIASES

    for name in (model, ENCODER):
        if name in ALIASES and store.place(name) is None:
            say(f"getting {name}: {ALIASES[name].about}")
            store.get(name)


def _beside_dense(
    pipeline: Pipeline,
    language: LanguageModel,
    model: str,
    question: Question,
    max_new: int,
    tell: Callable[[str], None],
) -> Trace:
    """A run, and beside it the model alone in a process of its own, if the whole speech fits."""
    from tokenry.core.errors import ContextOverflow
    from tokenry.data import read
    from tokenry.models.generate.answer import Sampling
    from tokenry.models.text.document import Document
    from tokenry.pipeline.arm import Job
    from tokenry.pipeline.compare import beside_dense

    sampling, document = Sampling(max_new_tokens=max_new), Document(read(question.document), f"{question.document}.txt")
    tell("a quarter of the speech")
    trace, _ = pipeline.run(document, language, question.ask, sampling)
    tell("the whole speech")
    job = Job(model=model, documents=o.job_documents([document]), ask=question.ask, sampling=asdict(sampling))
    try:
        return beside_dense(trace, pipeline, language, job)
    except ContextOverflow:
        return trace
