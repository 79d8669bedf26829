"""A small training loop: any objective, LoRA or all weights, the same result after any interruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import nn

from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, natural, positive, settle
from tokenry.learn.base import Batch, Loss, Objective, Watch
from tokenry.learn.training.checkpoint import Checkpoint
from tokenry.learn.training.examples import Example, batches
from tokenry.learn.training.lora import adapted
from tokenry.models.files.load import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int = positive(1, doc="times that all examples are read")
    batch: int = positive(16, doc="examples of an optimiser step")
    rows: int = positive(4, doc="examples that are read at once; the result does not depend on it")
    rate: float = between(0.0, 1.0, default=1e-4, doc="highest learning rate; it falls to zero in a straight line")
    rise: float = between(0.0, 1.0, default=0.03, doc="share of the steps over which the rate rises")
    rank: int = natural(16, doc="of the LoRA matrices, which need peft; 0 to tune all weights that ask for gradients")
    clip: float = between(0.0, 1e6, default=1.0, doc="largest norm of the gradient")
    seed: int = natural(0, doc="of LoRA's first weights, the order of the examples and dropout")

    def __post_init__(self) -> None:
        settle(self)

    def steps(self, examples: int) -> int:
        """Optimiser steps over so many examples."""
        return self.epochs * -(-examples // self.batch)

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step."""
        rising = max(1.0, self.rise * steps)
        return self.rate * min((step + 1) / rising, (steps - step) / max(1.0, steps - rising + 1))


@dataclass(slots=True)
class Fitted:
    """What came out of a training.

    Args:
        language: the tuned model; with LoRA, PEFT's wrapper, which has `save_pretrained` and `merge_and_unload`.
        losses: the objective's value at each step, in nats.
        learned: what learned beside the model and is no part of it, such as heads.
    """

    language: LanguageModel
    losses: list[float] = field(default_factory=list)
    learned: nn.Module | None = None


def fit(
    objective: Objective,
    language: LanguageModel,
    examples: Sequence[Example],
    *,
    schedule: Schedule | None = None,
    folder: str | Path | None = None,
    save_every: int = 50,
    progress: bool = True,
    told: Callable[[Batch, Loss], None] | None = None,
) -> Fitted:
    """Tune a model with an objective: all weights in place, or LoRA matrices that it carries from then on.

    `fitted.language.model.unload()` takes the matrices off again, `merge_and_unload()` adds them to the weights.

    Args:
        examples: what to learn from.
        folder: where the state of the training is kept. Started again with the same arguments after an interruption,
            it goes on from there, with the same result as without one.
        save_every: steps after which the state is written.
        progress: show a bar on standard error.
        told: called with every batch and its loss, for example to see which tokens count.

    Raises:
        InvalidValue: no examples, nothing to train, or peft is missing.
        StorageError: the folder holds another training, is damaged or cannot be written.
    """
    schedule = schedule or Schedule()
    if not examples:
        raise InvalidValue("fit: examples must hold at least one; got none.")
    if save_every < 1:
        raise InvalidValue(f"fit: save_every must be at least 1 step; got {save_every}.")
    losses: list[float] = []
    with _own_randomness(), torch.enable_grad(), ExitStack() as stack:
        torch.manual_seed(schedule.seed)
        if schedule.rank:
            language = replace(language, model=stack.enter_context(adapted(language.model, schedule.rank)))
        settings = _settings(objective, language, schedule, examples)
        checkpoint = None if folder is None else Checkpoint(Path(folder), settings)
        stack.enter_context(_training(language.model))
        watch = stack.enter_context(objective(language.model))
        weights = _weights(language.model, objective, watch)
        optimizer = torch.optim.AdamW(weights.values(), lr=schedule.rate, weight_decay=0.0)
        if checkpoint is not None:
            losses = checkpoint.load(weights, optimizer, watch)
        if not losses:
            watch.prepare(batches(examples, schedule.rows, language.device))
        loop = _Loop(objective, language, examples, schedule, weights, optimizer, watch)
        tell = stack.enter_context(_bar(loop.steps, len(losses), progress))
        for step in range(len(losses), loop.steps):
            losses.append(loop.step(step, told))
            tell(losses[-1])
            if checkpoint is not None and ((step + 1) % save_every == 0 or step + 1 == loop.steps):
                checkpoint.save(weights, optimizer, watch, losses)
    return Fitted(language, losses, watch.learned)


@dataclass(slots=True)
class _Loop:
    objective: Objective
    language: LanguageModel
    examples: Sequence[Example]
    schedule: Schedule
    weights: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    watch: Watch
    steps: int = 0

    def __post_init__(self) -> None:
        self.steps = self.schedule.steps(len(self.examples))

    def step(self, step: int, told: Callable[[Batch, Loss], None] | None) -> float:
        """One optimiser step, whose batch is read in parts."""
        chosen = self._examples(step)
        torch.manual_seed(self.schedule.seed * 1_000_003 + step)
        self.watch.done = step / self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(step, self.steps)
        parts = list(batches(chosen, self.schedule.rows, self.language.device))
        of: Counter[str] = sum(map(self.objective.count, parts), Counter())
        total = 0.0
        for batch in parts:
            loss = self.watch.loss(self.language.model(**self.watch.inputs(batch)), batch, of)
            loss.value.backward()
            total += loss.value.item()
            if told is not None:
                told(batch, loss)
        nn.utils.clip_grad_norm_(list(self.weights.values()), self.schedule.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.watch.stepped()
        return total

    def _examples(self, step: int) -> list[Example]:
        """The examples of a step, each once in an epoch."""
        each = -(-len(self.examples) // self.schedule.batch)
        generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + step // each)
        order = torch.randperm(len(self.examples), generator=generator)
        low = step % each * self.schedule.batch
        return [self.examples[i] for i in order[low : low + self.schedule.batch].tolist()]


def _weights(model: nn.Module, objective: Objective, watch: Watch) -> dict[str, nn.Parameter]:
    """Everything that learns: the model's weights, those of an objective that has some, and what learns beside."""
    owners: dict[str, Any] = {"model": model, "objective": objective, "beside": watch.learned}
    found = {
        f"{owner}.{name}": p
        for owner, module in owners.items()
        if isinstance(module, nn.Module)
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    if not found:
        raise InvalidValue("fit: some weights must ask for gradients; none do; use rank above 0, or unfreeze some.")
    return found


def _settings(
    objective: Objective, language: LanguageModel, schedule: Schedule, examples: Sequence[Example]
) -> dict[str, Any]:
    """What decides the result, to recognise the training by."""
    seen = blake2b(digest_size=16)
    for example in examples:
        seen.update(torch.stack((example.ids, example.labels)).cpu().to(torch.int64).numpy().tobytes())
    given = asdict(schedule)
    # How many rows are read at once decides nothing but memory.
    del given["rows"]
    return {"objective": objective.to_dict(), "model": language.name, "schedule": given, "examples": seen.hexdigest()}


@contextmanager
def _own_randomness() -> Iterator[None]:
    """The global random state, also that of accelerators, is as before when the block is left."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """The model trains, with dropout where it has some; each module is as before when the block is left."""
    before = {m: m.training for m in model.modules()}
    model.train()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def _bar(steps: int, done: int, shown: bool) -> Iterator[Any]:
    from rich.console import Console

    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task("learn", total=steps, completed=done)
        yield lambda loss: bar.update(task, advance=1, description=f"loss {loss:.3f}")
