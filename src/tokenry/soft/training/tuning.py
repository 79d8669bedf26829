"""Learn soft tokens from examples, with the model as it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.models.attention.rest import at_rest
from tokenry.models.files.load import LanguageModel
from tokenry.soft.base import SoftTokens
from tokenry.soft.training.answer_loss import evaluate, loss
from tokenry.soft.training.checkpoint import Checkpoint
from tokenry.soft.training.examples import Example, Lesson, fingerprint, lessons


@dataclass(slots=True)
class Course:
    """How learning went.

    Args:
        losses: of each step, in nats a token of the answers, before the step.
        held_out: steps done and the loss of the examples that are not learned from.
        best: after how many steps the parameters were taken.
        seconds: without those of earlier processes.
    """

    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    best: int = 0
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.losses)


def tune(
    method: SoftTokens,
    language: LanguageModel,
    examples: Sequence[Example],
    *,
    held_out: Sequence[Example] = (),
    steps: int = 100,
    batch: int = 8,
    rate: float | None = None,
    seed: int = 0,
    system: str | None = None,
    every: int = 10,
    marks: bool = False,
    checkpoint: str | Path | None = None,
    tell: Callable[[Course], None] | None = None,
) -> Course:
    """Learn the parameters of `method`, which must have begun with `start`, by Adam; the model stays as it is.

    The loss is the cross-entropy of the answers' tokens and of the end mark. The same arguments give the same
    parameters on one machine, also when the process was killed in between and goes on from its checkpoint.

    Args:
        held_out: examples that are not learned from. The parameters with the lowest loss on them are taken, those of
            the beginning among them; without any, the last ones are.
        steps: steps in all, those of a checkpoint included.
        batch: examples of a step; at least all of them are seen before one comes again.
        rate: Adam's learning rate, which stays as it is; the method's own where None.
        seed: of the order of the examples.
        system: what stands before the user's text in a chat template.
        every: steps between two looks at the held-out examples, and between two checkpoints.
        marks: the spelling of a mark in the examples, such as `<tool_call>`, is that mark; else it is text.
        checkpoint: file from which an interrupted training goes on; it stays until you delete it.
        tell: called after every step.

    Raises:
        InvalidValue: no example, an example that cannot be learned, or a loss that is no number.
        Incompatible: parameters of another model.
        StorageError: a checkpoint that is damaged or of another training.
    """
    for name, value in (("steps", steps), ("batch", batch), ("every", every)):
        if value < 1:
            raise InvalidValue(f"tune: {name} must be at least 1; got {value}.")
    rate = method.rate if rate is None else rate
    if not 0 < rate < math.inf:
        raise InvalidValue(f"tune: rate must be a number above 0; got {rate}.")
    method.check(language)
    learn = lessons(language, examples, system, marks=marks)
    judge = lessons(language, held_out, system, marks=marks) if held_out else []
    leaves = [p for p in method.parameters() if p.requires_grad]
    facts = {
        "method": method.to_dict(), "begin": method.digest(), "examples": fingerprint(examples),
        "held_out": fingerprint(held_out), "batch": batch, "rate": rate, "seed": seed, "system": system, "every": every,
        "marks": marks,
    }  # fmt: skip
    training = _Training(method, language, learn, judge, batch, torch.optim.Adam(leaves, lr=rate))
    kept = Checkpoint(checkpoint, facts)
    with at_rest(language.model), torch.enable_grad():
        if (found := kept.read(method, training.optimizer)) is not None:
            training.best, training.course = found[0], Course(**found[1])
        else:
            training.look()
        course, started = training.course, time.perf_counter()
        for rows in _order(len(learn), batch, seed, course.steps, steps):
            training.step(rows)
            course.seconds = time.perf_counter() - started
            if course.steps % every == 0 or course.steps == steps:
                training.look()
                kept.write(method, training.optimizer, training.best, course)
            if tell is not None:
                tell(course)
    method.load_state_dict(training.best)
    return course


class _Training:
    """A method while it learns."""

    def __init__(
        self, method: SoftTokens, language: LanguageModel, learn: list[Lesson], judge: list[Lesson], batch: int,
        optimizer: torch.optim.Adam,
    ) -> None:  # fmt: skip
        self.method, self.language, self.optimizer = method, language, optimizer
        self.learn, self.judge, self.batch = learn, judge, batch
        self.course, self.best = Course(), _copy(method)

    def step(self, rows: list[int]) -> None:
        """One step of Adam on some of the examples."""
        self.optimizer.zero_grad()
        value = loss(self.method, self.language, [self.learn[i] for i in rows])
        if not bool(torch.isfinite(value)):
            raise InvalidValue(
                f"tune: the loss must stay a number; got {float(value)} at step {self.course.steps + 1}; take a lower "
                "rate."
            )
        value.backward()
        self.optimizer.step()
        self.course.losses.append(float(value.detach()))

    def look(self) -> None:
        """Take the parameters of now where they are the best, which without held-out examples they always are."""
        course = self.course
        if self.judge:
            value = evaluate(self.method, self.language, self.judge, self.batch)
            worse = any(value >= before for _, before in course.held_out)
            course.held_out.append((course.steps, value))
            if worse:
                return
        self.best, course.best = _copy(self.method), course.steps


def _order(examples: int, batch: int, seed: int, done: int, steps: int) -> Iterator[list[int]]:
    """The examples of each step after `done`: whole rounds in ever new order, cut into batches."""
    rounds: dict[int, list[int]] = {}
    for step in range(done, steps):
        places = range(step * batch, (step + 1) * batch)
        for i in {place // examples for place in places} - rounds.keys():
            generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
            rounds[i] = torch.randperm(examples, generator=generator).tolist()
        yield [rounds[place // examples][place % examples] for place in places]


def _copy(method: SoftTokens) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in method.state_dict().items()}
