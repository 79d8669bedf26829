"""Says of every token whether it was replaced, from what the model made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from tokenry.core.errors import InvalidValue


class Detector(nn.Module):
    """Two layers over the last hidden states.

    Args:
        base: the model, which is watched and not held.
        seed: of the first weights.
    """

    def __init__(self, base: Any, seed: int) -> None:
        super().__init__()
        width = base.config.get_text_config().hidden_size
        self._base = (base.base_model,)
        self._states: Tensor | None = None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.dense, self.judge = nn.Linear(width, width), nn.Linear(width, 1)
        self.to(base.device)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the model runs; what it made of the last batch is kept."""
        hook = self._base[0].register_forward_hook(self._read)
        try:
            yield
        finally:
            hook.remove()
            self.forget()

    def forget(self) -> None:
        """Let go of the last batch."""
        self._states = None

    def forward(self, judged: Bool[Tensor, "B N"]) -> Float[Tensor, "J"]:
        """The logit of each judged token, in the order of rows and columns."""
        if self._states is None:
            raise InvalidValue("electra: the model must have read the batch; it did not run; call it inside the block.")
        found: Tensor = self.judge(gelu(self.dense(self._states[judged].float()))).squeeze(-1)
        return found

    def _read(self, module: nn.Module, args: Any, outputs: Any) -> None:
        self._states = outputs.last_hidden_state
