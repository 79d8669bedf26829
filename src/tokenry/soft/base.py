"""Room: soft. Learned tokens that no text has: `embed` puts them into a batch, `cache` gives their keys and values."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache

from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.learned import Learned, Unbuilt
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.text import lookup
from tokenry.soft.prompts.beginnings import beginning

MOST = 1 << 28
"""Numbers of one parameter beyond which its sizes, perhaps read from a file, are refused."""


class SoftTokens(Learned):
    """Learned tokens for one model that stays as it is.

    `start` makes the parameters for a model, `tokenry.soft.training.tuning.tune` learns them, `embed` and `cache` use
    them:

        batch = method.embed(batch, language)
        answer(language, batch, sampling, nullcontext, cache=method.cache(batch, language))

    Parameters are 32-bit floats whatever the model computes in. A witness of the model is saved beside them, and use
    with another model is refused.
    """

    room: ClassVar[str] = "soft"
    has_cache: ClassVar[bool] = False
    """Whether `cache` gives keys and values, which must stand before everything else."""
    tokens: int
    witness: Tensor

    def make(self, *_: Any, **__: Any) -> None:
        self.register_buffer("witness", torch.zeros(lookup.SAMPLES))

    @property
    @abstractmethod
    def rate(self) -> float:
        """Adam's learning rate unless another is given."""

    def start(
        self,
        language: LanguageModel,
        how: str = "vocabulary",
        *,
        text: str | None = None,
        labels: Sequence[str] = (),
        seed: int = 0,
    ) -> Self:
        """Build the parameters for a model, and give the method itself.

        Args:
            how: what they begin as: `text`, `vocabulary`, `labels` or `random`.
            text: for `text`: an instruction, cut or repeated to the number of tokens.
            labels: for `labels`: names of the classes, one token each; words of the vocabulary fill the rest.
            seed: of what is drawn; the global random state stays as it was.

        Raises:
            InvalidValue: a start that does not exist or lacks its text, or a method that is built already.
            UnsupportedModel: soft tokens cannot stand in this model.
        """
        rows = beginning(self.name(), language, self.tokens, how, text=text, labels=labels, seed=seed)
        return self.begin_from(language, rows, how, seed)

    @abstractmethod
    def begin_from(self, language: LanguageModel, rows: Float[Tensor, "S E"], how: str, seed: int) -> Self:
        """Build the parameters so that these embeddings are what they begin as; `start` has drawn them."""

    @abstractmethod
    def embed(self, batch: TokenBatch, language: LanguageModel) -> TokenBatch:
        """The batch with the soft tokens in it; no method may remove them, and they have no ids.

        Raises:
            Incompatible: parameters of another model.
            Unbuilt: there are no parameters yet.
        """

    def cache(self, batch: TokenBatch, language: LanguageModel) -> Cache | None:
        """Keys and values of the first columns of all rows of a batch that `embed` made; the model reads the others.

        None where soft tokens are input embeddings like any others. Every call gives a new cache.
        """
        return None

    def fold(self) -> Self:
        """The same soft tokens without what only training needs."""
        return self

    def _unbuilt(self, wanted: str) -> Unbuilt:
        return Unbuilt(f"{self.name()}: must begin before {wanted!r} is used; call start(language) or load a folder.")

    def remember(self, language: LanguageModel) -> None:
        """Note which model the parameters are for."""
        self.witness.copy_(lookup.witness(language.model))

    def check(self, language: LanguageModel) -> None:
        """Refuse another model than the one the parameters are for.

        Raises:
            Incompatible: another model.
        """
        if not lookup.same_witness(self.witness, lookup.witness(language.model)):
            raise Incompatible(
                f"{self.name()}: must be used with the model it was made for; {language.name} has other embeddings; "
                "tune it for this model."
            )


def bounded(who: str, *shape: int) -> tuple[int, ...]:
    """The shape of a parameter.

    Raises:
        InvalidValue: more numbers than any soft prompt has.
    """
    if math.prod(shape) > MOST:
        raise InvalidValue(f"{who}: must have at most {MOST} numbers; got sizes {shape}; take fewer tokens.")
    return shape
