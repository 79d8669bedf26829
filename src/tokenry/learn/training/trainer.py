"""Objectives in transformers' Trainer, and in trainers that are made of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer, TrainerCallback

from tokenry.core.errors import Incompatible, StorageError
from tokenry.core.saving import whole_file
from tokenry.learn.base import Objective, Watch

STATE = "objective.safetensors"


class ByObjective:
    """Makes a trainer learn by an objective; stands before it: `class Mine(ByObjective, SFTTrainer)`.

    Losses are divided by the counts of the whole optimiser step, so gradient accumulation changes nothing. Evaluation
    is the trainer's own: the model's loss over all labels. What an objective remembers is saved with each checkpoint.

    Args:
        objective: what to learn by; all other arguments are the trainer's.
    """

    model: Any
    accelerator: Any
    args: Any

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise Incompatible(
                f"trainer: a process must have one device; got {self.args.n_gpu}; start one for each with torchrun."
            )
        if isinstance(objective, torch.nn.Module):
            raise Incompatible(
                f"trainer: an objective must have no weights of its own; {objective.name()} has; train it with fit."
            )
        self.learns_by = objective
        self.watch: Watch | None = None
        self.loss_is_scaled_for_ga = True
        self._of: Counter[str] = Counter()
        self.add_callback(_Steps(self))  # type: ignore[attr-defined]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, with the objective watching the model."""
        with self.learns_by(self.model) as self.watch:
            try:
                if self.watch.learned is not None:
                    raise Incompatible(
                        f"trainer: nothing may learn beside the model; with {self.learns_by.name()} something does; "
                        f"train it with fit."
                    )
                return super().train(*args, **kwargs)  # type: ignore[misc]
            finally:
                self.watch = None

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of a step; their labels are counted together."""
        found, items = super().get_batch_samples(epoch_iterator, num_batches, device)  # type: ignore[misc]
        self._of = sum(map(self.learns_by.count, found), Counter())
        if self.accelerator.num_processes > 1:
            names = sorted(self._of)
            total = self.accelerator.reduce(torch.tensor([self._of[n] for n in names], device=device), "sum")
            self._of = Counter(dict(zip(names, total.tolist(), strict=True)))
        return found, items

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        """The objective's loss while training, the model's own otherwise."""
        if self.watch is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs=return_outputs, **more)  # type: ignore[misc]
        outputs = model(**self.watch.inputs(inputs))
        # Gradients are averaged over processes, and the counts are those of all.
        value = self.watch.loss(outputs, inputs, self._of).value * self.accelerator.num_processes
        return (value, outputs) if return_outputs else value


class ObjectiveTrainer(ByObjective, Trainer):  # type: ignore[misc]
    """transformers' Trainer that learns by an objective."""


class _Steps(TrainerCallback):
    """Tells the objective where the training stands, and keeps what it remembers."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        watch = self.trainer.watch
        if state.global_step:
            watch.restore(_read(_folder(args, state) / STATE))
        else:
            # In the same precision in which the losses of the training are computed.
            with self.trainer.compute_loss_context_manager():
                watch.prepare(_once(self.trainer))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.watch.done = state.global_step / max(1, state.max_steps)
        self.trainer.watch.stepped()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.watch is None or not state.is_world_process_zero:
            return
        kept: dict[str, Tensor] = {n: t.cpu().contiguous() for n, t in self.trainer.watch.tensors().items()}
        with whole_file(_folder(args, state) / STATE) as draft:
            save_file(kept, draft)


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{file}: must hold what the objective remembers at this step; {error}; go on from another checkpoint."
        ) from error


def _once(trainer: Any) -> Any:
    """All training data in order: not shuffled, and not divided among processes."""
    loader = trainer.get_eval_dataloader(trainer.train_dataset)
    rows = trainer.args.per_device_train_batch_size
    return torch.utils.data.DataLoader(loader.dataset, batch_size=rows, collate_fn=loader.collate_fn)
