"""Put pipelines beside the dense model and beside random choice at the same budget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.method import Method
from tokenry.core.registry import load as load_method
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Sampling, divergence
from tokenry.pipeline.arm import Job, spawn
from tokenry.pipeline.pipeline import Documents, Pipeline
from tokenry.pipeline.receipt import Receipt
from tokenry.pipeline.trace import Dense, Trace

CHOOSING = ("compress", "attend")
"""Rooms whose methods choose tokens, and have a `random` one that chooses by chance."""

COMPARE_SCHEMA = "tokenry.compare/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One line of a comparison.

    Args:
        name: `dense`, the pipeline in its one-line form, or its random control.
        control: this arm is the random control of the one before.
        answer: what was said.
        receipt: what it cost.
        kl: KL(dense || arm) over the dense answer in nats; None for dense itself.
        top1: share of equal next-token predictions there; None for dense itself.
    """

    name: str
    control: bool
    answer: str
    receipt: Receipt
    kl: float | None
    top1: float | None

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"receipt": self.receipt.to_dict()}


def pipelines(specs: Sequence[str]) -> list[Pipeline]:
    """Read specs; several methods of one pipeline are joined by `|`."""
    if not specs:
        raise InvalidValue("compare: needs at least one method; got none; see `tokenry list`.")
    return [Pipeline(part.strip() for part in spec.split("|")) for spec in specs]


def control_of(pipeline: Pipeline) -> Pipeline:
    """The same pipeline with every choice made at random, at the same budgets and units."""
    return Pipeline(_random(m) if m.room in CHOOSING else m for m in pipeline.methods)


def planned(chosen: Sequence[Pipeline]) -> list[tuple[str, Pipeline, bool]]:
    """Every arm in order: its name, its pipeline, and whether it is a random control."""
    arms = [("dense", Pipeline(), False)]
    for pipeline in chosen:
        chance = [control_of(pipeline)] if any(m.room in CHOOSING for m in pipeline.methods) else []
        arms += [(named(one), one, one is not pipeline) for one in (pipeline, *chance)]
    return arms


def named(pipeline: Pipeline) -> str:
    """A pipeline in its one-line form."""
    return " | ".join(map(str, pipeline.methods))


def compare(
    job: Job,
    chosen: Sequence[Pipeline],
    tell: Callable[[str], None] = lambda _: None,
    ended: Callable[[Arm], None] = lambda _: None,
) -> list[Arm]:
    """Run the dense model, every pipeline and its control, each in a process of its own.

    Args:
        job: documents, question, model and sampling; its pipeline is replaced.
        chosen: what to compare.
        tell: called with the name of each arm before it starts.
        ended: called with each arm when it has ended.
    """
    arms: list[Arm] = []
    with _scratch() as logits:
        for name, pipeline, control in planned(chosen):
            tell(name)
            own = replace(job, pipeline=pipeline.to_dict())
            own = replace(own, follow=logits) if arms else replace(own, write=logits)
            arms.append(_arm(name, control, spawn(own)))
            ended(arms[-1])
    return arms


def beside_dense(trace: Trace, pipeline: Pipeline, language: Any, job: Job) -> Trace:
    """The same trace with the dense model's answer, run in a process of its own, and the distance to it."""
    from safetensors.torch import load_file

    with _scratch() as logits:
        dense = spawn(replace(job, pipeline=Pipeline().to_dict(), write=logits))
        theirs = load_file(logits)
        ours = pipeline.follow(language, trace.final, theirs["ids"])
    kl, top1 = divergence(theirs["logits"], ours)
    return replace(trace, dense=_dense(dense["answer"], Receipt.from_dict(dense["receipt"]), kl, top1))


def beside_alone(
    trace: Trace, pipeline: Pipeline, language: LanguageModel, documents: Documents, sampling: Sampling,
    tell: Callable[[str], None] = lambda _: None,
) -> Trace:  # fmt: skip
    """`beside_dense` by the model that is loaded already, so that the peak memory of both is one.

    Args:
        tell: called with pieces of the dense answer as they come.

    Raises:
        ContextOverflow: all of the documents do not fit.
    """
    dense, said = Pipeline().run(documents, language, trace.ask or None, sampling, logits=True, tell=tell)
    assert said.logits is not None
    kl, top1 = divergence(said.logits, pipeline.follow(language, trace.final, said.ids))
    return replace(trace, dense=_dense(dense.answer, dense.receipt, kl, top1))


def _dense(answer: str, receipt: Receipt, kl: Tensor, top1: Tensor) -> Dense:
    return Dense(answer=answer, receipt=receipt, kl=kl.mean().item(), top1=top1.mean().item())


def _arm(name: str, control: bool, result: dict[str, Any]) -> Arm:
    return Arm(
        name=name, control=control, answer=result["answer"], receipt=Receipt.from_dict(result["receipt"]),
        kl=result["kl"], top1=result["top1"],
    )  # fmt: skip


def _random(method: Method) -> Method:
    while hasattr(method, "inside"):
        method = method.inside
    control = load_method(f"{method.room}/random")
    shared = {f.name for f in fields(control)} & {f.name for f in fields(method)} - {"seed"}  # type: ignore[arg-type]
    made = control(**{name: getattr(method, name) for name in shared})
    made.keep_explicit(method.explicit & shared)
    return made


@contextmanager
def _scratch() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "dense.safetensors")
