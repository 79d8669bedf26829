"""Self-information: drop what a language model could have guessed anyway."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.information import information
from tokenry.compress.units import Document
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, positive, setting
from tokenry.models.load import LanguageModel, load


@dataclass(frozen=True, kw_only=True)
class SelfInformation(Compressor):
    """Keep the units that surprise a causal language model most.

    What it does
        I_j = -log p(x_j | x_1 … x_{j-1}) in nats;  s(u) = mean of I_j over the tokens of the unit u. The beginning
        mark of the scorer stands before x_1.
    Where it acts
        On the text, before the first layer; needs no query. It reads the whole document once with the scorer, which
        costs as much as a prefill when the scorer is the model that answers.
    Shapes
        Document of T tokens and U units -> I (T) -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact, in tokens of the model that answers. A document that
        fits into `window` is read as a plain forward reads it. Logits of only a few hundred tokens exist at once.
    Raises
        InvalidValue: neither a scorer nor a model that answers, a stride that is not below the window, or a budget
        too small for `force`.
        UnknownModel: the scorer cannot be found.
    Deviations
        Selective Context ranks noun phrases found by a parser; here words or sentences. It drops what lies below a
        percentile; here exactly the budget stays.
    Relations
        Knows nothing of the question; `dense_relevance` and `lexical_relevance` do.
    """

    card = Card(
        title="Compressing Context to Enhance Inference Efficiency of Large Language Models (Selective Context)",
        year=2023,
        url="https://arxiv.org/abs/2310.06201",
        summary="keep the words or sentences that a language model finds most surprising",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5, "window": 64, "stride": 32},
        deviations=(
            "units are words, sentences or tokens, not noun phrases",
            "exactly the budget stays, not everything above a percentile",
            "information measured with another tokenizer is spread over the bytes of its tokens",
        ),
    )

    units: str = choice("word", "sentence", "token", default="word", doc="what is kept or dropped as a whole")
    scorer: str | None = setting(None, doc="causal model that scores; none for the one that answers")
    window: int = positive(1024, doc="tokens the scorer reads together, at most its context")
    stride: int = positive(768, doc="tokens by which the next window advances")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride >= self.window:
            raise InvalidValue(
                f"{type(self).__name__}: stride must be below window={self.window}, so that every token has others "
                f"before it; got {self.stride}."
            )

    def score(self, document: Document, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        scorer = self._scorer(model)
        if document.ids is None or scorer is not model or bool((document.ids < 0).any()):
            return document.units.mean(self._through_text(document, scorer))
        return document.units.mean(self._information(document.ids, scorer))

    def _scorer(self, model: LanguageModel | None) -> LanguageModel:
        if self.scorer is not None and (model is None or model.name != self.scorer):
            return _load(self.scorer)
        if model is None:
            raise InvalidValue(
                f"{self.name()}: scorer must be named where no model answers; got none; pass scorer=smollm2 or model=."
            )
        return model

    def _information(self, ids: Tensor, scorer: LanguageModel) -> Float[Tensor, "T"]:
        window, stride = self.window, self.stride
        if scorer.context is not None and scorer.context < window:
            window, stride = scorer.context, min(stride, max(1, scorer.context * 3 // 4))
        return information(scorer, ids, window=window, stride=stride)

    def _through_text(self, document: Document, scorer: LanguageModel) -> Float[Tensor, "T"]:
        """Information of the document's tokens from a scorer that cuts the text into other tokens."""
        encoded = scorer.tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = torch.tensor(encoded["input_ids"], dtype=torch.long)
        theirs = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        return spread(self._information(ids, scorer), theirs, document)


def spread(values: Float[Tensor, "S"], spans: np.ndarray, document: Document) -> Float[Tensor, "T"]:
    """Hand values of other tokens, at the characters `spans`, on to the document's tokens in proportion."""
    density = np.zeros(len(document.text) + 1)
    for value, (start, end) in zip(values.tolist(), spans.tolist(), strict=True):
        density[start:end] += value / max(1, end - start)
    total = np.concatenate(([0.0], np.cumsum(density)))
    ends = np.maximum.accumulate(document.ends) if len(document.ends) else document.ends
    # Space between tokens belongs to the token after it.
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    return torch.from_numpy(total[ends] - total[starts]).float()


@lru_cache(maxsize=1)
def _load(name: str) -> LanguageModel:
    """A scorer of its own is loaded once."""
    return load(name)
