"""Train a toy on Bigram-Backcopy: `python -m tokenry.probe.bigram.training TEXT OUT`, again to go on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue, StorageError, TokenryError
from tokenry.core.saving import read_json, whole_folder
from tokenry.core.tokens import TokenBatch
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.probe.active_dormant import ActiveDormant
from tokenry.probe.bigram.backcopy import BigramBackcopy
from tokenry.probe.bigram.toy import BigramToy
from tokenry.probe.views.weights import read_by

Entry = dict[str, Any]
"""One line of a log."""

TOY, STATE, LOG = "toy", "optimizer.safetensors", "training.json"
TEST_SEED = (1 << 63) - 1
"""Rows that are measured come from this seed, which no step uses."""


@dataclass(frozen=True, kw_only=True)
class Schooling:
    """How a toy is trained.

    Args:
        optimizer: `adam` (AdamW with betas 0.9 and 0.99) or `sgd` (momentum 0.9); weight decay is 1e-4 in both.
        rate: learning rate, which stays the same.
        batch: rows of a step.
        seed: of the first weights and of all rows.
        every: steps between two entries of the log, each with a checkpoint.
    """

    optimizer: str = "adam"
    rate: float = 3e-3
    batch: int = 32
    seed: int = 0
    every: int = 100

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise InvalidValue(f"train: optimizer must be one of {', '.join(_OPTIMIZERS)}; got {self.optimizer!r}.")
        if not 0 <= self.seed < 1 << 31:
            raise InvalidValue(f"train: seed must be in [0, 2^31); got {self.seed}.")
        for name in ("rate", "batch", "every"):
            if not getattr(self, name) > 0:
                raise InvalidValue(f"train: {name} must be above 0; got {getattr(self, name)}.")


_OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": lambda p, rate: torch.optim.AdamW(p, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4),
    "sgd": lambda p, rate: torch.optim.SGD(p, lr=rate, momentum=0.9, weight_decay=1e-4),
}


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
        StorageError: a checkpoint that is damaged or was trained in another way.
    """
    how = how or Schooling()
    toy = BigramToy.of(data, seed=how.seed, **settings)
    made = {"how": asdict(how), "toy": toy.to_dict()}
    if folder is not None and (folder / LOG).exists():
        toy, log = _resume(folder, made, toy)
    else:
        log = [{"step": 0} | measured(toy)]
    optimizer = _OPTIMIZERS[how.optimizer](list(toy.model.parameters()), how.rate)
    if log[-1]["step"]:
        assert folder is not None
        _fill(optimizer, folder / STATE)
    with torch.enable_grad():
        for step in range(log[-1]["step"], steps):
            _learn(toy, optimizer, how, step)
            if (step + 1) % how.every == 0 or step + 1 == steps:
                log.append({"step": step + 1} | measured(toy))
                if folder is not None:
                    _keep(folder, made, toy, optimizer, log)
            if tell is not None:
                tell(step + 1)
    return toy, log


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


def _learn(toy: BigramToy, optimizer: torch.optim.Optimizer, how: Schooling, step: int) -> None:
    generator = torch.Generator().manual_seed(how.seed << 32 | step)
    ids = toy.data.sample(how.batch, toy.length, generator)
    with ModelAdapter.of(toy.model).attached_to(lambda _: lambda site: read_by(toy.weigh, site)):
        logits = toy.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    optimizer.zero_grad()
    cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    optimizer.step()


def _keep(
    folder: Path, made: dict[str, Any], toy: BigramToy, optimizer: torch.optim.Optimizer, log: list[Entry]
) -> None:
    state = optimizer.state_dict()["state"]
    with whole_folder(folder) as draft:
        toy.save(draft / TOY)
        save_file(
            {f"{i}.{key}": v.contiguous() for i, values in state.items() for key, v in values.items() if v is not None},
            draft / STATE,
        )
        (draft / LOG).write_text(json.dumps(made | {"log": log}, indent=1) + "\n", encoding="utf-8")


def _resume(folder: Path, made: dict[str, Any], fresh: BigramToy) -> tuple[BigramToy, list[Entry]]:
    found = read_json(folder / LOG)
    if {key: found.get(key) for key in made} != json.loads(json.dumps(made)):
        raise StorageError(f"{folder}: must hold a toy that is trained in the same way; choose another folder.")
    toy, log = BigramToy.load(folder / TOY), found.get("log")
    if not isinstance(log, list) or not log or not all(isinstance(e, dict) and type(e.get("step")) is int for e in log):
        raise StorageError(f"{folder / LOG}: must hold the log of a training; got none.")
    if not torch.equal(toy.bigram, fresh.bigram):
        raise StorageError(f"{folder}: must hold a toy of the same text; choose another folder.")
    return toy, log


def _fill(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Take the state of an optimizer from a file."""
    whole = optimizer.state_dict()
    try:
        for name, value in load_file(file).items():
            i, _, key = name.partition(".")
            whole["state"].setdefault(int(i), {})[key] = value
        optimizer.load_state_dict(whole)
        for parameter, state in optimizer.state.items():
            if any(v.dim() and v.shape != parameter.shape for v in state.values()):
                raise ValueError("it is of parameters of other shapes")
    except (OSError, SafetensorError, ValueError) as error:
        raise StorageError(f"{file}: must hold the state of the optimizer; {error}; choose another folder.") from error


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
