"""Train a toy on Bigram-Backcopy: `python -m tokenry.probe.bigram.training TEXT OUT`, again to go on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.core.errors import TokenryError
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.core.tokens import TokenBatch
from tokenry.data.tasks.bigram_backcopy import BigramBackcopy
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.probe.active_dormant import ActiveDormant
from tokenry.probe.bigram.toy import BigramToy
from tokenry.probe.views.weights import read_by

TOY = "toy"
TEST_SEED = (1 << 63) - 1
"""Rows that are measured come from this seed, which no step uses."""


def train(
    data: BigramBackcopy,
    steps: int,
    folder: Path | None = None,
    how: Schooling | None = None,
    *,
    tell: Callable[[int], None] | None = None,
    **settings: Any,
) -> tuple[BigramToy, list[Entry]]:
    """Train a toy up to a number of steps, from where the folder's last checkpoint ends.

    The rows of a step depend on its number alone: a run that was interrupted gives the same toy. The toy's own
    adapter is used for its attention, so that softmax and ReLU train alike.

    Args:
        folder: where checkpoints are kept, whole or not at all; none are where it is not given.
        how: optimizer, rate, rows and seed.
        tell: called with the number of every step that is done.
        settings: fields of `BigramToy`, such as `layers` and `attention`.

    Returns:
        The toy, and the log: at every entry the step and what `ActiveDormant` saw of 64 rows.

    Raises:
        StorageError: a checkpoint that is damaged, was trained in another way, or on another text.
    """
    how = how or Schooling()
    toy = BigramToy.of(data, seed=how.seed, **settings)
    source = {"text": sha256(data.bigram.numpy().tobytes()).hexdigest()}

    def loss(toy: BigramToy, generator: torch.Generator) -> Tensor:
        return _loss(toy, how.batch, generator)

    return school(toy, steps, loss, how, measure=measured, folder=folder, called=TOY, settings=source, tell=tell)


def measured(toy: BigramToy, rows: int = 64) -> Entry:
    """What `ActiveDormant` sees of rows that no step learns from; lists have an entry for each layer."""
    ids = toy.data.sample(rows, toy.length, torch.Generator().manual_seed(TEST_SEED))
    found = ActiveDormant(ablate=0, skip=min(32, toy.length // 2)).look(toy, TokenBatch.from_ids(ids))
    entry: Entry = {}
    for i, group in enumerate(found.tables["sink"].named("group")):
        entry[f"loss_{group}"] = float(found["loss"][i])
        entry[f"sink_{group}"] = found["sink"][i, :, 0].tolist()
        entry[f"lead_{group}"] = found["lead"][i, :, 0].tolist()
    return entry | {name: found[name][0].flatten().tolist() for name in ("value_ratio", "residual_peak")}


def _loss(toy: BigramToy, rows: int, generator: torch.Generator) -> Tensor:
    ids = toy.data.sample(rows, toy.length, generator)
    with ModelAdapter.of(toy.model).attached_to(lambda _: lambda site: read_by(toy.weigh, site)):
        logits = toy.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def main() -> None:
    """Train, and print the last entry of the log as JSON."""
    options = argparse.ArgumentParser(prog="python -m tokenry.probe.bigram.training", description=__doc__)
    options.add_argument("text", type=Path, help="UTF-8 text whose pairs of characters are counted")
    options.add_argument("out", type=Path, help="folder of the toy and its checkpoint")
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--layers", type=int, default=1)
    options.add_argument("--attention", default="softmax", help="softmax or relu")
    options.add_argument("--optimizer", default="adam", help="adam or sgd")
    options.add_argument("--rate", type=float, default=3e-3)
    options.add_argument("--copy", type=float, default=1.0, help="probability of the copy behind a trigger")
    options.add_argument("--triggers", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    try:
        text = given.text.read_text(encoding="utf-8")
        data = BigramBackcopy.of_text(text, triggers=given.triggers, copy=given.copy)
        how = Schooling(optimizer=given.optimizer, rate=given.rate, seed=given.seed)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("train", total=given.steps)
            _, log = train(
                data, given.steps, given.out, how, layers=given.layers, attention=given.attention,
                tell=lambda step: bar.update(task, completed=step),
            )  # fmt: skip
    except (TokenryError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")
    sys.stdout.write(json.dumps(log[-1]) + "\n")


if __name__ == "__main__":
    main()
