"""A training as one file: what was learned, what the optimizer remembers, and how far it came."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokenry.core.errors import StorageError
from tokenry.core.saving import whole_file
from tokenry.soft.base import SoftTokens

SCHEMA = "tokenry.tuning/0"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Checkpoint:
    """The file of one training, written whole or not at all; nothing in it is executed.

    Args:
        file: where it stands; None keeps nothing.
        facts: what makes it this training and no other.
    """

    def __init__(self, file: str | Path | None, facts: dict[str, Any]) -> None:
        self.file = None if file is None else Path(file)
        self.facts = json.loads(json.dumps(facts))

    def write(self, method: SoftTokens, optimizer: torch.optim.Adam, best: dict[str, Tensor], course: Any) -> None:
        """Keep everything from which the training can go on."""
        if self.file is None:
            return
        tensors = {f"now.{name}": t for name, t in method.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in best.items()}
        for name, p in method.named_parameters():
            tensors |= {f"{moment}.{name}": optimizer.state[p][moment] for moment in _MOMENTS}
        plain = {"schema": SCHEMA, "facts": self.facts, "course": asdict(course)}
        with whole_file(self.file) as draft:
            save_file(
                {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()},
                draft,
                metadata={"tokenry": json.dumps(plain)},
            )

    def read(self, method: SoftTokens, optimizer: torch.optim.Adam) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Bring method and optimizer to where they were; the best parameters so far and the course, None at first.

        Raises:
            StorageError: the file is damaged or of another training.
        """
        if self.file is None or not self.file.exists():
            return None
        plain, tensors = self._load(method)
        device = next(method.parameters()).device
        state = method.state_dict()
        with torch.no_grad():
            for name, t in state.items():
                t.copy_(tensors[f"now.{name}"])
        steps = torch.tensor(float(len(plain["losses"])))
        for name, p in method.named_parameters():
            moments = {moment: tensors[f"{moment}.{name}"].to(device) for moment in _MOMENTS}
            optimizer.state[p] = {"step": steps.clone()} | moments
        plain["held_out"] = [(int(step), float(value)) for step, value in plain["held_out"]]
        return {name: tensors[f"best.{name}"].to(device) for name in state}, plain | {"seconds": 0.0}

    def _load(self, method: SoftTokens) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(self.file, "pt") as content:
                found = json.loads((content.metadata() or {}).get("tokenry", "null"))
                self._check(found)
                wanted = self._wanted(method)
                shapes = {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
                if shapes != wanted:
                    raise StorageError(f"{self.file}: must hold the parameters of {method}; delete it to begin anew.")
                return found["course"], {name: content.get_tensor(name) for name in wanted}
        except (OSError, ValueError, SafetensorError) as error:
            raise StorageError(f"{self.file}: must be a whole file of a training; {error}; delete it.") from error

    def _check(self, found: Any) -> None:
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise StorageError(f"{self.file}: must hold a training of {SCHEMA}; it holds something else.")
        theirs = found.get("facts")
        differ = [k for k, v in self.facts.items() if not isinstance(theirs, dict) or theirs.get(k) != v]
        if differ:
            raise StorageError(
                f"{self.file}: must be of the same training; {', '.join(differ)} differ; delete it to begin anew, or "
                "give what it was begun with."
            )
        course = found.get("course")
        wanted = {"losses": list, "held_out": list, "best": int, "seconds": float}
        if not isinstance(course, dict) or {k: type(v) for k, v in course.items()} != wanted:
            raise StorageError(f"{self.file}: must say how the training went; it does not; delete it to begin anew.")

    def _wanted(self, method: SoftTokens) -> dict[str, tuple[int, ...]]:
        shapes = {name: tuple(t.shape) for name, t in method.state_dict().items()}
        named = {name: tuple(p.shape) for name, p in method.named_parameters()}
        found = {f"{part}.{name}": shape for part in ("now", "best") for name, shape in shapes.items()}
        return found | {f"{moment}.{name}": shape for moment in _MOMENTS for name, shape in named.items()}
