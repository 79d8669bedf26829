"""Losses of many samples, known by what the samples say, so that order, batches and padding do not matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.saving import whole_file
from tokenry.learn.base import Batch, without_labels
from tokenry.learn.selection.labels import KEY_BYTES, Labelled
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import evaluating

NAMES = ("keys", "ends", "losses")


class LossTable:
    """-log p of every label of every sample."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Float[Tensor, "T"]] = {}

    @classmethod
    @torch.no_grad()
    def measure(cls, model: Any, batches: Iterable[Batch], *, who: str = "learn") -> Self:
        """Read all batches once with a model, without dropout.

        Raises:
            InvalidValue: there is no batch, or its labels do not fit.
        """
        table = cls()
        base = unwrap(model)
        with evaluating(model):
            for batch in batches:
                here = {k: v.to(base.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
                labelled = Labelled.of(here, who)
                table.add(labelled, labelled.losses(model(**without_labels(model, here)).logits, who))
        if not table.rows:
            raise InvalidValue(f"{who}: batches must hold at least one sample; got none; measure them before training.")
        return table

    def add(self, labelled: Labelled, losses: Float[Tensor, "B N"]) -> None:
        """Enter the rows of a batch."""
        for row, counted in enumerate(labelled.counted):
            self.rows[labelled.key(row)] = losses[row][counted].cpu()

    def losses(self, labelled: Labelled, who: str) -> Float[Tensor, "B N"]:
        """The losses of a batch; 0 where no label counts.

        Raises:
            InvalidValue: a sample that was not measured.
        """
        out = torch.zeros(labelled.labels.shape)
        for row, counted in enumerate(labelled.counted.cpu()):
            known = self.rows.get(labelled.key(row))
            if known is None:
                raise InvalidValue(
                    f"{who}: history must hold the losses of every sample; row {row} of this batch was not measured, "
                    f"as {len(self.rows)} others were; measure the same data, labels and length that you train on."
                )
            out[row, counted] = known
        return out.to(labelled.labels.device)

    def mean(self) -> float:
        """The mean over all labels, in nats."""
        return torch.cat(list(self.rows.values())).double().mean().item()

    def tensors(self) -> dict[str, Tensor]:
        """Everything in three tensors."""
        sizes = torch.tensor([len(row) for row in self.rows.values()], dtype=torch.int64)
        keys = torch.tensor(list(b"".join(self.rows)), dtype=torch.uint8).view(-1, KEY_BYTES)
        losses = torch.cat([torch.zeros(0), *self.rows.values()])
        return dict(zip(NAMES, (keys, sizes.cumsum(0), losses), strict=True))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], where: str) -> Self:
        """The table in three tensors.

        Raises:
            StorageError: they do not belong together.
        """
        table = cls()
        keys, ends, losses = (tensors.get(name, torch.zeros(0)) for name in NAMES)
        sizes = ends.diff(prepend=ends.new_zeros(1))
        if (
            set(tensors) != set(NAMES)
            or (keys.dtype, ends.dtype, losses.dtype) != (torch.uint8, torch.int64, torch.float32)
            or (keys.shape, losses.ndim) != ((len(ends), KEY_BYTES), 1)
            or bool((sizes < 0).any())
            or int(sizes.sum()) != len(losses)
        ):
            raise StorageError(f"{where}: must hold a table of losses; it does not; measure them again.")
        rows = losses.split(sizes.tolist())
        table.rows = {bytes(key.tolist()): row for key, row in zip(keys, rows, strict=True)}
        return table

    def save(self, file: str | Path) -> None:
        """Write the table to a safetensors file, whole or not at all."""
        with whole_file(Path(file)) as draft:
            save_file(self.tensors(), draft)

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """What `save` wrote.

        Raises:
            StorageError: the file is missing, damaged or holds something else.
        """
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{file}: must be a safetensors file of losses; {error}; measure them again.") from error
        return cls.of(found, str(file))
