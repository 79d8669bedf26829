"""Attributions: how much each token of a text has to do with what an encoder makes of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.method import Part
from tokenry.models.attention.anatomy import Reading, read
from tokenry.models.files.load import Encoder


@dataclass(frozen=True, kw_only=True)
class Attribution(Part):
    """A part of `frugal_prompt` that says how much each token weighs in an encoder's reading of its text."""

    room: ClassVar[str] = "compress"

    @torch.no_grad()
    def attribute(self, encoder: Encoder, ids: Int[Tensor, "T"], mask: Bool[Tensor, "T"]) -> Float[Tensor, "T"]:
        """The weight of every token of one text; padding is not read and weighs nothing.

        Time and memory grow with the square of the number of tokens: cut long texts.

        Args:
            ids: with the encoder's own marks, as its tokenizer gives them.
            mask: True for real tokens, which may stand left or right.

        Raises:
            UnsupportedModel: the encoder's layers cannot be taken apart.
        """
        weights = torch.zeros(len(ids))
        if bool(mask.any()):
            weights[mask.cpu()] = self.weigh(read(encoder.model, ids[mask])).cpu()
        return weights

    @abstractmethod
    def weigh(self, reading: Reading) -> Float[Tensor, "T"]:
        """The weight of every token of a text that was read without padding."""
