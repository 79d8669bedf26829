"""Room: learn. What a model learns from: the loss, and how much each token counts in it."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.method import Method
from tokenry.models.attention.adapter import unwrap
from tokenry.models.cache.name import NAME

Batch = Mapping[str, Any]
"""What a collator makes: `input_ids`, `attention_mask` and `labels` (B, N), -100 where there is nothing to learn."""


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """What an objective says of one batch.

    Args:
        value: has gradients; the sum of the parts.
        parts: the terms of the value, without gradients.
        token_weights: how much each label counted, before the value was divided by their number.
    """

    value: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]]
    token_weights: Float[Tensor, "B N"]


class Watch:
    """One model that learns by one objective: what was seen in its last forward, and what is remembered.

    Objectives that look inside the model, or remember something from step to step, have a subclass of their own.

    Args:
        objective: the method.
        model: the model that learns, perhaps inside a wrapper such as PEFT's.
    """

    def __init__(self, objective: Objective, model: Any) -> None:
        self.objective, self.model = objective, model
        self.samples = 0
        """Rows that were learned from so far."""
        self.done = 0.0
        """The share of the training that is over, where whoever trains says so."""
        self.learned: nn.Module | None = None
        """What learns beside the model and is no part of it."""

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Whatever must be in place while the model runs."""
        yield

    def prepare(self, batches: Iterable[Batch]) -> None:
        """What must be measured on all data before the first step."""

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """What the model is called with for this batch: all but the labels, which are for `loss`."""
        return without_labels(self.model, batch)

    def loss(self, outputs: Any, batch: Batch, of: Counter[str] | None = None) -> Loss:
        """The loss of a batch whose `inputs` the model has just answered with `outputs`.

        Args:
            of: the counts of the whole optimiser step, where the batch is only a part of it.
        """
        loss = self.objective.loss(outputs, batch, self, of)
        if loss.value.requires_grad:
            self.samples += len(loss.token_weights)
        return loss

    def stepped(self) -> None:
        """Whoever trains says that the optimiser made a step."""

    def tensors(self) -> dict[str, Tensor]:
        """What must be kept so that an interrupted training goes on as if nothing had happened."""
        return {"samples": torch.tensor(self.samples)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        self.samples = int(tensors["samples"])


class Objective(Method):
    """A method that turns what a model said about a batch into the loss it learns from.

        with objective(model) as watch:
            watch.prepare(batches)
            for batch in batches:
                loss = watch.loss(model(**watch.inputs(batch)), batch)
                loss.value.backward()
                optimizer.step()
                optimizer.zero_grad()
                watch.stepped()

    The parts of a step may be read one after another: `loss(…, of=count)`, where `count` is the sum of
    `objective.count(batch)` over them, gives losses whose sum is that of the whole.
    """

    room: ClassVar[str] = "learn"

    @contextmanager
    def __call__(self, model: Any) -> Iterator[Watch]:
        """Watch a model; leaving the block, also by an exception, restores everything.

        Raises:
            UnsupportedModel: the model cannot be looked into.
            Incompatible: an attention method is attached to it.
        """
        watch = self.watch(model)
        with watch.attached():
            yield watch

    def watch(self, model: Any) -> Watch:
        """The state of one training, not yet attached."""
        return Watch(self, model)

    @abstractmethod
    def count(self, batch: Batch) -> Counter[str]:
        """How many tokens each part of the loss is divided by; known before the model has run."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch, watch: Watch, of: Counter[str] | None = None) -> Loss:
        """The loss of a batch, divided by `of` or, where that is not given, by its own counts.

        Raises:
            InvalidValue: labels that do not fit the batch, or none that could be learned from.
        """


def without_labels(model: Any, batch: Batch) -> dict[str, Any]:
    """What a model is called with to read a batch: it computes no loss and keeps no cache."""
    given = {name: value for name, value in batch.items() if name != "labels"}
    # Some take `use_cache` among arguments that they do not name.
    if {"use_cache", NAME} & set(inspect.signature(unwrap(model).forward).parameters):
        given["use_cache"] = False
    return given
