"""A tiny language model with one head in each layer, for Bigram-Backcopy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from transformers import PreTrainedModel

from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, positive, setting
from tokenry.core.learned import Learned
from tokenry.data.tasks.bigram_backcopy import MOST_SYMBOLS, BigramBackcopy
from tokenry.models.files.tiny import DECODERS, tiny
from tokenry.probe.views.weights import WEIGHTS, Weigh

LARGEST = {"layers": 8, "width": 1024, "length": 8192}
"""Sizes beyond which a toy is refused, also one that was loaded."""


@dataclass(eq=False, repr=False, kw_only=True)
class BigramToy(Learned):
    """A causal model for rows of Bigram-Backcopy, with the source that it was made for.

    `model` is the network, whose attention is made with the weights named by `attention`: a forward of its own reads
    with softmax. `save` and `load` keep both the network and the source.
    """

    room: ClassVar[str] = "probe"

    symbols: str = setting("", doc="the character of each id")
    triggers: tuple[int, ...] = setting((), doc="ids behind which a copy follows")
    copy: float = between(0.0, 1.0, default=1.0, doc="probability of the copy")
    layers: int = positive(1, doc="layers")
    width: int = positive(64, doc="width of the states, and of the one head of each layer")
    length: int = positive(64, doc="most ids of a row")
    attention: str = choice(*WEIGHTS, default="softmax", doc="what makes attention weights of logits")
    family: str = choice(*DECODERS, default="stablelm", doc="architecture of the network")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, largest in LARGEST.items():
            if getattr(self, name) > largest:
                raise InvalidValue(f"BigramToy: {name} must be at most {largest}; got {getattr(self, name)}.")
        if len(self.symbols) > MOST_SYMBOLS or not all(0 <= i < len(self.symbols) for i in self.triggers):
            raise InvalidValue(
                f"BigramToy: triggers must be ids of at most {MOST_SYMBOLS} symbols; got {self.triggers} "
                f"for {len(self.symbols)}."
            )

    @classmethod
    def of(cls, data: BigramBackcopy, *, seed: int = 0, **settings: int | str) -> Self:
        """A new toy with random weights for a source."""
        toy = cls(symbols=data.symbols, triggers=data.triggers, copy=data.copy, **settings)  # type: ignore[arg-type]
        toy.build(ids=data.size, generator=torch.Generator().manual_seed(seed))
        toy.bigram.copy_(data.bigram)
        toy.unigram.copy_(data.unigram)
        return toy

    def make(self, *, ids: int) -> None:
        if ids != len(self.symbols) + 1:
            raise InvalidValue(f"BigramToy: ids must be one more than the {len(self.symbols)} symbols; got {ids}.")
        self.register_buffer("bigram", torch.zeros(ids - 1, ids - 1, dtype=torch.double))
        self.register_buffer("unigram", torch.zeros(ids - 1, dtype=torch.double))
        self.model: PreTrainedModel = tiny(
            self.family, int(torch.randint(1 << 31, ())), vocab_size=ids, bos_token_id=ids - 1, pad_token_id=None,
            hidden_size=self.width, intermediate_size=2 * self.width, num_hidden_layers=self.layers,
            num_attention_heads=1, num_key_value_heads=1, head_dim=self.width, max_position_embeddings=self.length,
            tie_word_embeddings=False,
        )  # fmt: skip

    @property
    def data(self) -> BigramBackcopy:
        """The source of rows that it was made for."""
        return BigramBackcopy(self.symbols, self.unigram, self.bigram, self.triggers, self.copy)

    @property
    def weigh(self) -> Weigh:
        """What makes attention weights of its logits."""
        return WEIGHTS[self.attention]
