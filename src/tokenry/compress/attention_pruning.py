"""Attention pruning: drop what nobody looks at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.parts.kind import Kind, Word
from tokenry.compress.scores.information import beginning
from tokenry.compress.scores.received import layers, received
from tokenry.compress.scores.scorer import (
    BETWEEN,
    by_token,
    check_below_window,
    plain_ids,
    reach,
    room,
    scorer_for,
    side_by_side,
    sliding,
)
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, part, positive, setting
from tokenry.models.attention.rest import at_rest
from tokenry.models.files.load import LanguageModel


@dataclass(frozen=True, kw_only=True)
class AttentionPruning(Compressor):
    """Keep the units that a causal language model attends to when it reads the question.

    What it does
        s_j = mean over layers and heads of (sum of A_ij over the readers i > j) / (number of readers that may see j),
        where A are attention probabilities;  s(u) = mean of s_j over the tokens of the unit u. The readers are the
        tokens of the question, which stands behind the text; or those of the text itself; or the last token of all.
    Where it acts
        On the text, before the first layer. It reads the document and the question once with the scorer, which costs
        as much as a prefill when the scorer is the model that answers, and the products of readers and keys again.
    Shapes
        Document of T tokens, layers L, heads H -> sums (L, H, T) -> s (T) -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact, in tokens of the model that answers. A document that
        fits into `window` beside the question is scored as by one plain forward. Attention is added up in slices of
        queries; no map of all pairs exists. The begin mark, where heads look that look at nothing, has no part in
        it; where a scorer has none, the first token of a window gets the mean of the others instead.
    Raises
        InvalidValue: no question where it reads, neither a scorer nor a model that answers, a stride that is not
        below the window, layers between nowhere, a window too small for the question, or a budget too small for
        `force`.
        UnknownModel: the scorer cannot be found.
        UnsupportedModel: attention of the scorer cannot be reached.
    Deviations
        QUITO reads the last layer, from the last token of a chat prompt, takes the maximum over the tokens of a word
        and smooths over neighbours. Here all tokens of the question read, layers of the second half count, a word is
        the mean of its tokens, and nothing is smoothed. Rollout (products of whole maps over all layers) is left
        out, since it needs every map.
    Relations
        `saliency_pruning` asks a gradient instead. `readers=text` needs no question, and in our measurements found
        passages that answer a question no better than chance; `self_information` is the method for that case.
        `snapkv` does the same with keys, after the prompt was read.
    """

    card = Card(
        title="QUITO: Accelerating Long-Context Reasoning through Query-Guided Context Compression",
        year=2024,
        url="https://arxiv.org/abs/2408.00274",
        summary="keep the words or sentences that a language model attends to when it reads the question",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5, "readers": "text", "window": 64, "stride": 32},
        claims=(
            "half of the words make right answers of SmolLM2-135M likelier than a random half, and than the other half "
            "(16 questions over passages of 300 tokens)",
        ),
        deviations=(
            "all tokens of the question read, not the last token of a chat prompt; `readers=last` is near to that",
            "layers of the second half count, not the last one alone",
            "a word or sentence is worth the mean of its tokens, not their maximum, and nothing is smoothed",
            "exactly the budget stays",
            "no attention rollout, since it needs the whole maps of all layers",
            "attention measured with another tokenizer is spread over the characters of its tokens",
        ),
    )

    units: Kind = part(Word(), doc="what is kept or dropped as a whole")
    readers: str = choice("question", "text", "last", default="question", doc="tokens whose attention counts")
    heads: str = choice("mean", "max", default="mean", doc="what is made of the heads of a layer")
    shallowest: float = between(0.0, 1.0, default=0.5, doc="depth from which layers count; 0 is before the first")
    deepest: float = between(0.0, 1.0, default=0.85, doc="depth up to which layers count; 1 is behind the last")
    scorer: str | None = setting(None, doc="causal model that scores; none for the one that answers")
    window: int = positive(1024, doc="tokens the scorer reads together, at most its context")
    stride: int = positive(768, doc="tokens by which the next window advances where the text reads")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_below_window(type(self).__name__, "stride", self.stride, self.window)
        if self.shallowest >= self.deepest:
            raise InvalidValue(
                f"{type(self).__name__}: shallowest must be below deepest={self.deepest}, so that layers lie between "
                f"them; got {self.shallowest}."
            )

    @property
    def needs_query(self) -> bool:  # type: ignore[override]
        """Only where the question is what reads."""
        return self.readers == "question"

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        scorer = scorer_for(self.scorer, model, self.name())
        ask = query.strip() if query and self.readers != "text" else ""
        gap, question = plain_ids(scorer, BETWEEN if ask else ""), plain_ids(scorer, ask)

        def measure(ids: Tensor) -> Tensor:
            with at_rest(scorer.model):
                return self._received(scorer, ids, gap, question)

        return document.units.mean(by_token(document, scorer, model, measure))

    def _received(
        self, scorer: LanguageModel, ids: Int[Tensor, "T"], gap: Int[Tensor, "G"], question: Int[Tensor, "Q"]
    ) -> Float[Tensor, "T"]:
        """Attention that each token gets per reader; of a token that nobody could read, the mean of the others."""
        begin = beginning(scorer)
        n, first = len(ids), len(begin)
        if not n:
            return torch.zeros(0)
        window, stride = reach(scorer, self.window, self.stride)
        body = room(window, first + len(gap) + len(question), self.name())
        chosen = self._chosen(layers(scorer))
        found, weight = torch.zeros(n), torch.zeros(n)
        # A token of the text reads once, in the window where it is new; the question reads every token once.
        for start, new, end in sliding(n, body, stride) if self.readers == "text" else side_by_side(n, body):
            row = torch.cat((begin, ids[start:end], gap, question))
            oldest = {"text": first + new - start, "question": len(row) - len(question), "last": len(row) - 1}
            sums, counts = received(scorer, row, layers=chosen, readers=range(oldest[self.readers], len(row)))
            if not first:
                counts[:, 0] = 0
            mine = slice(first, first + end - start)
            rate, readers = self._rate(sums[..., mine], counts[:, mine])
            found[start:end] += rate * readers
            weight[start:end] += readers
        read = weight > 0
        found[read] /= weight[read]
        found[~read] = found[read].mean() if bool(read.any()) else 0.0
        return found

    def _rate(
        self, sums: Float[Tensor, "L H T"], counts: Int[Tensor, "L T"]
    ) -> tuple[Float[Tensor, "T"], Int[Tensor, "T"]]:
        """Attention per reader, over the heads and over the layers that have readers, and the number of readers."""
        each = sums / counts.clamp_min(1).unsqueeze(1)
        by_layer = each.amax(1) if self.heads == "max" else each.mean(1)
        read = counts > 0
        return (by_layer * read).sum(0) / read.sum(0).clamp_min(1), counts.amax(0)

    def _chosen(self, of: list[int]) -> list[int]:
        """The layers between two depths, at least one."""
        low = min(round(self.shallowest * len(of)), len(of) - 1)
        return of[low : max(low + 1, round(self.deepest * len(of)))]
