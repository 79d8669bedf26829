"""Self-information: drop what a language model could have guessed anyway."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.parts.kind import Kind, Word
from tokenry.compress.scores.information import information
from tokenry.compress.scores.scorer import by_token, check_below_window, reach, scorer_for
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.fields import part, positive, setting
from tokenry.models.files.load import LanguageModel


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
        percentile; here exactly the budget stays. Its code reads every sentence by itself after a beginning mark, so
        that the first words of each surprise; here a token is read after all that stands before it in `window`, as the
        equation of the paper says.
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
            "a document is read as one text; the published code reads every sentence alone after a beginning mark",
            "exactly the budget stays, not everything above a percentile",
            "information measured with another tokenizer is spread over the bytes of its tokens",
        ),
    )

    units: Kind = part(Word(), doc="what is kept or dropped as a whole")
    scorer: str | None = setting(None, doc="causal model that scores; none for the one that answers")
    window: int = positive(1024, doc="tokens the scorer reads together, at most its context")
    stride: int = positive(768, doc="tokens by which the next window advances")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_below_window(type(self).__name__, "stride", self.stride, self.window)

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        scorer = scorer_for(self.scorer, model, self.name())
        return document.units.mean(by_token(document, scorer, model, lambda ids: self._information(ids, scorer)))

    def _information(self, ids: Tensor, scorer: LanguageModel) -> Float[Tensor, "T"]:
        window, stride = reach(scorer, self.window, self.stride)
        return information(scorer, ids, window=window, stride=stride)
