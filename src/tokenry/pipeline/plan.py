"""Choose a method and its budget for a user's own texts: the cheapest that stays within a tolerated loss."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.core.progress import counted
from tokenry.core.registry import entries
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Sampling, divergence
from tokenry.models.text.document import Document
from tokenry.pipeline.pipeline import Pipeline
from tokenry.pipeline.receipt import COSTS

SHARES = (0.75, 0.5, 0.25, 0.1)
"""Budgets that are tried, mild ones first; a method is left when one loses too much."""

CONTROLS = ("random",)
ASK = "What are the most important points of this text?"
FEWEST = 4
"""Samples below which no interval is worth printing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One text with a question, and what the model alone answers."""

    documents: tuple[Document, ...]
    ask: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one setting cost and lost.

    Args:
        spec: the setting in its one-line form; empty for the model alone.
        losses: mean KL to dense of each sample over the dense answer, in nats a token.
        interval: of the mean of these, 95 %, by bootstrap over samples.
        seconds, tokens, bytes, flops: means over samples; tokens of the prompt that are read, bytes of keys and
            values that attention reads.
        within: the upper end of the interval is within the tolerated loss.
        note: why the setting could not be tried, or nothing.
    """

    spec: str
    losses: tuple[float, ...] = field(repr=False, default=())
    interval: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    tokens: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    within: bool = False
    note: str = ""

    @property
    def loss(self) -> float:
        """Mean loss."""
        return sum(self.losses) / len(self.losses) if self.losses else float("nan")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"loss": self.loss if self.losses else None}


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was tried, dense first, and the cheapest setting within the tolerated loss."""

    tried: tuple[Tried, ...]
    chosen: Tried
    cost: str

    def to_dict(self) -> dict[str, Any]:
        return {"chosen": self.chosen.spec, "cost": self.cost, "tried": [t.to_dict() for t in self.tried]}


def samples(documents: Sequence[Document], asks: Sequence[str], passage: int) -> list[Sample]:
    """Passages of about `passage` characters, cut between paragraphs, each with every question."""
    passages = [part for d in documents for part in _passages(d, passage)]
    return [Sample((p,), ask) for p in passages for ask in asks or (ASK,)]


def candidates() -> list[str]:
    """Names of the methods that are tried: those of compress and attend, but controls and layers to be trained."""
    tried = (e for e in entries() if e.room == "compress" or (e.room == "attend" and not e.card.training))
    return [e.full_name for e in tried if e.name not in CONTROLS]


def plan(
    language: LanguageModel,
    given: Sequence[Sample],
    *,
    loss: float = 0.05,
    cost: str = "seconds",
    methods: Sequence[str] | None = None,
    max_new: int = 24,
    tell: Callable[[str], None] = lambda _: None,
    ended: Callable[[Tried], None] = lambda _: None,
) -> Plan:
    """Try methods and budgets on the samples.

    A method's budgets are tried from mild to strong; after one whose interval lies above the tolerated loss as a
    whole, its stronger ones are left out.

    Args:
        loss: mean KL to dense in nats a token, over the answers of the model alone; 0.05 is hard to notice.
        cost: what shall be small, one of `COSTS`.
        methods: names to try; all of compress and attend where None.
        max_new: tokens of each answer.
        tell: called with each setting before it is tried.
        ended: called with what each setting cost and lost, the model alone first.

    Raises:
        InvalidValue: too few samples for an interval, a loss that is not positive, or an unknown cost.
    """
    if len(given) < FEWEST:
        raise InvalidValue(
            f"plan: needs at least {FEWEST} texts or passages to say how sure it is; got {len(given)}; "
            "give more documents or questions, or shorter passages."
        )
    if not loss > 0:
        raise InvalidValue(f"plan: loss must be above 0 nats a token; got {loss}.")
    if cost not in COSTS:
        raise InvalidValue(f"plan: cost must be one of {', '.join(COSTS)}; got {cost!r}.")
    sampling = Sampling(max_new_tokens=max_new)
    tell("dense")
    dense, answers = _dense(language, given, sampling)
    ended(dense)
    tried = [dense]
    for name in methods if methods is not None else candidates():
        for share in SHARES:
            spec = f"{name}:budget={share}"
            tell(spec)
            one = _try(language, given, answers, spec, sampling, loss)
            tried.append(one)
            ended(one)
            if one.note or one.interval[0] > loss:
                break
    fit = [t for t in tried if t.within]
    return Plan(tuple(tried), min(fit, key=lambda t: float(getattr(t, cost))), cost)


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    ids: torch.Tensor
    logits: torch.Tensor


def _dense(language: LanguageModel, given: Sequence[Sample], sampling: Sampling) -> tuple[Tried, list[_Answer]]:
    answers, costs = [], []
    for sample in counted(given, "passage", len(given)):
        seconds, trace, said = _timed(language, Pipeline(), sample, sampling, logits=True)
        assert said.logits is not None
        answers.append(_Answer(said.ids, said.logits))
        costs.append(_costs(seconds, trace))
    tried = Tried(spec="", losses=(0.0,) * len(given), within=True, **_mean(costs))
    return tried, answers


def _try(
    language: LanguageModel, given: Sequence[Sample], answers: Sequence[_Answer], spec: str, sampling: Sampling,
    loss: float,
) -> Tried:  # fmt: skip
    losses, costs = [], []
    try:
        pipeline = Pipeline([spec])
        for sample, theirs in counted(zip(given, answers, strict=True), "passage", len(given)):
            seconds, trace, _ = _timed(language, pipeline, sample, sampling, logits=False)
            ours = pipeline.follow(language, trace.final, theirs.ids)
            losses.append(divergence(theirs.logits, ours)[0].mean().clamp_min(0).item())
            costs.append(_costs(seconds, trace))
    except TokenryError as error:
        return Tried(spec=spec, note=str(error))
    interval = intervals.of_mean(torch.tensor(losses))
    return Tried(spec=spec, losses=tuple(losses), interval=interval, within=interval[1] <= loss, **_mean(costs))


def _timed(language: LanguageModel, pipeline: Pipeline, sample: Sample, sampling: Sampling, logits: bool) -> Any:
    started = time.perf_counter()
    trace, said = pipeline.run(list(sample.documents), language, sample.ask, sampling, logits=logits)
    return time.perf_counter() - started, trace, said


def _costs(seconds: float, trace: Any) -> dict[str, float]:
    r = trace.receipt
    return {"seconds": seconds, "tokens": r.prompt_tokens, "bytes": r.bytes_read, "flops": r.flops}


def _mean(costs: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {name: sum(c[name] for c in costs) / len(costs) for name in COSTS}


def _passages(document: Document, size: int) -> Iterator[Document]:
    """Paragraphs joined up to `size` characters; a last short one goes with the one before."""
    parts: list[str] = []
    for paragraph in re.split(r"(?<=\n\n)", document.text):
        if parts and (len(parts[-1]) + len(paragraph) <= size or len(parts[-1]) < size // 4):
            parts[-1] += paragraph
        else:
            parts.append(paragraph)
    if len(parts) > 1 and len(parts[-1]) < size // 4:
        parts[-2:] = ["".join(parts[-2:])]
    for i, part in enumerate(parts):
        if part.strip():
            yield Document(part, f"{document.name or 'document'} {i + 1}")
