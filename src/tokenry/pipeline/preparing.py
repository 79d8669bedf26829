"""What the methods of a pipeline make of a prompt before the model reads it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache

from tokenry.compress.base import Compressor
from tokenry.compress.scores.ranking import Ranking
from tokenry.core.errors import Incompatible
from tokenry.core.progress import now
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.vocabulary import vocabulary_of
from tokenry.pipeline.stages import Prepares, Stages
from tokenry.segment.spelling.respeller import Respeller


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One method's work on a prompt.

    Args:
        before: the tokens it got, and `batch` those it left.
        ranking: of a compressor.
    """

    method: Prepares
    before: TokenBatch
    batch: TokenBatch
    seconds: float
    ranking: Ranking | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A prompt on its way to the model.

    Args:
        tokens: as the tokenizer gave them.
        changes: what every method made of them.
    """

    tokens: TokenBatch
    changes: tuple[Change, ...] = ()

    @property
    def final(self) -> TokenBatch:
        """What the model reads."""
        return self.changes[-1].batch if self.changes else self.tokens

    @property
    def spelled(self) -> TokenBatch:
        """The tokens whose fate is told: as the tokenizer gave them, or as they were spelled anew."""
        anew = [c.batch for c in self.changes if isinstance(c.method, Respeller)]
        return anew[-1] if anew else self.tokens

    @property
    def seconds(self) -> float:
        return sum(c.seconds for c in self.changes)


@torch.no_grad()
def prepare(tokens: TokenBatch, stages: Stages, ask: str | None, language: LanguageModel | None) -> Prepared:
    """Let each method do its work on the prompt, with a clock.

    Raises:
        Incompatible: a method that needs the model that answers, where there is none.
    """
    changes: list[Change] = []
    for method in stages.preparing:
        before = changes[-1].batch if changes else tokens
        now(f"{method.name()} works on {int(before.mask.sum()):,} tokens")
        start = time.perf_counter()
        after, ranking = _apply(method, before, ask, language)
        changes.append(Change(method, before, after, time.perf_counter() - start, ranking))
    return Prepared(tokens, tuple(changes))


def cache_of(batch: TokenBatch, stages: Stages, language: LanguageModel) -> Cache | None:
    """Keys and values of the first columns of a prepared prompt, where a soft method brings some; new at every call."""
    return next((c for m in stages.soft if (c := m.cache(batch, language)) is not None), None)


def _apply(
    method: Prepares, batch: TokenBatch, ask: str | None, language: LanguageModel | None
) -> tuple[TokenBatch, Ranking | None]:
    if isinstance(method, Compressor):
        ranking = method.rank(batch, ask, model=language)
        return method.fit(batch, ranking), ranking
    if language is None:
        raise Incompatible(f"{method}: acts on tokens of the model that answers, and there is none; leave it out.")
    if isinstance(method, Respeller):
        return method.apply(batch, vocabulary_of(language.tokenizer)), None
    return method.embed(batch, language), None
