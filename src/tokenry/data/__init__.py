"""Sample documents in the public domain, and questions that score answers about them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """A question that one sample document answers.

    `document` is the name that `read` takes, `answers` are the accepted short
    answers, and `evidence` is the passage, verbatim, that holds one of them.
    """

    id: str
    document: str
    ask: str
    answers: tuple[str, ...]
    evidence: str


def documents() -> dict[str, Path]:
    """The sample documents: name to path of its UTF-8 text, in order of name."""
    return {path.stem: path for path in sorted((_HERE / "documents").glob("*.txt"))}


def read(name: str) -> str:
    """The whole text of the sample document `name`; `KeyError` if there is none."""
    return documents()[name].read_text(encoding="utf-8")


def questions() -> list[Question]:
    """The 30 questions over the sample documents, grouped by document."""
    entries = json.loads((_HERE / "questions.json").read_text(encoding="utf-8"))
    return [
        Question(
            id=entry["id"],
            document=entry["document"].removesuffix(".txt"),
            ask=entry["ask"],
            answers=tuple(entry["answers"]),
            evidence=entry["evidence"],
        )
        for entry in entries
    ]


def is_correct(question: Question, answer: str) -> bool:
    """Whether `answer` holds one of the accepted answers as whole words.

    Case, runs of white space, curly quotes and commas inside numbers do not
    matter. Part of a decimal number or the tail of a hyphenated word does not
    count: 16.5 does not hold 16, nor twenty-two two.
    """
    text = _normalised(answer)
    return any(_holds(text, _normalised(accepted)) for accepted in question.answers)


def _normalised(text: str) -> str:
    text = text.translate(_STRAIGHT_QUOTES).lower()
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return " ".join(text.split())


def _holds(text: str, phrase: str) -> bool:
    before = r"(?<!\w)(?<!\d\.)(?<![a-z]-)"
    after = r"(?!\w)(?!\.\d)"
    return re.search(before + re.escape(phrase) + after, text) is not None


_STRAIGHT_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
