"""The sample documents are clean text and hold the answers to their questions; sample pictures are as described."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import unicodedata
from collections import Counter

import pytest

import tokenry.data as data
from tokenry.data import Question, documents, is_correct, questions, read

QUESTIONS = questions()


def by_id(question: Question) -> str:
    return question.id


def test_five_documents_and_thirty_questions() -> None:
    assert len(documents()) == 5
    assert len(QUESTIONS) == 30
    assert len({question.id for question in QUESTIONS}) == 30
    asked = Counter(question.document for question in QUESTIONS)
    assert set(asked) == set(documents())
    assert min(asked.values()) >= 2


@pytest.mark.parametrize("name", documents())
def test_document_is_clean_text(name: str) -> None:
    text = documents()[name].read_bytes().decode("utf-8")
    assert read(name) == text
    assert {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn")} == {"\n"}
    assert "\ufffd" not in text
    assert text == text.strip() + "\n"
    paragraphs = text.rstrip("\n").split("\n\n")
    assert all(p == " ".join(p.split()) for p in paragraphs)
    assert "gutenberg" not in text.lower()


def test_read_of_unknown_document() -> None:
    with pytest.raises(KeyError):
        read("no_such_document")


@pytest.mark.parametrize("question", QUESTIONS, ids=by_id)
def test_document_answers_question(question: Question) -> None:
    assert question.evidence in read(question.document)
    assert any(a.lower() in question.evidence.lower() for a in question.answers)
    assert is_correct(question, question.evidence)


@pytest.mark.parametrize("question", QUESTIONS, ids=by_id)
def test_question_does_not_give_answer_away(question: Question) -> None:
    assert question.ask.endswith("?")
    assert not any(a.lower() in question.ask.lower() for a in question.answers)
    assert not is_correct(question, question.ask)


@pytest.mark.parametrize("question", QUESTIONS, ids=by_id)
def test_every_accepted_answer_is_correct(question: Question) -> None:
    assert question.answers
    assert all(is_correct(question, f"It is {a.upper()}.") for a in question.answers)


def test_evidence_is_spread_over_each_document() -> None:
    for name in documents():
        text = read(name)
        at = [text.index(q.evidence) / len(text) for q in QUESTIONS if q.document == name]
        assert min(at) < 1 / 3
        assert any(1 / 3 <= place < 2 / 3 for place in at)
        assert max(at) > 2 / 3


@pytest.mark.parametrize(
    ("accepted", "answer", "correct"),
    [
        ("2,500,000", "About 2500000 people.", True),
        ("2500000", "About 2,500,000 people.", True),
        ("the king's men", "The  king\u2019s\nmen", True),
        ("Haiti", "haiti!", True),
        ("$100,000", "He paid $100,000.", True),
        ("93%", "It was 93% of 1928.", True),
        ("ten", "often", False),
        ("two", "twenty-two", False),
        ("16", "$16.5 billion", False),
        ("5", "16.5", False),
        ("100", "100,000", False),
        ("$100", "$1000", False),
        ("Haiti", "", False),
    ],
)
def test_is_correct(accepted: str, answer: str, correct: bool) -> None:
    question = dataclasses.replace(QUESTIONS[0], answers=(accepted,))
    assert is_correct(question, answer) is correct


def test_importing_the_samples_loads_no_torch_and_no_pillow() -> None:
    script = (
        "import sys, tokenry.data as d; d.pictures(), d.sounds(); print({'torch', 'PIL', 'soundfile'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "set()"


def test_sample_pictures() -> None:
    assert list(data.pictures()) == ["astronaut", "chelsea", "coffee", "rocket"]
    sources = (data._HERE / "SOURCES.md").read_text(encoding="utf-8")
    for name, path in data.pictures().items():
        image = data.picture(name)
        assert image.name == name
        assert max(image.pixels.shape) == 384
        assert image.pixels.float().std() > 30
        assert path.stat().st_size < 60_000
        y, x, _ = image.pixels.shape
        assert f"| `{name}.jpg` | {x} × {y} | {path.stat().st_size:,} |" in sources
        assert f"### {name}.jpg" in sources
    with pytest.raises(KeyError):
        data.picture("lena")


def test_work_of_an_agent() -> None:
    """Every result has its call, one test fails in the log, and no file names a machine."""
    sources = (data._HERE / "SOURCES.md").read_text(encoding="utf-8")
    for path in (data._HERE / "work").iterdir():
        assert f"| `{path.name}` | {path.stat().st_size:,} |" in sources
        assert f"### {path.name}" in sources
        named = set(re.findall(r"(?<![\w.])/(?:home|root|tmp|work|usr|opt|var|mnt)/[\w./-]*", path.read_text("utf-8")))
        assert all(name.startswith("/home/user/tokenry") for name in named)
    assert data.build_log().count(" FAILED ") == 1
    talk = data.conversation()
    calls = [call["id"] for message in talk for call in message.get("tool_calls", ())]
    assert calls == [message["tool_call_id"] for message in talk if message["role"] == "tool"]
    assert talk[-1]["role"] == "user"
