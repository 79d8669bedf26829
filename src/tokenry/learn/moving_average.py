"""MovingAverage: the losses of a model that follows the one that learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from tokenry.core.card import Card
from tokenry.core.errors import StorageError
from tokenry.core.fields import between
from tokenry.learn.history import History, Past
from tokenry.learn.selection.labels import Labelled
from tokenry.models.attention.rest import evaluating


@dataclass(frozen=True, kw_only=True)
class MovingAverage(History):
    """Compare with an exponential moving average of the weights that learn.

    What it does
        theta_history <- decay theta_history + (1 - decay) theta after every step;  L_history(i) = -log p of the model
        with these weights.
    Where it acts
        As `history` of `ss_token`. Only weights that learn are copied, in 32-bit floats: with LoRA, its matrices.
    Shapes
        input ids (B, N) -> losses (B, N).
    Guarantees
        `decay=1.0` is the model as it was before training. The model's own weights are not touched.
    Deviations
        The published code has no moving average, and the decay of the paper's is not known here.
    Raises
        InvalidValue: a decay out of range. StorageError: kept weights are not those that learn.
    Relations
        Reads every batch a second time, without gradients; `beforehand` does not, and stands still.
    """

    part = Card(
        title="ssToken: Self-modulated and Semantic-aware Token Selection for LLM Fine-tuning",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="losses of an exponential moving average of the weights that learn",
        trial={"decay": 0.9},
        deviations=("The published code has no moving average, and the decay of the paper's is not known here.",),
    )

    decay: float = between(0.0, 1.0, default=0.99, doc="what the average keeps at each step; 1 for the first weights")

    def begin(self, model: Any) -> Past:
        return _Average(model, self.decay)


class _Average(Past):
    def __init__(self, model: Any, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = {name: p.detach().float().clone() for name, p in self._learning()}

    def _learning(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    @torch.no_grad()
    def losses(self, labelled: Labelled, inputs: Mapping[str, Any]) -> Float[Tensor, "B N"]:
        theirs = {name: self.weights[name].to(p.dtype) for name, p in self._learning()}
        with evaluating(self.model):
            outputs = functional_call(self.model, theirs, kwargs=dict(inputs))
        return labelled.losses(outputs.logits, "moving_average")

    @torch.no_grad()
    def stepped(self) -> None:
        for name, p in self._learning():
            self.weights[name].lerp_(p.float(), 1 - self.decay)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.weights)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, own in self.weights.items():
            if name not in tensors or tensors[name].shape != own.shape:
                raise StorageError(f"moving_average: kept weights must be those that learn; {name!r} does not fit.")
            own.copy_(tensors[name])
