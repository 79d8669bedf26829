"""What soft tokens learn from: prompts with their answers, from a file to batches of tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_tokens
from tokenry.models.text.document import Document
from tokenry.models.text.end import end_ids
from tokenry.models.text.prompt import prompt

LARGEST = 64 << 20
"""Bytes of a file of examples beyond which it is refused."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, without chat template, and what the model shall say to it."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """An example as tokens.

    Args:
        prompt: one row, in the chat template where the model has one, as for generation.
        answer: ids of the answer and of the end mark after it.
    """

    prompt: TokenBatch
    answer: Int[Tensor, "T"]


def read_examples(file: str | Path) -> list[Example]:
    """Examples from JSONL: one object on each line, with the texts `prompt` and `answer`; other keys are ignored.

    Raises:
        UnreadableInput: missing, too large, or not UTF-8.
        InvalidValue: a line that is no such object, or no line at all.
    """
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(LARGEST + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInput(f"{file}: must be a readable file of UTF-8; {error}.") from error
    if len(data) > LARGEST:
        raise UnreadableInput(f"{file}: must be at most {LARGEST >> 20} MB; split it.")
    # Not splitlines: a text may hold U+2028 and its like.
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    found = [_example(file, i, line) for i, line in lines]
    if not found:
        raise InvalidValue(f"{file}: must hold at least one example; got none; write one JSON object a line.")
    return found


def lessons(
    language: LanguageModel, examples: Sequence[Example], system: str | None = None, *, marks: bool = False
) -> list[Lesson]:
    """Examples as tokens.

    Args:
        system: what stands before the user's text in a chat template.
        marks: the spelling of a mark in them, such as `<tool_call>`, is that mark; else it is text like all others.

    Raises:
        InvalidValue: no example, an empty prompt, an answer without tokens, or an example longer than the context.
    """
    if not examples:
        raise InvalidValue("examples: must hold at least one; got none.")
    return [_lesson(language, i, example, system, marks) for i, example in enumerate(examples, 1)]


def answers(batch: Sequence[Lesson]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The answers, padded on the right, and which of their tokens are real."""
    longest = max(len(lesson.answer) for lesson in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, lesson in zip(ids, batch, strict=True):
        row[: len(lesson.answer)] = lesson.answer
    lengths = torch.tensor([len(lesson.answer) for lesson in batch])
    return ids, torch.arange(longest) < lengths[:, None]


def fingerprint(examples: Sequence[Example]) -> str:
    """The same for the same examples in the same order."""
    return hashlib.sha256(json.dumps([(e.prompt, e.answer) for e in examples]).encode()).hexdigest()


def _example(file: str | Path, number: int, line: str) -> Example:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise InvalidValue(f"{file}: line {number} must be a JSON object; {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in ("prompt", "answer")):
        raise InvalidValue(f"{file}: line {number} must be an object with the texts prompt and answer; it is not.")
    return Example(found["prompt"], found["answer"])


def _lesson(language: LanguageModel, number: int, example: Example, system: str | None, marks: bool) -> Lesson:
    who = f"example {number}"
    if not example.prompt:
        raise InvalidValue(f"{who}: its prompt must hold some text; got none.")
    asked = prompt(language.tokenizer, [Document(example.prompt, marks=marks)], None, system)
    own = [(0, len(example.answer))] if marks else ()
    ids = text_tokens(language.tokenizer, example.answer, own=own).ids
    if not ids:
        raise InvalidValue(f"{who}: its answer must have at least one token; got {example.answer!r}.")
    said = torch.tensor([*ids, *end_ids(language.model)[:1]], dtype=torch.long)
    n = asked.shape[1] + len(said)
    if language.context is not None and n > language.context:
        raise InvalidValue(
            f"{who}: prompt and answer must fit into a context of {language.context} tokens; got {n}; shorten it."
        )
    return Lesson(asked, said)
