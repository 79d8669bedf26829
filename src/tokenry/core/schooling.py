"""Train something learned on rows that depend on the number of the step alone, with checkpoints to go on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.learned import Learned
from tokenry.core.saving import read_json, whole_folder
from tokenry.core.seeds import mixed

Entry = dict[str, Any]
"""One line of a log."""
Pupil = TypeVar("Pupil", bound=Learned)

STATE, LOG = "optimizer.safetensors", "training.json"


@dataclass(frozen=True, kw_only=True)
class Schooling:
    """How something is trained.

    Args:
        optimizer: `adam` (AdamW, betas 0.9 and `memory`) or `sgd` (momentum 0.9).
        rate: learning rate.
        decay: weight decay.
        memory: second beta of AdamW.
        rise: steps over which the rate rises from zero; then it stays the same.
        fall: steps at the end over which the rate falls back to zero; then the number of all steps matters as well.
        clip: largest norm of the gradient; 0 for none.
        batch: rows of a step.
        seed: of the first weights and of all rows.
        every: steps between two entries of the log, each with a checkpoint.
    """

    optimizer: str = "adam"
    rate: float = 3e-3
    decay: float = 1e-4
    memory: float = 0.99
    rise: int = 0
    fall: int = 0
    clip: float = 0.0
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
        if not 0 <= self.memory < 1:
            raise InvalidValue(f"train: memory must be in [0, 1); got {self.memory}.")
        for name in ("decay", "rise", "fall", "clip"):
            if not getattr(self, name) >= 0:
                raise InvalidValue(f"train: {name} must be at least 0; got {getattr(self, name)}.")

    def pace(self, step: int, steps: int) -> float:
        """The rate of a step, of which there are `steps`."""
        rising = (step + 1) / max(1, self.rise)
        falling = (steps - step) / self.fall if self.fall else 1.0
        return self.rate * min(1.0, rising, falling)

    def draws(self, step: int) -> torch.Generator:
        """What the rows of a step are drawn from."""
        return torch.Generator().manual_seed(mixed(self.seed << 32 | step))


_OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": lambda p, how: torch.optim.AdamW(p, lr=how.rate, betas=(0.9, how.memory), weight_decay=how.decay),
    "sgd": lambda p, how: torch.optim.SGD(p, lr=how.rate, momentum=0.9, weight_decay=how.decay),
}


def school(
    pupil: Pupil,
    steps: int,
    loss: Callable[[Pupil, torch.Generator], Tensor],
    how: Schooling,
    *,
    measure: Callable[[Pupil], Entry],
    folder: Path | None = None,
    called: str = "pupil",
    settings: Mapping[str, Any] | None = None,
    tell: Callable[[int], None] | None = None,
) -> tuple[Pupil, list[Entry]]:
    """Train up to a number of steps, from where the folder's last checkpoint ends.

    A run that was interrupted gives the same parameters as one that was not.

    Args:
        pupil: what learns; built, and not trained.
        loss: of one step; all that is random comes from the generator.
        measure: what an entry of the log says beside the step.
        folder: where checkpoints are kept, whole or not at all; none are where it is not given.
        called: the folder of the pupil within that one.
        settings: what decides the result beside `how` and the pupil's fields.
        tell: called with the number of every step that is done.

    Raises:
        InvalidValue: fewer than no steps.
        StorageError: a checkpoint that is damaged or was trained in another way.
    """
    if steps < 0:
        raise InvalidValue(f"train: steps must be at least 0; got {steps}.")
    made = {"how": asdict(how), called: pupil.to_dict(), **(settings or {})}
    if folder is not None and (folder / LOG).exists():
        pupil, log = _resume(folder, made, pupil, called)
    else:
        log = [{"step": 0} | measure(pupil.eval())]
    learning = [p for p in pupil.parameters() if p.requires_grad]
    optimizer = _OPTIMIZERS[how.optimizer](_groups(pupil), how)
    if log[-1]["step"]:
        assert folder is not None
        _fill(optimizer, folder / STATE)
    with torch.enable_grad():
        for step in range(log[-1]["step"], steps):
            for group in optimizer.param_groups:
                group["lr"] = how.pace(step, steps) * group["times"]
            pupil.train()
            optimizer.zero_grad()
            with torch.random.fork_rng(devices=[]):
                # What a pupil draws by itself depends on the step as well.
                torch.manual_seed(mixed(how.seed << 32 | step))
                loss(pupil, how.draws(step)).backward()
            if how.clip:
                torch.nn.utils.clip_grad_norm_(learning, how.clip)
            optimizer.step()
            if (step + 1) % how.every == 0 or step + 1 == steps:
                log.append({"step": step + 1} | measure(pupil.eval()))
                if folder is not None:
                    _keep(folder, made, pupil, optimizer, log, called)
            if tell is not None:
                tell(step + 1)
    return pupil.eval(), log


def _groups(pupil: Learned) -> list[dict[str, Any]]:
    """What learns, by how many times as fast."""
    found: dict[float, list[Tensor]] = {}
    for name, p in pupil.named_parameters():
        if p.requires_grad:
            found.setdefault(pupil.rate_of(name), []).append(p)
    return [{"params": params, "times": times} for times, params in found.items()]


def _keep(
    folder: Path, made: Mapping[str, Any], pupil: Learned, optimizer: torch.optim.Optimizer, log: list[Entry],
    called: str,
) -> None:  # fmt: skip
    state = optimizer.state_dict()["state"]
    with whole_folder(folder) as draft:
        pupil.save(draft / called)
        save_file(
            {f"{i}.{key}": v.contiguous() for i, values in state.items() for key, v in values.items() if v is not None},
            draft / STATE,
        )
        (draft / LOG).write_text(json.dumps({**made, "log": log}, indent=1) + "\n", encoding="utf-8")


def _resume(folder: Path, made: dict[str, Any], fresh: Pupil, called: str) -> tuple[Pupil, list[Entry]]:
    found = read_json(folder / LOG)
    if {key: found.get(key) for key in made} != json.loads(json.dumps(made)):
        raise StorageError(f"{folder}: must hold a {called} that is trained in the same way; choose another folder.")
    pupil, log = type(fresh).load(folder / called), found.get("log")
    if not isinstance(log, list) or not log or not all(isinstance(e, dict) and type(e.get("step")) is int for e in log):
        raise StorageError(f"{folder / LOG}: must hold the log of a training; got none.")
    for p, before in zip(pupil.parameters(), fresh.parameters(), strict=True):
        p.requires_grad_(before.requires_grad)
    return pupil, log


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
