"""Train a small model of learned layers on a task: `python -m tokenry.attend.layers.training TASK OUT`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from tokenry.attend.layers import vision_model
from tokenry.attend.layers.language_model import LayerModel
from tokenry.attend.layers.vision_model import VisionModel
from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.data.tasks.asked import Task
from tokenry.data.tasks.bigram_backcopy import BackcopyRows
from tokenry.data.tasks.passages import Passages
from tokenry.data.tasks.recall import AssociativeRecall, FarRetrieval
from tokenry.data.tasks.shapes import SHAPES, Shapes

MODEL = "model"
TEST_SEED = (1 << 63) - 1
"""Rows that are measured come from this seed, which no step uses."""
TASKS: Mapping[str, type[Task]] = {
    "recall": AssociativeRecall, "retrieval": FarRetrieval, "backcopy": BackcopyRows, "passages": Passages,
}  # fmt: skip


def train(
    model: LayerModel,
    task: Task,
    steps: int,
    folder: Path | None = None,
    how: Schooling | None = None,
    *,
    extra: Callable[[LayerModel], Tensor] | None = None,
    tell: Callable[[int], None] | None = None,
) -> tuple[LayerModel, list[Entry]]:
    """Train a built model up to a number of steps, from where the folder's last checkpoint ends.

    Args:
        extra: what is added to the loss of a step after its forward, such as the price of what a layer keeps.

    Raises:
        InvalidValue: rows that are no longer than a block of a layer.

    Returns:
        The model, and the log: at every entry the step, and the loss and the share of right answers on 64 rows that no
        step learns from.
    """
    how = how or Schooling(rate=1e-3, rise=50, clip=1.0)
    length = task.sample(1, torch.Generator().manual_seed(how.seed)).ids.shape[1]
    for layer in model.layers:
        if length < layer.least:
            raise InvalidValue(
                f"train: rows must have at least {layer.least} ids, below which {layer.name()} learns no blocks; "
                f"got {length}; take longer rows or smaller blocks."
            )

    def loss(model: LayerModel, generator: torch.Generator) -> Tensor:
        rows = task.sample(how.batch, generator)
        value = rows.loss(model(rows.ids))
        return value if extra is None else value + extra(model)

    return school(
        model, steps, loss, how, measure=lambda model: measured(model, task), folder=folder, called=MODEL,
        settings={"task": f"{task}", "extra": getattr(extra, "__name__", None)}, tell=tell,
    )  # fmt: skip


@torch.no_grad()
def measured(model: LayerModel, task: Task, rows: int = 64) -> Entry:
    """The loss and the share of right answers on rows that no step learns from."""
    drawn = task.sample(rows, torch.Generator().manual_seed(TEST_SEED))
    logits = model(drawn.ids)
    return {"loss": float(drawn.loss(logits)), "right": drawn.right(logits)}


def made_task(given: str) -> Task:
    """A task from its one-line form, such as `recall:pairs=16,length=128`.

    Raises:
        InvalidValue: an unknown task or setting.
    """
    name, _, settings = given.partition(":")
    kind = TASKS.get(name)
    if kind is None:
        raise InvalidValue(f"train: task must be one of {', '.join(TASKS)}; got {name!r}.")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in known or not value.isdecimal():
            raise InvalidValue(f"train: settings of {name} must be whole numbers of {', '.join(known)}; got {setting}.")
        values[key] = int(value)
    return kind(**values)


def main() -> None:
    """Train, and print the last entry of the log as JSON."""
    options = argparse.ArgumentParser(prog="python -m tokenry.attend.layers.training", description=__doc__)
    options.add_argument(
        "task",
        help="recall, retrieval, backcopy or passages, as in recall:pairs=16,length=128; or shapes, for pictures",
    )
    options.add_argument("out", type=Path, help="folder of the model and its checkpoint")
    options.add_argument("--layer", action="append", help="a layer in its one-line form; again for the one above")
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--rate", type=float, default=1e-3)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    try:
        how = Schooling(rate=given.rate, rise=50, clip=1.0, batch=given.batch, seed=given.seed)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            shown = bar.add_task("train", total=given.steps)
            log = _trained(given, how, lambda step: bar.update(shown, completed=step))
    except (TokenryError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")
    sys.stdout.write(json.dumps(log[-1]) + "\n")


def _trained(given: argparse.Namespace, how: Schooling, tell: Callable[[int], None]) -> list[Entry]:
    """The log of what a command asks for."""
    generator = torch.Generator().manual_seed(given.seed)
    if given.task == "shapes":
        seen = VisionModel(stages=tuple(given.layer or ("softmax_free:ratio=4", "softmax_free:ratio=2")))
        seen.build(classes=len(SHAPES), width=given.width, generator=generator)
        return vision_model.train(seen, Shapes(), given.steps, given.out, how, tell=tell)[1]
    task = made_task(given.task)
    model = LayerModel(layers=tuple(given.layer or ("softplus", "softplus")))
    model.build(vocabulary=task.size, width=given.width, generator=generator)
    return train(model, task, given.steps, given.out, how, tell=tell)[1]


if __name__ == "__main__":
    main()
