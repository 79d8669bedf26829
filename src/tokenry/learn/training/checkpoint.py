"""The state of a training in one safetensors file, which is replaced whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tokenry.core.errors import StorageError
from tokenry.core.saving import whole_file
from tokenry.learn.base import Watch

NAME = "fit.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Checkpoint:
    """Weights that learn, the optimiser's moments, what the objective remembers, and the losses so far.

    Args:
        folder: where the file is.
        settings: what decides the result; a file of other settings is refused.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.file = folder / NAME
        self.settings = json.loads(json.dumps(settings))

    def save(
        self, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, watch: Watch, losses: list[float]
    ) -> None:
        """Write the state, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for name, weight in weights.items():
            tensors[f"weight.{name}"] = weight
            for moment in MOMENTS:
                tensors[f"{moment}.{name}"] = optimizer.state[weight][moment]
        tensors |= {f"watch.{name}": value for name, value in watch.tensors().items()}
        # Losses are written as text, which gives back the same numbers.
        told = {"settings": json.dumps(self.settings), "losses": json.dumps(losses)}
        with whole_file(self.file) as draft:
            save_file({n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}, draft, metadata=told)

    def load(self, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, watch: Watch) -> list[float]:
        """Take up what `save` wrote and give the losses; nothing where there is no file.

        Raises:
            StorageError: the file is damaged or of another training.
        """
        if not self.file.exists():
            return []
        try:
            with safe_open(self.file, framework="pt") as found:
                told = found.metadata() or {}
                settings, losses = json.loads(told.get("settings", "null")), json.loads(told.get("losses", "[]"))
                tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError) as error:
            raise StorageError(f"{self.file}: must be a whole state of a training; {error}; remove it.") from error
        self._check(settings)
        wanted = {f"{kind}.{n}": w.shape for n, w in weights.items() for kind in ("weight", *MOMENTS[:2])}
        wanted |= {f"{MOMENTS[2]}.{n}": torch.Size() for n in weights}
        wrong = next((n for n, shape in wanted.items() if n not in tensors or tensors[n].shape != shape), None)
        if wrong is not None:
            raise StorageError(f"{self.file}: must hold the weights that learn; {wrong!r} does not fit; remove it.")
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(tensors[f"weight.{name}"])
                optimizer.state[weight] = {
                    moment: tensors[f"{moment}.{name}"].to("cpu" if moment == "step" else weight.device)
                    for moment in MOMENTS
                }
        prefix = "watch."
        watch.restore({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        return list(losses)

    def _check(self, settings: Any) -> None:
        if settings == self.settings:
            return
        theirs = settings if isinstance(settings, dict) else {}
        other = [name for name, value in self.settings.items() if theirs.get(name) != value]
        raise StorageError(
            f"{self.file}: must be a state of this training; it is of another: {', '.join(other)} differ; name "
            f"another folder, or remove the file."
        )
