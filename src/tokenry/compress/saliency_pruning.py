"""Saliency pruning: drop what the likelihood of the question does not depend on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.compress.base import Compressor
from tokenry.compress.parts.kind import Kind, Word
from tokenry.compress.scores.information import beginning
from tokenry.compress.scores.integrated_gradients import attributions
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
from tokenry.core.fields import choice, part, positive, setting
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import at_rest
from tokenry.models.files.load import LanguageModel


@dataclass(frozen=True, kw_only=True)
class SaliencyPruning(Compressor):
    """Keep the units on which the likelihood of the question depends, by its gradient.

    What it does
        a_j = e_j · sum over k of w_k d loss(α_k e) / d e_j, in nats, with α_k in (0, 1] and sum of w_k = 1;
        s_j = |a_j|;  s(u) = mean of s_j over the tokens of the unit u. e are the input embeddings of the document.
        The loss is -log p of the question behind the text, of the text itself, or of a `reference` behind both. One
        step is gradient times input; more are integrated gradients, on the way from zero embeddings to e.
    Where it acts
        On the text, before the first layer. Each step reads the document forwards and backwards with the scorer,
        which costs two to three times a prefill when the scorer is the model that answers.
    Shapes
        Document of T tokens, embeddings (T, E) -> a (T) -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact, in tokens of the model that answers. Sum of a_j is
        loss(e) - loss(0), as exactly as the sum over steps is the integral over α: for a loss that is a polynomial
        of degree 2 * steps - 1 along the way. The begin mark and the question stay as they are. Only embeddings have
        gradients, no more than a window exists at once, and parameters and modes of the model are left as they were.
    Raises
        InvalidValue: no question where it is explained, neither a scorer nor a model that answers, a stride that is
        not below the window, a window too small for the question, or a budget too small for `force`.
        UnknownModel: the scorer cannot be found.
    Deviations
        The paper explains what a classifier says of an image or a sentence, against any baseline. Here attributions
        rank what to drop; the baseline is zero, so that one step is gradient times input; and the places α_k are
        Radau's, which include α = 1 and are right for polynomials of the highest degree, not equally far apart.
        The norms of a language model make the way rough: on SmolLM2 and 14 tokens, 64 steps missed loss(e) - loss(0)
        by 2 of 3.5 nats, and four steps chose no better than one.
    Relations
        `attention_pruning` asks where the question looks instead, and costs half. `target=text` needs no
        question, and in our measurements found passages that answer one no better than chance.
    """

    card = Card(
        title="Axiomatic Attribution for Deep Networks (integrated gradients of a prompt)",
        year=2017,
        url="https://arxiv.org/abs/1703.01365",
        summary="keep the words or sentences on which the likelihood of the question depends, by its gradient",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5, "target": "text", "window": 64, "stride": 32},
        claims=(
            "half of the words make right answers of SmolLM2-135M likelier than a random half, and than the other half "
            "(16 questions over passages of 300 tokens)",
        ),
        deviations=(
            "attributions of a language model's loss rank what to drop; the paper explains single predictions",
            "the default is one step, which is gradient times input",
            "the baseline is zero embeddings for the document, while the begin mark and the question stay",
            "Gauss-Radau places and weights instead of a Riemann sum",
            "a text longer than the window has the loss of each window instead of one of the whole",
            "attributions by another tokenizer are spread over the characters of its tokens",
        ),
        exempt={"a_text_is_shortened_without_gradients": "its scores are gradients"},
    )

    units: Kind = part(Word(), doc="what is kept or dropped as a whole")
    target: str = choice("question", "text", default="question", doc="whose likelihood is explained")
    reference: str | None = setting(None, doc="continuation of text and question that is explained in their place")
    steps: int = positive(1, doc="gradients along the way from nothing to the embeddings; 1 is gradient times input")
    scorer: str | None = setting(None, doc="causal model that scores; none for the one that answers")
    window: int = positive(512, doc="tokens the scorer reads together, at most its context")
    stride: int = positive(384, doc="tokens by which the next window advances")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_below_window(type(self).__name__, "stride", self.stride, self.window)

    @property
    def needs_query(self) -> bool:  # type: ignore[override]
        """Only where the question is what is explained."""
        return self.target == "question" and not self.reference

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        scorer = scorer_for(self.scorer, model, self.name())
        ask = query.strip() if query and (self.reference or self.target == "question") else ""
        between = [BETWEEN, ask] if self.reference and ask else []
        goal = self.reference or ask
        context = "".join((*between, BETWEEN)) if goal else ""

        def measure(ids: Tensor) -> Tensor:
            return self.attributions(scorer, ids, plain_ids(scorer, context), plain_ids(scorer, goal)).abs()

        return document.units.mean(by_token(document, scorer, model, measure))

    def attributions(
        self, scorer: LanguageModel, ids: Int[Tensor, "T"], context: Int[Tensor, "C"], goal: Int[Tensor, "G"]
    ) -> Float[Tensor, "T"]:
        """What each token adds to the loss, in nats: that of `goal` after the text and `context`, else of the text."""
        begin = beginning(scorer)
        n, first = len(ids), len(begin)
        if not n:
            return torch.zeros(0)
        window, stride = reach(scorer, self.window, self.stride)
        body = room(window, first + len(context) + len(goal), self.name())
        # `rank` allows no gradients, and a caller perhaps not even tensors that could have some.
        with torch.inference_mode(False), torch.enable_grad(), at_rest(scorer.model):
            found = torch.zeros(n)
            for start, new, end in side_by_side(n, body) if len(goal) else sliding(n, body, stride):
                row = torch.cat((begin, ids[start:end], context, goal)).clone()
                told = len(goal) or end - max(new, 1 - first)
                loss = _Loss(scorer, row, first, first + end - start, told)
                found[start:end] += attributions(loss, loss.embeddings, self.steps).cpu()
        return found


class _Loss:
    """-log p of the last `told` tokens of a row, in nats, by the embeddings of its columns `low` … `high` - 1."""

    def __init__(self, scorer: LanguageModel, row: Int[Tensor, "N"], low: int, high: int, told: int) -> None:
        self.model = scorer.model
        self.row = row.to(scorer.device)
        self.told = told
        around = unwrap(scorer.model).get_input_embeddings()(self.row).detach()
        self.before, self.embeddings, self.behind = around[:low], around[low:high], around[high:]

    def __call__(self, embeddings: Float[Tensor, "T E"]) -> Float[Tensor, ""]:
        inputs = torch.cat((self.before, embeddings, self.behind)).unsqueeze(0)
        logits = self.model(inputs_embeds=inputs, use_cache=False, logits_to_keep=self.told + 1).logits[0, :-1]
        return cross_entropy(logits.float(), self.row[len(self.row) - self.told :], reduction="sum")
