"""AnotherModel: the losses of a model that does not learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import Incompatible
from tokenry.core.fields import setting
from tokenry.learn.history import History, Past
from tokenry.learn.selection.labels import Labelled
from tokenry.models.attention.adapter import unwrap
from tokenry.models.files.load import LanguageModel, load


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
