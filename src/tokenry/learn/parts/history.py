"""Histories: the losses that today's are compared with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from tokenry.core.card import Card
from tokenry.core.errors import Incompatible, InvalidValue, StorageError
from tokenry.core.fields import between, setting
from tokenry.core.method import Part
from tokenry.learn.base import Batch
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.selection.loss_table import LossTable
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import evaluating
from tokenry.models.files.load import LanguageModel, load


class Past:
    """The history of one training."""

    @abstractmethod
    def losses(self, labelled: Labelled, inputs: Mapping[str, Any]) -> Float[Tensor, "B N"]:
        """-log p of every label that counts, by the history; 0 for all others.

        Args:
            inputs: what the model that learns was called with.
        """

    def prepare(self, batches: Iterable[Batch]) -> None:
        """What must be measured before the first step."""

    def stepped(self) -> None:
        """The optimiser made a step."""

    def tensors(self) -> dict[str, Tensor]:
        """What must be kept for an interrupted training."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""


@dataclass(frozen=True, kw_only=True)
class History(Part):
    """A part of `ss_token`: who gives the losses that the model's own are subtracted from."""

    room: ClassVar[str] = "learn"

    @abstractmethod
    def begin(self, model: Any) -> Past:
        """The history of a training of `model` that begins now."""


@dataclass(frozen=True, kw_only=True)
class Beforehand(History):
    """Compare with losses that were measured before the first step.

    What it does
        L_history(i) = -log p_0(i), by the model that the training begins with.  Samples are known by their ids and
        labels, not by their number.
    Where it acts
        As `history` of `ss_token`. `fit` and the trainer measure by themselves; a loop of your own calls
        `watch.prepare(batches)`. Losses of any other model, measured with `LossTable.measure`, may be read from a
        `file`.
    Shapes
        labels (B, N) -> losses (B, N).
    Guarantees
        One pass over the data before training and none during it. Order, batches and padding do not matter.
    Raises
        InvalidValue: nothing was measured, or other samples were.
        StorageError: the file is missing or damaged.
    Relations
        `moving_average` reads every batch twice and needs no pass before.
    """

    part = Card(
        title="ssToken: Self-modulated and Semantic-aware Token Selection for LLM Fine-tuning",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="losses of the model as it was before training",
        trial={},
    )

    file: str = setting("", doc="losses written by LossTable.save; empty to measure the model before the first step")

    def begin(self, model: Any) -> Past:
        return _Measured(model, LossTable.load(self.file) if self.file else None)


class _Measured(Past):
    def __init__(self, model: Any, table: LossTable | None) -> None:
        self.model, self.table = model, table

    def prepare(self, batches: Iterable[Batch]) -> None:
        if self.table is None:
            self.table = LossTable.measure(self.model, batches, who="beforehand")

    def losses(self, labelled: Labelled, inputs: Mapping[str, Any]) -> Float[Tensor, "B N"]:
        if self.table is None:
            raise InvalidValue(
                "beforehand: losses must be measured before training; got none; call watch.prepare(batches) with all "
                "data first, name a file, or use history=moving_average."
            )
        return self.table.losses(labelled, "beforehand")

    def tensors(self) -> dict[str, Tensor]:
        return {} if self.table is None else self.table.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.table = LossTable.of(tensors, "beforehand") if tensors else None


@dataclass(frozen=True, kw_only=True)
class AnotherModel(History):
    """Compare with the losses of another model of the same vocabulary.

    What it does
        L_history(i) = -log p(i) by a reference model, as methods did before `ss_token`.
    Where it acts
        As `history` of `ss_token`. The model is loaded when the training begins, to the same device.
    Shapes
        input ids (B, N) -> losses (B, N).
    Guarantees
        The other model is not changed.
    Raises
        Incompatible: its vocabulary has another size.
        UnknownModel: it cannot be found.
    Relations
        Reads every batch with the other model. Measured once with `LossTable.measure` and read by `beforehand`, the
        same losses cost less.
    """

    part = Card(
        title="Rho-1: Not All Tokens Are What You Need",
        year=2024,
        url="https://arxiv.org/abs/2404.07965",
        summary="losses of a reference model of the same vocabulary",
        trial={},
    )

    model: str | LanguageModel = setting("smollm2", doc="name of the model, or the model")

    def begin(self, model: Any) -> Past:
        other = load(self.model) if isinstance(self.model, str) else self.model
        own, theirs = (unwrap(m).config.get_text_config().vocab_size for m in (model, other.model))
        if own != theirs:
            raise Incompatible(
                f"another_model: {other.name!r} must have the vocabulary of the model that learns, {own} tokens; it "
                f"has {theirs}; name a model of the same family."
            )
        return _Other(other.model.eval().to(unwrap(model).device))


class _Other(Past):
    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def losses(self, labelled: Labelled, inputs: Mapping[str, Any]) -> Float[Tensor, "B N"]:
        return labelled.losses(self.model(**inputs).logits, "another_model")


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
