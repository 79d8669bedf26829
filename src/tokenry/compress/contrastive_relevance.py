"""Contrastive relevance: keep what the question makes likelier, most of it from documents that explain the question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.kept.fit import fit
from tokenry.compress.kept.sources import SourceRanking, apart, reordered, shares
from tokenry.compress.scores.information import beginning
from tokenry.compress.scores.likelihood import log_likelihood
from tokenry.compress.scores.ranking import Ranking
from tokenry.compress.scores.scorer import (
    BETWEEN,
    by_token,
    check_below_window,
    plain_ids,
    reach,
    room,
    scorer_for,
    sliding,
)
from tokenry.compress.units.document import Document
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.fields import between, positive, setting
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel

RESTRICT = "We can get the answer to this question in the given documents."
"""Said after the question, so that a document is asked whether it answers it (x^restrict of Eq. 2)."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveRelevance(Compressor):
    """Keep the units that the question makes likelier, the more of them the better their document explains it.

    What it does
        Coarse: r_k = -1/N_c sum_i log p(x_i | document k) in nats, over the N_c tokens x_i of the question and of a
        sentence that says that the documents answer it (Eq. 2). The documents with the smallest r_k that together
        hold `coarse` times the budget take part, the others are dropped. Of document k with rank I(r_k) = 0 … K'-1
        the share clip(budget / tokens of all K' + (1 - 2 I(r_k) / K') delta + c, 0, 1) of its tokens stays (Eq. 5),
        where c makes the budget exact.
        Fine: s_j = log p(x_j | question, x_<j) - log p(x_j | x_<j) (Eq. 3);  s(u) = mean of s_j over the tokens of u.
        `reorder` puts the best document first, and so on (Eq. 4).
    Where it acts
        On the text, before the first layer, with the query. Each source of the prompt is a document. The scorer reads
        every document twice, once after the question and once before it.
    Shapes
        Document of T tokens and U units -> s_j (T) -> scores (U);  K sources -> r_k (K) -> tokens of each (K).
    Guarantees
        `budget=1.0` without `reorder` changes nothing. The kept count is exact, in tokens of the model that answers;
        a lone document has the whole budget. A document that fits into `window` beside the question is read as a
        plain forward reads it. After `reorder` every token still knows its source and its place there.
    Raises
        InvalidValue: no query, neither a scorer nor a model that answers, a stride that is not below the window, a
        question that does not fit into it, or a budget too small for `force`.
        UnknownModel: the scorer cannot be found.
    Deviations
        A document is scored after the question alone, not after the compressed documents before it, and in one pass
        instead of segment by segment. Whole units stay: with a small scorer, single tokens lose the answer. A constant
        added to Eq. 5 makes the budgets add up. In a document longer than the window, r_k is the smallest of its
        windows'. The question and what frames it are never compressed.
    Relations
        `self_information` knows nothing of the question. `dense_relevance` and `lexical_relevance` need no language
        model; where question and answer share rare words, the latter keeps as many answers. `recover` leads from an
        answer back to the original, for any compressor; unlike the paper's, it never goes over what was dropped.
    """

    card = Card(
        title="LongLLMLingua: Accelerating and Enhancing LLMs in Long Context Scenarios via Prompt Compression",
        year=2023,
        url="https://arxiv.org/abs/2310.06839",
        summary="keep what the question makes likelier, most of it from documents that explain the question",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5},
        claims=(
            "with a scorer of 135M parameters, most passages that answer a sample question are ranked first of eight",
            "at a quarter of the tokens of eight passages most answers stay, by chance about a quarter",
        ),
        deviations=(
            "units are sentences by default, not tokens, which lose more answers with a scorer of 135M parameters",
            "a document is scored after the question alone, not after the compressed documents before it",
            "a document is scored in one pass, not in segments that are compressed one after another",
            "a constant is added to the shares of Eq. 5, so that the budgets of the documents add up exactly",
            "the best documents take part until they hold twice the budget, as in the paper; the published code takes "
            "100 tokens more than the budget instead, and spreads shares evenly around it",
            "a blank line stands between a document and the question after it, where the published code has nothing",
            "a document longer than the window is read in windows, and is worth as much as the best of them",
            "instruction and question are not compressed, and documents are reordered only on request",
        ),
    )

    coarse: float = between(1.0, 1000.0, default=2.0, doc="the best documents that hold this many budgets take part")
    delta: float = between(0.0, 1.0, default=0.3, doc="share that the best document keeps more than the middle one")
    reorder: bool = setting(False, doc="put the documents into the order of their rank, the best first")
    scorer: str | None = setting(None, doc="causal model that scores; none for the one that answers")
    window: int = positive(1024, doc="tokens the scorer reads together, at most its context")
    stride: int = positive(768, doc="tokens by which the next window advances")
    needs_query = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_below_window(type(self).__name__, "stride", self.stride, self.window)

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        return document.units.mean(self.read(document, query, model)[0])

    def read(self, document: Page, query: str | None, model: LanguageModel | None) -> tuple[Float[Tensor, "T"], float]:
        """s_j of the tokens of one document, and its r_k."""
        assert query is not None
        scorer = scorer_for(self.scorer, model, self.name())
        gap, first = plain_ids(scorer, BETWEEN), plain_ids(scorer, query.strip() + BETWEEN)
        last = torch.cat((gap, plain_ids(scorer, f"{query.strip()} {RESTRICT}")))
        window, stride = reach(scorer, self.window, self.stride)
        fixed = len(beginning(scorer)) + max(len(first), len(last))
        body = room(window, fixed, self.name())
        found = []

        def contrast(ids: Tensor) -> Tensor:
            # Both readings have the same windows, so that they differ in the question alone. What the question takes
            # away from a window is taken from its stride, so that tokens have as many before them as without it.
            windows = list(sliding(len(ids), body, max(1, body // 2, stride - fixed)))
            alone, question = log_likelihood(scorer, ids, windows, after=last)
            asked, _ = log_likelihood(scorer, ids, windows, before=first)
            found.append(-question[:, len(gap) :].mean(1).amax())
            return asked - alone

        return by_token(document, scorer, model, contrast), float(found[0])

    def judge(
        self, batch: TokenBatch, found: list[Document], query: str | None, model: LanguageModel | None
    ) -> SourceRanking:
        source = batch.spans()[..., 0].cpu()
        scores, ranked = [], []
        for row, document in enumerate(found):
            parts = apart(document, source[row, document.columns])
            readings = [self.read(part.document, query, model) for part in parts]
            scored = torch.zeros(len(document.units))
            for part, (contrast, _) in zip(parts, readings, strict=True):
                own = part.document.units.mean(contrast.float().cpu()).nan_to_num()
                scored[torch.from_numpy(part.of(document.units))] = own
            scores.append(scored)
            ranked.append(tuple(parts[k] for k in np.argsort([r for _, r in readings], kind="stable")))
        return SourceRanking(tuple(found), tuple(scores), tuple(ranked))

    def choose(self, ranking: Ranking, row: int, count: int, forced: Bool[np.ndarray, "W"]) -> Bool[np.ndarray, "T"]:
        assert isinstance(ranking, SourceRanking)
        document, parts = ranking.documents[row], ranking.parts[row]
        must = forced[document.words.of] & document.free
        sizes, needs = [p.document.size for p in parts], [int(must[p.tokens].sum()) for p in parts]
        stays = ~document.free
        if not parts:
            return stays
        counts = shares(sizes, needs, count, delta=self.delta, coarse=self.coarse)
        for part, own in zip(parts, counts, strict=True):
            scores = ranking.scores[row][torch.from_numpy(part.of(document.units))]
            stays[part.tokens] = fit(part.document, scores, int(own), forced[part.of(document.words)])
        return stays

    def fit(self, batch: TokenBatch, ranking: Ranking, *, model: LanguageModel | None = None) -> TokenBatch:
        after = super().fit(batch, ranking, model=model)
        assert isinstance(ranking, SourceRanking)
        return reordered(after, [[p.source for p in row] for row in ranking.parts]) if self.reorder else after
