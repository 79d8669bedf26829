"""Who answers the tasks of a benchmark: a model that writes, or one that chooses among candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.learned import Learned
from tokenry.core.tokens import TokenBatch
from tokenry.measure.base import Numbers, Sample
from tokenry.measure.tasks.candidates import choose
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_ids


class Pipeline(Protocol):
    """What `tokenry.Pipeline` is to this room."""

    @property
    def methods(self) -> Any: ...

    def prepare(self, documents: str, language: LanguageModel, ask: str | None, *, max_new: int) -> Any: ...

    def follow(self, language: LanguageModel, batch: TokenBatch, ids: Int[Tensor, "N"]) -> Float[Tensor, "N V"]: ...

    def generate(self, documents: str, model: Any, ask: str | None = None, *, max_new: int = 64) -> Any: ...


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and numbers beside the score of its text."""

    text: str
    scores: Numbers = field(default_factory=dict)


class Answering(Protocol):
    """Answers a task."""

    def __call__(self, sample: Sample) -> Said: ...

    def describe(self) -> dict[str, Any]:
        """What decides the answers, as plain values."""


@dataclass(frozen=True, slots=True)
class Told:
    """Answers by a function of the task: a solver, a program, a model behind an API."""

    answer: Callable[[Sample], str]
    name: str = "function"

    def __call__(self, sample: Sample) -> Said:
        return Said(self.answer(sample))

    def describe(self) -> dict[str, Any]:
        return {"answers": self.name}


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Answers by generating greedily with a pipeline.

    Args:
        language: the model.
        pipeline: its methods; an empty one is the model alone.
        max_new: most tokens of an answer.
    """

    language: LanguageModel
    pipeline: Pipeline
    max_new: int = 64

    def __call__(self, sample: Sample) -> Said:
        trace = self.pipeline.generate(sample.text, self.language, sample.ask, max_new=self.max_new)
        return Said(trace.answer)

    def describe(self) -> dict[str, Any]:
        return _describe(self.language, self.pipeline) | {"answers": "generated", "max_new": self.max_new}


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Answers by choosing item after item among candidates, each after the right items before it.

    The right answer is fed token by token behind the prompt, so that everything but the prompt is read as an attached
    method reads while it decodes. Where candidates part, the most likely token is chosen (see `candidates`). This
    measures whether a model finds what it could not write by itself.

    Args:
        language: the model.
        pipeline: its methods; an empty one is the model alone.
    """

    language: LanguageModel
    pipeline: Pipeline

    def __call__(self, sample: Sample) -> Said:
        if not sample.candidates:
            raise InvalidValue(f"{sample.id}: must have candidates to choose among; got none; generate the answer.")
        decoder = next((m for m in self.pipeline.methods if m.room == "decode"), None)
        if decoder is not None:
            raise Incompatible(f"{decoder}: chooses what is said; nothing is left to choose here; generate the answer.")
        right = self._ids(sample.write(sample.answers))
        batch = self.pipeline.prepare(sample.text, self.language, sample.ask, max_new=len(right)).final
        logits = self.pipeline.follow(self.language, batch, torch.tensor(right))
        said, logprobs = [], []
        for i, answer in enumerate(sample.answers):
            others = [c for c in sample.candidates if c != answer]
            ways = [self._ids(sample.write((*sample.answers[:i], c))) for c in others]
            choice = choose(right, ways, logits)
            said.append(answer if choice.picked is None else others[choice.picked])
            logprobs.append(choice.logprob)
        return Said(sample.write(said), {"logprob": sum(logprobs) / len(logprobs)})

    def describe(self) -> dict[str, Any]:
        return _describe(self.language, self.pipeline) | {"answers": "chosen"}

    def _ids(self, text: str) -> Sequence[int]:
        return text_ids(self.language.tokenizer, text)


def _describe(language: LanguageModel, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "model": language.name,
        "dtype": str(language.dtype).removeprefix("torch."),
        "pipeline": [str(method) for method in pipeline.methods],
        "learned": [method.digest() for method in pipeline.methods if isinstance(method, Learned)],
    }
