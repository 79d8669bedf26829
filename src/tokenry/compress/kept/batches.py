"""A batch of tokens, shortened: tokens are taken out, or rows are written anew by a kind that reads a format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tokenry.compress.kept.choose import Choice, in_turn, ranked
from tokenry.compress.kept.writing import Piece, pieces, written
from tokenry.compress.parts.kind import Sentence, Word
from tokenry.compress.scores.ranking import Ranking
from tokenry.compress.units.document import Document
from tokenry.compress.units.keepsakes import keepsakes
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.tokens import TokenBatch
from tokenry.models.text.as_text import text_tokens

if TYPE_CHECKING:
    from tokenry.compress.base import Compressor
    from tokenry.models.files.load import LanguageModel


def fitted(method: Compressor, batch: TokenBatch, ranking: Ranking, model: LanguageModel | None) -> TokenBatch:
    """See `Compressor.fit`."""
    if not isinstance(method.units, Sentence | Word):
        return _rewritten(method, batch, ranking, model)
    stays = batch.mask.cpu().clone()
    for row, document in enumerate(ranking.documents):
        count = method.budget.count(document.size)
        forced = keepsakes(document, method.force)
        _check(method, document, int((forced[document.words.of] & document.free).sum()), count, row)
        stays[row, document.columns] = torch.from_numpy(method.choose(ranking, row, count, forced))
    if torch.equal(stays, batch.mask.cpu()):
        return batch
    return batch.only(stays).renumbered()


def _check(method: Compressor, document: Document, needed: int, count: int, row: int) -> None:
    if needed > count:
        raise InvalidValue(
            f"{method.name()}: budget must hold the {needed} tokens of row {row} that "
            f"force={'+'.join(method.force)} keeps; got {method.budget}, which is {count} of {document.size}; "
            f"raise the budget or force less."
        )


def _rewritten(method: Compressor, batch: TokenBatch, ranking: Ranking, model: LanguageModel | None) -> TokenBatch:
    """Every row written anew: what is left of its texts and the marks, tokenized; all other tokens as they were."""
    if model is None:
        raise Incompatible(
            f"{method.name()}: units={method.units} must be written anew in tokens of the model that answers, and "
            f"there is none; pass model=, or shorten the text."
        )
    rows = []
    for row, document in enumerate(ranking.documents):
        kept = _units(method, document, ranking, row)
        rows.append([] if kept is None else _spelled(document, pieces(document.text, document.cut, kept), model))
    if not any(rows):
        return batch
    return batch.retold([d.columns for d in ranking.documents], rows).renumbered()


def _units(method: Compressor, document: Document, ranking: Ranking, row: int) -> np.ndarray | None:
    """The units of a row that stay; None where all do."""
    count, cut = method.budget.count(document.size), document.cut
    forced = keepsakes(document, method.force)[document.words.of] | ~document.free
    sizes = np.bincount(document.units.of, weights=document.free, minlength=len(cut)).astype(np.int64)
    must = np.zeros(len(cut), dtype=bool)
    must[np.unique(document.units.of[forced])] = len(cut) > 0
    must = cut.with_parents(must)
    _check(method, document, int(sizes[must].sum()), count, row)
    if count >= document.size:
        return None
    scores = ranking.scores[row].numpy().astype(np.float64)
    worth = np.ones(len(cut), dtype=bool) if method.fill else method.worth(scores)
    choice = Choice.begin(cut, sizes, mark=0, frame=0)
    choice.take(ranked(cut, scores, must), count)
    for order, most in in_turn(cut, scores, cut.strong & method.guard, worth, count):
        choice.take(order, most)
    return choice.kept


def _spelled(document: Document, left: list[Piece], model: LanguageModel) -> list[tuple[int, list[tuple[int, float]]]]:
    """The tokens of what is left: the id of each, and which tokens of the document it holds how much of."""
    text = written(left)
    tokens = text_tokens(model.tokenizer, text)
    home = np.full(len(text), -1, dtype=np.int64)  # the character of the document that each written one is
    at = 0
    for piece in left:
        if not piece.mark:
            home[at : at + len(piece.text)] = np.arange(piece.start, piece.end)
        at += len(piece.text)
    starts, lengths = document.starts, np.maximum(document.ends - document.starts, 1)
    found = []
    for i, (a, b) in zip(tokens.ids, tokens.spans.tolist(), strict=True):
        inside = home[a:b][home[a:b] >= 0]
        token, held = np.unique(np.searchsorted(starts, inside, side="right") - 1, return_counts=True)
        shares = [(int(t), min(1.0, n / lengths[t])) for t, n in zip(token.tolist(), held.tolist(), strict=True)]
        found.append((int(i), shares))
    return found
