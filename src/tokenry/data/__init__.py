"""Samples that are free to use: documents with questions that score answers, work of an agent, pictures and sounds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenry.data.image import Image
    from tokenry.data.sound import Sound

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


def build_log() -> str:
    """The sample log of a test run, in which one test fails."""
    return (_HERE / "work" / "build.log").read_text(encoding="utf-8")


def conversation() -> list[dict[str, Any]]:
    """The sample conversation with an agent that mends that test: chat messages with four results of tools."""
    found: list[dict[str, Any]] = json.loads((_HERE / "work" / "conversation.json").read_text(encoding="utf-8"))
    return found


def pictures() -> dict[str, Path]:
    """The sample photographs: name to path of its JPEG, in order of name."""
    return {path.stem: path for path in sorted((_HERE / "pictures").glob("*.jpg"))}


def picture(name: str) -> Image:
    """The sample photograph `name`; `KeyError` if there is none."""
    from tokenry.data.image import read_image

    return replace(read_image(pictures()[name]), name=name)


def sounds() -> dict[str, Path]:
    """The sample clips of read speech: name to path of its FLAC of 16 kHz, in order of name."""
    return {path.stem: path for path in sorted((_HERE / "sounds").glob("*.flac"))}


def clip(name: str) -> Sound:
    """The sample clip `name`; `KeyError` if there is none."""
    from tokenry.data.sound import read_sound

    return replace(read_sound(sounds()[name]), name=name)


def transcript(name: str) -> str:
    """What is said in the sample clip `name`, without capitals and marks; `KeyError` if there is none."""
    return sounds()[name].with_suffix(".txt").read_text(encoding="utf-8").strip()


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
