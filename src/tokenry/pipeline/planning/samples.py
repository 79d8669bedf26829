"""What a plan is tried on: passages of documents with questions, and what chat messages hold with what was asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tokenry.compress.parts.auto import kind_of
from tokenry.models.text.document import Document
from tokenry.pipeline.messages.results import results

ASK = "What are the most important points of this text?"


@dataclass(frozen=True, slots=True)
class Sample:
    """One text with a question, and what the answer must hold where that is known."""

    documents: tuple[Document, ...]
    ask: str
    answer: str = ""

    @property
    def kind(self) -> str:
        """What its text is: sentences, a log, JSON and so on."""
        return kind_of(self.documents[0].text).name()


def samples(documents: Sequence[Document], asks: Sequence[str], passage: int) -> list[Sample]:
    """Passages of about `passage` characters, cut between paragraphs, each with every question."""
    passages = [part for d in documents for part in _passages(d, passage)]
    return [Sample((p,), ask) for p in passages for ask in asks or (ASK,)]


def samples_of_messages(messages: Sequence[Any], passage: int) -> list[Sample]:
    """Results of tools and pasted documents in passages, each with what the user asked there."""
    found = []
    for result in results(messages, documents=True):
        document = Document(result.text, result.tool)
        found += [Sample((p,), result.ask or ASK) for p in _passages(document, passage)]
    return found


def mixed(found: Sequence[Sample], limit: int) -> list[Sample]:
    """At most so many, evenly over all texts, in an order of which every beginning is mixed too."""
    some = [found[i * len(found) // limit] for i in range(limit)] if len(found) > limit else list(found)
    Random(0).shuffle(some)
    return some


def digest(given: Sequence[Sample]) -> str:
    """What tells samples from others."""
    return hashlib.sha256(repr([asdict(s) for s in given]).encode("utf-8", "surrogatepass")).hexdigest()


def _passages(document: Document, size: int) -> Iterator[Document]:
    """Paragraphs joined up to `size` characters; a last short one goes with the one before.

    Of what has no paragraphs, such as a log or JSON, lines are joined.
    """
    between = r"(?<=\n\n)" if "\n\n" in document.text.strip() else r"(?<=\n)"
    parts: list[str] = []
    for paragraph in re.split(between, document.text):
        if parts and (len(parts[-1]) + len(paragraph) <= size or len(parts[-1]) < size // 4):
            parts[-1] += paragraph
        else:
            parts.append(paragraph)
    if len(parts) > 1 and len(parts[-1]) < size // 4:
        parts[-2:] = ["".join(parts[-2:])]
    for i, part in enumerate(parts):
        if part.strip():
            yield Document(part, f"{document.name or 'document'} {i + 1}")
