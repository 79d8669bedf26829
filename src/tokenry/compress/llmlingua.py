"""LLMLingua: read a text in segments, each after what the segments before it were compressed to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.parts.kind import Kind, Token
from tokenry.compress.scores.information import information
from tokenry.compress.scores.prefix_reader import PrefixReader
from tokenry.compress.scores.ranking import Ranking
from tokenry.compress.scores.scorer import check_below_window, reach, scorer_for, spread
from tokenry.compress.units.document import Document
from tokenry.compress.units.keepsakes import keepsakes
from tokenry.compress.units.page import Page, Units
from tokenry.core.card import Card
from tokenry.core.fields import between, part, positive, setting
from tokenry.core.progress import counted
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_tokens


@dataclass(frozen=True, kw_only=True)
class LLMLingua(Compressor):
    """Keep the tokens that surprise a causal model which reads the compressed text before them.

    What it does
        Coarse: sources of a row are ranked by perplexity, the highest first, and taken until they hold more than
        `coarse` times the budget. Fine: the text of these is read in segments s_1, s_2, … of `segment` tokens,
        I_j = -log p(x_j | t_1 … t_{k-1}, the tokens of s_k before x_j) in nats, where t_i is what was kept of s_i.
        Of each segment the tokens with the highest I stay, as many as its share of the budget.
    Where it acts
        On the text, before the first layer; needs no query. The scorer reads what the first step leaves once, and
        what the second keeps once more; several sources are read once before that.
    Shapes
        Document of T tokens and U units -> I (T) -> scores (U): 1 to 2 for what stays, 0 to 1 for what goes, below 0
        for what goes with its whole source.
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact, in tokens of the model that answers: numbers of the
        segments are rounded such that their sum is the budget. With `units=token` what stays is what the segments
        chose; with words, too, but for one word at most and the few tokens that no whole word fills. I of a segment
        is that of a plain forward over the compressed text and the segment, as long as both fit into `window`.
    Raises
        InvalidValue: neither a scorer nor a model that answers, a segment that is not below the window, or a budget
        too small for `force`.
        UnknownModel: the scorer cannot be found.
    Deviations
        The threshold of a segment is the one that keeps exactly its share. Template and question are protected and
        not compressed at rates of their own. Distribution alignment is training of the scorer and none of this
        method: any causal model may be given as scorer, tuned or not. Where the compressed text outgrows `window`,
        only the latest part of it is read.
    Relations
        `self_information` reads the text itself, not the compressed one; `llmlingua2` needs no causal model.
    """

    card = Card(
        title="LLMLingua: Compressing Prompts for Accelerated Inference of Large Language Models",
        year=2023,
        url="https://arxiv.org/abs/2310.05736",
        summary="keep the tokens that surprise a language model after the compressed text before them",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5, "segment": 16, "window": 64},
        claims=(
            "half of a passage keeps the right answers of SmolLM2-135M likelier than a random half does, in tokens and "
            "in words",
        ),
        deviations=(
            "every segment keeps exactly its share of the budget, where the paper keeps what lies above a threshold "
            "estimated for that share and misses the budget by what the estimate is off",
            "template and question are protected, so they get no rates of their own (0.85 and 0.9 in the paper)",
            "the scorer is any causal model, by default the one that answers; aligning it by instruction tuning is "
            "up to who brings it",
            "kept tokens after a dropped one are read anew, so that the cache is that of the compressed text",
            "of a compressed text that outgrows the window only the latest part is read",
            "the published code also drops sentences between the two steps; here it does not",
            "information measured with another tokenizer is spread over the bytes of its tokens",
        ),
    )

    units: Kind = part(Token(), doc="what is kept or dropped as a whole")
    scorer: str | None = setting(None, doc="causal model that scores; none for the one that answers")
    segment: int = positive(200, doc="tokens that are chosen from at a time")
    coarse: float = between(1.0, 100.0, default=2.0, doc="sources are taken until they hold this many times the budget")
    window: int = positive(2048, doc="tokens the scorer reads together, at most its context")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_below_window(type(self).__name__, "segment", self.segment, self.window)

    def judge(
        self, batch: TokenBatch, found: list[Document], query: str | None, model: LanguageModel | None
    ) -> Ranking:
        sources = batch.spans()[..., 0].cpu()
        scores = (self._scored(d, sources[row, d.columns].numpy(), model) for row, d in enumerate(found))
        return Ranking(tuple(found), tuple(scores))

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        """Of a document that is one source; `judge` knows the sources of a batch."""
        return self._scored(document, np.zeros(len(document.free), dtype=np.int64), model)

    def _scored(self, document: Page, source: Int[np.ndarray, "T"], model: LanguageModel | None) -> Float[Tensor, "U"]:
        """What the segments choose, written as scores."""
        if not len(document.units):
            return torch.zeros(0)
        scorer = scorer_for(self.scorer, model, self.name())
        text = _Text.of(document, scorer, own=scorer is model)
        window, _ = reach(scorer, self.window, self.segment)
        surprise, taken = self._coarse(text, source, scorer, window)
        reader = PrefixReader(scorer, piece=min(self.segment, window // 2), window=window)
        kept = self._fine(text, taken, surprise, reader)
        stays, seen = (np.bincount(document.units.of, weights=mask) > 0 for mask in (kept & document.free, taken))
        nats = document.units.mean(torch.from_numpy(surprise)).clamp_min(0)
        return (nats / (1 + nats) + torch.from_numpy(stays * 1.0 - ~(stays | seen))).float().nan_to_num()

    def _coarse(
        self, text: _Text, source: Int[np.ndarray, "T"], scorer: LanguageModel, window: int
    ) -> tuple[Float[np.ndarray, "T"], Bool[np.ndarray, "T"]]:
        """The tokens of the sources that are taken, and what was found out about all tokens on the way."""
        free = text.document.free
        surprise, taken = np.zeros(len(free)), np.zeros(len(free), dtype=bool)
        goal = self.coarse * self.budget.count(text.document.size)
        sources = np.unique(source).tolist()
        if len(sources) == 1 or goal >= text.document.size:
            return surprise, ~taken
        mean = {}
        for s in sources:
            part = np.flatnonzero(source == s)
            found = information(scorer, text.ids_of(part), window=window, stride=max(1, window * 3 // 4))
            surprise[part] = text.handed_on(found, part)
            mean[s] = float(found.mean()) if len(found) else 0.0
        for s in sorted(sources, key=lambda s: -mean[s]):
            if (taken & free).sum() > goal:
                break
            taken |= source == s
        return surprise, taken

    def _fine(
        self, text: _Text, taken: Bool[np.ndarray, "T"], surprise: Float[np.ndarray, "T"], reader: PrefixReader
    ) -> Bool[np.ndarray, "T"]:
        """Which tokens stay; fills in the surprise of all that are read."""
        document = text.document
        forced = keepsakes(document, self.force)[document.words.of]
        kept = forced | ~document.free
        loose = taken & ~kept
        share = max(0, self.budget.count(document.size) - int((forced & document.free).sum()))
        total, passed, spent = int(loose.sum()), 0, 0
        standing: list[int] = []
        segments = list(_segments(np.flatnonzero(taken | kept), document.units, self.segment))
        for piece in counted(segments, "reading segment", len(segments)):
            surprise[piece] = text.handed_on(reader.read(standing, text.ids_of(piece)), piece)
            passed += int(loose[piece].sum())
            # Rounded on the way, so that the numbers of all segments add up to the share.
            allowed = (2 * share * passed + total) // (2 * total) - spent if total else 0
            chosen = _best(document.units.of[piece], surprise[piece], loose[piece], allowed)
            kept[piece] |= chosen
            spent += int(chosen.sum())
            standing += text.standing(piece, kept)
        return kept


def _segments(tokens: Int[np.ndarray, "R"], units: Units, size: int) -> Iterator[Int[np.ndarray, "P"]]:
    """The tokens to read in parts of at most `size`, or of one longer unit; no unit is divided."""
    edges = np.append(np.flatnonzero(np.diff(units.of[tokens], prepend=-1)), len(tokens))
    cuts = [0]
    while cuts[-1] < len(tokens):
        longest = edges[np.searchsorted(edges, cuts[-1] + size, side="right") - 1]
        following = edges[np.searchsorted(edges, cuts[-1], side="right")]
        cuts.append(int(max(longest, following)))
    for low, high in pairwise(cuts):
        yield tokens[low:high]


def _best(
    unit: Int[np.ndarray, "P"], surprise: Float[np.ndarray, "P"], loose: Bool[np.ndarray, "P"], allowed: int
) -> Bool[np.ndarray, "P"]:
    """The loose tokens of the most surprising units of a segment, `allowed` of them or as many as whole units make."""
    of = np.unique(unit, return_inverse=True)[1]
    size = np.bincount(of, weights=loose).astype(np.int64)
    order = np.argsort(-np.bincount(of, weights=surprise) / np.bincount(of), kind="stable")
    chosen = np.zeros(len(size), dtype=bool)
    for u in order.tolist():
        if size[u] <= allowed:
            chosen[u] = True
            allowed -= size[u]
    return chosen[of] & loose


@dataclass(frozen=True, eq=False)
class _Text:
    """A document in tokens of the scorer, each with the first and the last of the document's tokens that it touches."""

    document: Page
    ids: Int[Tensor, "S"]
    first: Int[np.ndarray, "S"]
    last: Int[np.ndarray, "S"]
    spans: Int[np.ndarray, "S 2"] | None

    @classmethod
    def of(cls, document: Page, scorer: LanguageModel, own: bool) -> _Text:
        if own and document.ids is not None and bool((document.ids >= 0).all()):
            every = np.arange(len(document.ids))
            return cls(document, document.ids, every, every, None)
        tokens = text_tokens(scorer.tokenizer, document.text)
        spans = tokens.spans
        ends = np.maximum(spans[:, 1] - 1, spans[:, 0])
        first, last = (
            np.maximum(np.searchsorted(document.starts, at, side="right") - 1, 0) for at in (spans[:, 0], ends)
        )
        return cls(document, torch.tensor(tokens.ids, dtype=torch.long), first, last, spans)

    def ids_of(self, part: Int[np.ndarray, "P"]) -> Int[Tensor, "_"]:
        """What the scorer reads for some tokens of the document."""
        return self.ids[torch.from_numpy(self._mine(part))]

    def handed_on(self, found: Float[Tensor, "_"], part: Int[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
        """Values of what was read as values of the document's tokens."""
        if self.spans is None:
            return found.double().numpy()
        return spread(found, self.spans[self._mine(part)], self.document).double().numpy()[part]

    def standing(self, part: Int[np.ndarray, "P"], kept: Bool[np.ndarray, "T"]) -> list[int]:
        """What the scorer finds of a part in the compressed text: its tokens of which something was kept."""
        mine = self._mine(part)
        before = np.concatenate(([0], np.cumsum(kept)))
        stays = before[self.last[mine] + 1] > before[self.first[mine]]
        return self.ids[torch.from_numpy(mine[stays])].tolist()

    def _mine(self, part: Int[np.ndarray, "P"]) -> Int[np.ndarray, "_"]:
        if self.spans is None:
            return part
        inside = np.zeros(len(self.document.free), dtype=bool)
        inside[part] = True
        return np.flatnonzero(inside[self.first])
