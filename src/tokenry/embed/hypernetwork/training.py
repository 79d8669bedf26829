"""Train a hypernetwork: first to give the rows that there are, then to make a frozen model predict text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import log
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tokenry.core.errors import InvalidValue
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.core.seeds import mixed
from tokenry.embed.hypernetwork.network import Hypernetwork
from tokenry.embed.hypernetwork.sampling import Sampling
from tokenry.embed.hypernetwork.teacher import Teacher
from tokenry.models.files.load import LanguageModel

MEASURED = (1 << 32) - 1
"""The step whose draws are measured on; no training comes that far."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a hypernetwork is trained.

    Args:
        first: steps in which it learns the rows that there are.
        first_rows: rows of such a step.
        first_rate: their learning rate.
        steps: steps in which the model reads text over drawn vocabularies.
        rows: texts of such a step.
        tokens: tokens of each text.
        rate: their learning rate; over the second half it falls to zero.
        negatives: pieces that no text of the step holds, but that compete in every prediction.
        auxiliary: weight of the distance from rows that there are.
        clip: largest norm of a gradient.
        seed: of everything that is drawn.
        every: steps between two entries of the log, each with a checkpoint.
    """

    first: int = 0
    first_rows: int = 2048
    first_rate: float = 3e-4
    steps: int = 1000
    rows: int = 8
    tokens: int = 128
    rate: float = 5e-4
    negatives: int = 1024
    auxiliary: float = 0.5
    clip: float = 1.0
    seed: int = 0
    every: int = 50

    def __post_init__(self) -> None:
        for name in ("first_rows", "rows", "every"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"hypernetwork: {name} must be at least 1; got {getattr(self, name)}.")
        if self.tokens < 2:
            raise InvalidValue(f"hypernetwork: tokens must be at least 2; got {self.tokens}.")
        for name in ("first", "steps", "negatives", "auxiliary", "clip"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"hypernetwork: {name} must be at least 0; got {getattr(self, name)}.")

    @classmethod
    def of_the_paper(cls) -> Course:
        """The paper's numbers, which are days on many accelerators."""
        return cls(first=10_000, first_rows=16_384, steps=200_000, rows=128, rate=6e-5, clip=0.1)

    def schooling(self, steps: int, rate: float) -> Schooling:
        """How one stage is trained."""
        rise = min(steps // 10, 20_000)
        return Schooling(
            rate=rate, decay=0.01, memory=0.95, rise=rise, fall=steps // 2, clip=self.clip, batch=self.rows,
            seed=self.seed, every=self.every,
        )  # fmt: skip


def train(
    language: LanguageModel,
    texts: Sequence[str],
    course: Course | None = None,
    *,
    network: Hypernetwork | None = None,
    sampling: Sampling | None = None,
    folder: Path | None = None,
    tell: Tell | None = None,
) -> tuple[Hypernetwork, list[Entry]]:
    """Train a hypernetwork for a model, which stays as it is.

    Args:
        texts: what the model predicts; of 16 parts one is left out, to measure on, and so is what repeats it.
        network: one that is not built, or one to go on from; the default one if none is given.
        folder: where checkpoints are kept; an interrupted training goes on from the last one.
        tell: called with the stage, the number of steps that are done, and that of all.

    Returns:
        The hypernetwork and the log of both stages.
    """
    course, sampling = course or Course(), sampling or Sampling()
    teacher = Teacher(language, texts, sampling)
    pupil = network or Hypernetwork()
    if not pupil.built:
        pupil.build(generator=torch.Generator().manual_seed(course.seed), **Hypernetwork.sizes(teacher.donor))
        pupil.fit_scales(teacher.donor)
    log: list[Entry] = []
    made = {
        "course": asdict(course), "sampling": asdict(sampling), "start": pupil.digest(),
        "vocabulary": teacher.donor.vocabulary.fingerprint, "texts": teacher.fingerprint,
    }  # fmt: skip
    stages: list[tuple[str, int, float, Callable[[Hypernetwork, torch.Generator], Tensor]]] = [
        ("first", course.first, course.first_rate, lambda p, chance: identity(teacher, course, p, chance)),
        ("second", course.steps, course.rate, lambda p, chance: reading(teacher, course, p, chance)),
    ]
    with teacher.frozen():
        for stage, steps, rate, loss in stages:
            if not steps:
                continue
            pupil, entries = school(
                pupil, steps, loss, course.schooling(steps, rate),
                measure=lambda p: measure(teacher, course, p), folder=folder and folder / stage,
                called=Hypernetwork.name(), settings=made | {"stage": stage},
                tell=None if tell is None else partial(_told, tell, f"{stage} stage", steps),
            )  # fmt: skip
            log += [{"stage": stage} | entry for entry in entries]
    return pupil.eval(), log


def _told(tell: Tell, stage: str, steps: int, step: int) -> None:
    tell(stage, step, steps)


def identity(teacher: Teacher, course: Course, pupil: Hypernetwork, chance: torch.Generator) -> Tensor:
    """Squared distance from rows of the old vocabulary, summed over their columns."""
    known = torch.tensor(sorted(teacher.donor.ids.values()))
    chosen = known[torch.randperm(len(known), generator=chance)[: course.first_rows]]
    with torch.autocast("cpu", torch.bfloat16, enabled=teacher.model.dtype == torch.bfloat16):
        made = pupil(teacher.source, chosen[:, None])
    rows = made.input if made.output is None else torch.cat((made.input, made.output), 1)
    return (rows - teacher.source[chosen]).square().sum(1).mean()


def reading(teacher: Teacher, course: Course, pupil: Hypernetwork, chance: torch.Generator) -> Tensor:
    """Nats a token over a drawn vocabulary, and how far rows are from those that there are."""
    lesson = teacher.lesson(course.rows, course.tokens, course.negatives, chance)
    made, known = teacher.made(pupil, lesson)
    return teacher.nats(made, lesson) + course.auxiliary * teacher.distance(made, known)


@torch.no_grad()
def measure(teacher: Teacher, course: Course, pupil: Hypernetwork) -> Entry:
    """Bits per byte of held-out text over one drawn vocabulary, and how near rows are to those that there are."""
    chance = torch.Generator().manual_seed(mixed(course.seed << 32 | MEASURED))
    lesson = teacher.lesson(course.rows, course.tokens, course.negatives, chance, test=True)
    made, known = teacher.made(pupil, lesson)
    here = (known >= 0).nonzero()[:, 0]
    near = cosine_similarity(made.input[here], teacher.donor.input[known[here]].float().cpu()).mean()
    bits = float(teacher.nats(made, lesson)) / log(2) * lesson.ids.numel() / lesson.bytes
    return {"bits_per_byte": round(bits, 4), "cosine": round(float(near), 4)}
