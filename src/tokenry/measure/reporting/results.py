"""Scored answers to the tasks of a benchmark: kept after every task, summed up by fact, and drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.saving import read_json, write_text
from tokenry.measure.statistics import intervals

if TYPE_CHECKING:
    from tokenry.measure.base import Benchmark, Numbers, Sample

SCHEMA = "tokenry.results/0"
LARGEST = 256 << 20
"""Bytes of a file of results beyond which it is refused."""

Row = dict[str, Any]


@dataclass(slots=True)
class Results:
    """What was answered, task by task.

    Args:
        benchmark: whose tasks they are.
        who: what decides the answers, as plain values.
        seed: of the tasks.
        rows: for each task its `id`, `facts`, `answers`, what was `said`, and `scores`.
        file: where they are kept, or None.
    """

    benchmark: Benchmark
    who: Mapping[str, Any]
    seed: int = 0
    rows: list[Row] = field(default_factory=list)
    file: Path | None = None

    @classmethod
    def begin(
        cls, benchmark: Benchmark, who: Mapping[str, Any], *, seed: int = 0, limit: int | None = None,
        file: str | Path | None = None,
    ) -> Results:  # fmt: skip
        """Empty results, or those that an interrupted run of the same kind left in the file.

        Raises:
            InvalidValue: the file holds the results of another run.
            StorageError: the file holds something else.
        """
        made = cls(benchmark, who, seed, [], None if file is None else Path(file))
        head = made.head
        if made.file is None or not made.file.exists():
            return made
        if made.file.stat().st_size > LARGEST:
            raise StorageError(f"{file}: must be at most {LARGEST >> 20} MB; choose another file.")
        found = read_json(made.file)
        if {name: found.get(name) for name in head} != head or not isinstance(found.get("rows"), list):
            raise InvalidValue(
                f"results: {file} must be of the same benchmark, model, pipeline and seed to be gone on with; it is "
                "not; choose another file."
            )
        made.rows = [row for row in found["rows"] if isinstance(row, dict)]
        if limit is not None:
            wanted = {sample.id for sample in benchmark.samples(seed=seed, limit=limit)}
            made.rows = [row for row in made.rows if row.get("id") in wanted]
        return made

    @property
    def head(self) -> dict[str, Any]:
        """What must be the same for results to belong together."""
        head = {"schema": SCHEMA, "benchmark": self.benchmark.to_dict(), "who": dict(self.who), "seed": self.seed}
        found: dict[str, Any] = json.loads(json.dumps(head))
        return found

    @property
    def axes(self) -> tuple[str, ...]:
        """Facts along which results are shown."""
        return self.benchmark.axes

    @property
    def name(self) -> str:
        """Who answered, in a few words."""
        methods = self.who.get("pipeline")
        return " | ".join(methods) or "dense" if methods is not None else str(self.who.get("answers", ""))

    def holds(self, sample: str) -> bool:
        """Whether a task was answered already."""
        return any(row["id"] == sample for row in self.rows)

    def add(self, sample: Sample, said: str, scores: Numbers) -> None:
        """Enter an answer and write everything down, whole or not at all."""
        self.rows.append(
            {
                "id": sample.id, "facts": dict(sample.facts), "answers": list(sample.answers), "said": said,
                "scores": scores,
            }
        )  # fmt: skip
        if self.file is not None:
            write_text(self.file, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the head, the mean scores, numbers of the whole run and all rows."""
        return self.head | {"summary": self.summary(), "total": self.benchmark.total(self), "rows": self.rows}

    def summary(self) -> dict[str, dict[str, Any]]:
        """Of every score its mean, the ends that hold it with 95 % confidence, and how many tasks have it."""
        names = dict.fromkeys(name for row in self.rows for name in row["scores"])
        found = {}
        for name in names:
            values = torch.tensor([row["scores"][name] for row in self.rows if name in row["scores"]])
            low, high = intervals.of_mean(values)
            found[name] = {"mean": values.mean().item(), "interval": [low, high], "tasks": len(values)}
        return found

    def mean(self, score: str = "right", **facts: Any) -> float:
        """The mean of a score over the tasks with these facts; NaN of none."""
        return _mean([r["scores"][score] for r in self._with(facts) if score in r["scores"]])

    def values(self, fact: str) -> list[Any]:
        """The values of a fact that occur, in order."""
        return sorted({row["facts"][fact] for row in self.rows if fact in row["facts"]})

    def effective_length(self, threshold: float = 0.75, *, score: str = "right", **facts: Any) -> float:
        """The longest text, in characters, up to which the accuracy stays at the threshold or above.

        Between two measured lengths accuracy is taken to change evenly with the logarithm of the length. 0 where the
        shortest text is below the threshold already; the longest measured one where none is.
        """
        lengths = self.values("characters")
        points = [(float(n), self.mean(score, characters=n, **facts)) for n in lengths]
        return contour([(n, a) for n, a in points if a == a], threshold)

    def plot(self, file: str | Path, *, score: str = "right") -> None:
        """Draw accuracy along the first two axes as a map, with the contour of 75 %, to a .png or .svg file."""
        from tokenry.measure.reporting.pictures import accuracy

        accuracy({self.name: self}, Path(file), score)

    def _with(self, facts: Mapping[str, Any]) -> list[Row]:
        return [row for row in self.rows if all(row["facts"].get(n) == v for n, v in facts.items())]


def contour(points: Sequence[tuple[float, float]], threshold: float) -> float:
    """Where a curve first falls below a threshold, given at rising lengths and straight over their logarithm."""
    reached = 0.0
    for (near, above), (far, below) in pairwise(points):
        if above < threshold:
            return reached
        if below < threshold:
            share = (above - threshold) / (above - below)
            return float(near * (far / near) ** share)
        reached = far
    if points and points[0][1] >= threshold:
        return max(reached, points[0][0])
    return 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
