"""Choose a method and its budget for a user's own texts: the cheapest that stays within a tolerated loss."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.core.progress import counted
from tokenry.core.registry import entries
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Sampling, divergence
from tokenry.pipeline.pipeline import Pipeline, describe
from tokenry.pipeline.planning.halving import FEWEST, better_half, front, rounds
from tokenry.pipeline.planning.losses import Answers, Kl, Loss
from tokenry.pipeline.planning.samples import Sample, digest
from tokenry.pipeline.planning.trials import Trials
from tokenry.pipeline.receipt import COSTS

SHARES = (0.75, 0.5, 0.25, 0.1)
"""Budgets that are tried, mild ones first; a method is left when one loses too much."""

CONTROLS = ("random",)
PLAIN = "sentence"
"""The kind of a text in which no format is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one setting cost and lost.

    Args:
        spec: the setting in its one-line form; empty for the model alone.
        losses: of each sample that was tried.
        interval: of their mean, 95 %: by bootstrap over samples, or Wilson's of a share.
        seconds, tokens, bytes, flops: means over samples; tokens of the prompt that are read, bytes of keys and
            values that attention reads.
        cost_interval: of the mean of the cost that shall be small.
        by_kind: mean loss by what texts are.
        within: it was tried on all samples, and the upper end of the interval is within the tolerated loss.
        note: why the setting could not be tried, or nothing.
    """

    spec: str
    losses: tuple[float, ...] = field(repr=False, default=())
    interval: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    tokens: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    cost_interval: tuple[float, float] = (0.0, 0.0)
    by_kind: dict[str, float] = field(default_factory=dict)
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
    """Everything that was tried, dense first.

    Args:
        tried: every setting, with the most samples that it was tried on.
        chosen: the cheapest within the tolerated loss.
        front: of those tried on all samples, the ones that no other beats in cost and loss at once, cheapest first.
        cost: what shall be small.
        samples: how many there were.
        by: what the loss is.
        tolerated: the loss.
    """

    tried: tuple[Tried, ...]
    chosen: Tried
    front: tuple[Tried, ...]
    cost: str
    samples: int
    by: str
    tolerated: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "chosen": self.chosen.spec, "cost": self.cost, "by": self.by, "tolerated": self.tolerated,
            "samples": self.samples, "front": [t.spec for t in self.front], "tried": [t.to_dict() for t in self.tried],
        }  # fmt: skip


def candidates() -> list[str]:
    """Names of the methods that are tried: those of compress and attend, but controls and layers to be trained."""
    tried = (e for e in entries() if e.room == "compress" or (e.room == "attend" and not e.card.training))
    return [e.full_name for e in tried if e.name not in CONTROLS]


def settings(methods: Sequence[str] | None, given: Sequence[Sample], units: Sequence[str] = ()) -> list[list[str]]:
    """Settings to try, by method and kind of content, mild budgets first.

    Args:
        units: kinds that compressors cut by, beside their own; `auto` where the texts are not all plain, if empty.
    """
    seen = tuple(units) or (("auto",) if any(s.kind != PLAIN for s in given) else ())
    found = []
    for name in methods if methods is not None else candidates():
        kinds = ("", *(f",units={u}" for u in seen)) if name.startswith("compress/") else ("",)
        found += [[f"{name}:budget={share}{kind}" for share in SHARES] for kind in kinds]
    return found


def plan(
    language: LanguageModel,
    given: Sequence[Sample],
    *,
    loss: float | None = None,
    by: Loss | None = None,
    cost: str = "seconds",
    methods: Sequence[str] | None = None,
    units: Sequence[str] = (),
    max_new: int = 24,
    file: str | Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
    ended: Callable[[Tried], None] = lambda _: None,
) -> Plan:
    """Try methods, budgets and kinds of content on the samples, by successive halving.

    All settings are tried on a few samples, the better half of them on twice as many, and so on; only what was tried on
    all can be chosen. A method's budgets are tried from mild to strong; after one whose interval lies above the
    tolerated loss as a whole, its stronger ones are left out, and so is it itself in the next round.

    Args:
        loss: what is tolerated, in the unit of the loss; its own where None.
        by: what is lost: predictions, if nothing is said, or right answers of which the model alone gives all.
        cost: what shall be small, one of `COSTS`.
        methods: full names to try; all of compress and attend where None.
        units: see `settings`.
        max_new: tokens of each answer.
        file: where results are kept after every sample; a plan that was interrupted goes on from there.
        tell: called with each setting before it is tried.
        ended: called with what each setting cost and lost, the model alone first.

    Raises:
        InvalidValue: too few samples for an interval, a loss that is not positive, an unknown cost, or a model that
            gives too few right answers itself.
    """
    by = by or Kl()
    tolerated = by.tolerated if loss is None else loss
    _check(given, tolerated, cost)
    asked = by.prepare(given)
    head = {
        "model": describe(language), "samples": digest(asked), "by": by.describe(), "max_new": max_new,
    }  # fmt: skip
    search = _Search(language, asked, by, tolerated, cost, Sampling(max_new_tokens=max_new), Trials.begin(head, file))
    tell("dense")
    dense = search.dense()
    ended(dense)
    tried: dict[str, Tried] = {"": dense}
    chains = settings(methods, asked, units)
    left: list[Tried] = []
    for size in rounds(len(search.given)):
        chosen = chains if size == FEWEST else [[t.spec] for t in better_half(left, cost, tolerated)]
        left = []
        for chain in chosen:
            for spec in chain:
                tell(spec)
                one = tried[spec] = search.tried(spec, size)
                ended(one)
                if one.note or one.interval[0] > tolerated:
                    break
                left.append(one)
    whole = [t for t in tried.values() if len(t.losses) == len(search.given)]
    fit = [t for t in whole if t.within]
    chosen_one = min(fit, key=lambda t: float(getattr(t, cost)))
    return Plan(
        tuple(tried.values()), chosen_one, tuple(front(whole, cost)), cost, len(search.given), by.name, tolerated
    )


def _check(given: Sequence[Sample], tolerated: float, cost: str) -> None:
    if len(given) < FEWEST:
        raise InvalidValue(
            f"plan: needs at least {FEWEST} texts or passages to say how sure it is; got {len(given)}; "
            "give more documents or questions, or shorter passages."
        )
    if not tolerated > 0:
        raise InvalidValue(f"plan: loss must be above 0; got {tolerated}.")
    if cost not in COSTS:
        raise InvalidValue(f"plan: cost must be one of {', '.join(COSTS)}; got {cost!r}.")


@dataclass(slots=True)
class _Search:
    """Tries settings and keeps what came of it."""

    language: LanguageModel
    asked: list[Sample]
    by: Loss
    tolerated: float
    cost: str
    sampling: Sampling
    trials: Trials
    given: list[int] = field(default_factory=list)
    """Samples that count: those that the model alone answers rightly, of a loss that looks at answers."""
    answers: dict[int, Any] = field(default_factory=dict)

    def dense(self) -> Tried:
        """The model alone."""
        known = self.trials.of("")
        for i, sample in counted(list(enumerate(self.asked))[len(known) :], "passage", len(self.asked)):
            cost, trace, said = self._timed(Pipeline(), sample, logits=not isinstance(self.by, Answers))
            right = not isinstance(self.by, Answers) or self.by.right(sample, trace.answer)
            self.answers[i] = said
            self.trials.add("", cost | {"loss": 0.0, "right": right})
        known = self.trials.of("")
        self.given = [i for i, trial in enumerate(known) if trial["right"]]
        if len(self.given) < FEWEST:
            raise InvalidValue(
                f"{self.by.name}: the model alone must be right at least {FEWEST} times for a loss to mean anything; "
                f"it is {len(self.given)} times of {len(known)}; give more texts, or take --by kl."
            )
        return self._summed("", [known[i] for i in self.given])

    def tried(self, spec: str, size: int) -> Tried:
        """A setting on the first so many samples; what was tried before is not tried again."""
        if spec in self.trials.notes:
            return Tried(spec=spec, note=self.trials.notes[spec])
        known = len(self.trials.of(spec))
        try:
            pipeline = Pipeline([spec])
            for i in counted(self.given[known:size], "passage", size - known):
                self.trials.add(spec, self._trial(pipeline, i))
        except TokenryError as error:
            self.trials.refuse(spec, str(error))
            return Tried(spec=spec, note=str(error))
        return self._summed(spec, self.trials.of(spec)[:size])

    def _trial(self, pipeline: Pipeline, i: int) -> dict[str, Any]:
        sample = self.asked[i]
        cost, trace, _ = self._timed(pipeline, sample, logits=False)
        if isinstance(self.by, Answers):
            return cost | {"loss": float(not self.by.right(sample, trace.answer))}
        if i not in self.answers:
            # Of an interrupted plan: predictions are too large to be kept in its file.
            self.answers[i] = self._timed(Pipeline(), sample, logits=True)[2]
        theirs = self.answers[i]
        ours = pipeline.follow(self.language, trace.final, theirs.ids)
        return cost | {"loss": divergence(theirs.logits, ours)[0].mean().clamp_min(0).item()}

    def _timed(self, pipeline: Pipeline, sample: Sample, logits: bool) -> Any:
        started = time.perf_counter()
        trace, said = pipeline.run(list(sample.documents), self.language, sample.ask, self.sampling, logits=logits)
        r = trace.receipt
        cost = {"seconds": time.perf_counter() - started, "tokens": r.prompt_tokens, "bytes": r.bytes_read}
        return cost | {"flops": r.flops}, trace, said

    def _summed(self, spec: str, trials: Sequence[dict[str, Any]]) -> Tried:
        losses = [float(t["loss"]) for t in trials]
        kinds: dict[str, list[float]] = defaultdict(list)
        for i, loss in zip(self.given, losses, strict=False):
            kinds[self.asked[i].kind].append(loss)
        if not spec:
            interval = (0.0, 0.0)
        elif isinstance(self.by, Answers):
            interval = intervals.of_share(round(sum(losses)), len(losses))
        else:
            interval = intervals.of_mean(torch.tensor(losses))
        return Tried(
            spec=spec, losses=tuple(losses), interval=interval,
            cost_interval=intervals.of_mean(torch.tensor([float(t[self.cost]) for t in trials])),
            by_kind={kind: sum(values) / len(values) for kind, values in sorted(kinds.items())},
            within=interval[1] <= self.tolerated and len(losses) == len(self.given),
            **{name: sum(t[name] for t in trials) / len(trials) for name in COSTS},
        )  # fmt: skip
