"""What was found or learned for one model: its samples are checked, and another model is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.learned import Learned
from tokenry.models.text import lookup


class OfModel(Learned):
    """Something learned that is saved with a witness of its model; models with other embeddings are refused."""

    def make(self, *_: Any, **__: Any) -> None:
        self.register_buffer("witness", torch.zeros(lookup.SAMPLES))

    def remember(self, model: Any) -> None:
        """Note which model the numbers are of."""
        self.witness.copy_(lookup.witness(model))

    def check(self, model: Any, who: str, do: str) -> None:
        """Refuse another model than the one it was made for.

        Args:
            who: the method that asks, with its field, such as "fasa: calibration".
            do: what makes one for this model.

        Raises:
            Incompatible: another model.
        """
        if not lookup.same_witness(self.witness, lookup.witness(model)):
            raise Incompatible(
                f"{who} must be of this model; {self.folder or self.name()} is of one with other sizes or embeddings; "
                f"make it with {do}."
            )


def texts(
    who: str, samples: Sequence[Int[Tensor, "T"]] | Int[Tensor, "N T"], least: int, most: int | None = None
) -> list[Int[Tensor, "T"]]:
    """The samples that something is calibrated on.

    Raises:
        InvalidValue: none, one that is no row of ids, or one that is too short or too long.
    """
    found = list(samples)
    sizes = [tuple(s.shape) if isinstance(s, Tensor) and not s.is_floating_point() else type(s).__name__ for s in found]
    fits = [isinstance(size, tuple) and len(size) == 1 and least <= size[0] <= (most or size[0]) for size in sizes]
    if not found or not all(fits):
        lengths = f"{least} to {most}" if most else f"{least} or more"
        got = [size[0] if isinstance(size, tuple) and len(size) == 1 else size for size in sizes]
        raise InvalidValue(f"{who}: samples must be at least one text, each a row of {lengths} token ids; got {got}.")
    return found
