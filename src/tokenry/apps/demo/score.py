"""All questions about one document: is the answer still in the prompt, and is what the model says right?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenry.compress.kept.text import text_of
from tokenry.core.errors import ContextOverflow
from tokenry.core.tokens import TokenBatch
from tokenry.data import Question, is_correct, read
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Sampling
from tokenry.pipeline.pipeline import Pipeline

Tell = Callable[[str], None]
"""Is called with every question before it is asked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question.

    Args:
        there: the prompt holds a phrase that counts as right.
        answer: what the model said; None where the prompt did not fit.
        right: the answer holds such a phrase.
    """

    there: bool
    answer: str | None
    right: bool


def outcome(question: Question, read: TokenBatch | str, answer: str | None) -> Outcome:
    """How a question went, by what the model read and what it said."""
    text = read if isinstance(read, str) else text_of(read)
    return Outcome(is_correct(question, text), answer, answer is not None and is_correct(question, answer))


def shortened(
    questions: Sequence[Question],
    pipeline: Pipeline,
    language: LanguageModel,
    max_new: int,
    tell: Tell,
) -> list[Outcome]:
    """Every question with a prompt of its own, from which the methods of `pipeline` left tokens out."""
    found = []
    for question in questions:
        tell(question.ask)
        trace, _ = pipeline.run(read(question.document), language, question.ask, Sampling(max_new_tokens=max_new))
        found.append(outcome(question, trace.final, trace.answer))
    return found


def whole(questions: Sequence[Question], language: LanguageModel, max_new: int, tell: Tell) -> list[Outcome]:
    """Every question over the whole document, which the model reads once for all of them."""
    found, reading = [], None
    for question in questions:
        tell(question.ask)
        text = read(question.document)
        try:
            reading = reading or Pipeline().read(text, language, max_new=max_new)
            said = reading.ask(question.ask, max_new=max_new).text
        except ContextOverflow:
            said = None
        found.append(outcome(question, text, said))
    return found
