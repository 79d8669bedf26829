"""Room: measure. Numbers about tokens, and tasks whose answers are known: `measure`, and `samples` with `score`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from tokenry.core.errors import InvalidValue
from tokenry.core.method import Method
from tokenry.measure.statistics.intervals import of_pooled

if TYPE_CHECKING:
    from tokenry.measure.reporting.results import Results
    from tokenry.measure.tasks.answering import Answering

Numbers = dict[str, float]

Weights = Float[np.ndarray, "S"]
"""How many times each of S samples counts."""

Pool = Callable[[Weights], Numbers]
"""The numbers of all samples together when sample i counts `weights[i]` times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The numbers of a corpus and how sure they are.

    Args:
        who: the metric in its one-line form.
        samples: how many samples it was measured on.
        values: name to number.
        intervals: name to the ends that hold it with 95 % confidence, by bootstrap over the samples; none of a
            single sample.
    """

    who: str
    samples: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def plot(self, file: str | Path, *, names: Sequence[str] = ()) -> None:
        """Draw the numbers with their intervals, some or all, to a .png or .svg file."""
        from tokenry.measure.reporting.pictures import numbers

        numbers({self.who: self}, Path(file), names)


class Metric(Method):
    """Gives numbers about a sample: a document, a tokenizer's ids, a signal and what became of it.

    A metric whose number for a corpus is not the mean over its samples, such as an entropy, says in `pool` how the
    samples are put together.
    """

    room: ClassVar[str] = "measure"
    shown: ClassVar[tuple[str, ...]] = ()
    """The numbers that a picture shows; all where empty."""

    @abstractmethod
    def measure(self, sample: Any) -> Numbers:
        """The numbers of one sample, by name."""

    def pool(self, samples: Sequence[Any]) -> Pool:
        """Prepare samples to be measured together with any weights; by default the numbers' weighted means."""
        rows = [self.measure(sample) for sample in samples]
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = np.array([[row.get(name, np.nan) for name in names] for row in rows])

        def means(weights: Weights) -> Numbers:
            shares = weights[:, None] * ~np.isnan(table)
            with np.errstate(invalid="ignore"):
                found = (shares * np.nan_to_num(table)).sum(0) / shares.sum(0)
            return dict(zip(names, found.tolist(), strict=True))

        return means

    def over(self, samples: Iterable[Any], *, draws: int = 200, seed: int = 0) -> Measured:
        """The numbers of a corpus, with intervals by bootstrap over its samples.

        Args:
            draws: corpora drawn from this one with repetition; 0 for no intervals.
            seed: of the draws.

        Raises:
            InvalidValue: no sample.
        """
        found = list(samples)
        if not found:
            raise InvalidValue(f"{self.name()}: must be measured on at least one sample; got none.")
        pooled = self.pool(found)
        values = pooled(np.ones(len(found)))
        sure = of_pooled(pooled, values, len(found), draws, seed) if len(found) > 1 and draws else {}
        return Measured(who=str(self), samples=len(found), values=values, intervals=sure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One task: a document, what is asked about it, and what is right.

    Args:
        id: the same for the same task in every run.
        text: the document.
        ask: the question.
        answers: the right items, in order.
        candidates: wrong items beside which a right one may be judged.
        wording: what stands before each right item, and after the last, where the whole answer is written down.
        facts: length, depth, hops and whatever else results are sorted by.
    """

    id: str
    text: str
    ask: str
    answers: tuple[str, ...]
    candidates: tuple[str, ...] = ()
    wording: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def write(self, items: Sequence[str]) -> str:
        """The first items of an answer, or all of them with its end."""
        wording = self.wording or ("", *[", "] * (len(self.answers) - 1), "")
        return "".join(w + i for w, i in zip(wording, items, strict=False)) + wording[len(items)]


class Benchmark(Method):
    """Makes tasks whose answers are known, and scores what is answered."""

    room: ClassVar[str] = "measure"

    @property
    def axes(self) -> tuple[str, ...]:
        """Facts along which results are shown, the most important first."""
        return ()

    @abstractmethod
    def samples(self, *, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        """Tasks, byte for byte the same for the same seed; the first `limit` of them are spread over all settings."""

    @abstractmethod
    def score(self, sample: Sample, answer: str) -> Numbers:
        """How right an answer is; `right`, from 0 to 1, is always among the numbers."""

    def total(self, results: Results) -> Numbers:
        """Numbers of a whole run that no single task has, such as a difference between kinds of tasks."""
        return {}

    def run(
        self,
        answering: Answering,
        *,
        seed: int = 0,
        limit: int | None = None,
        file: str | Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Results:
        """Have all tasks answered and scored.

        Args:
            answering: who answers and how, `Generated` or `Chosen`.
            seed: of the tasks.
            limit: only the first so many.
            file: where results are kept after every task; a run that was interrupted goes on from there.
            tell: called with the id of each task that begins.

        Raises:
            InvalidValue: the file holds the results of another run.
        """
        from tokenry.measure.reporting.results import Results

        results = Results.begin(self, answering.describe(), seed=seed, limit=limit, file=file)
        for sample in self.samples(seed=seed, limit=limit):
            tell(sample.id)
            if not results.holds(sample.id):
                said = answering(sample)
                results.add(sample, said.text, self.score(sample, said.text) | said.scores)
        return results
