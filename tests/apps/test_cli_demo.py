"""The demonstration: what it shows is what was run, and a model whose context is too short is no obstacle."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from tests.compress.compress_rows import batch
from tokenry.apps.demo.evidence import Evidence, evidence_of
from tokenry.apps.demo.score import outcome
from tokenry.apps.demo.screen import Screen
from tokenry.data import questions

QUESTION = next(q for q in questions() if q.id == "sotu-1975-01")


@pytest.fixture
def screen(monkeypatch):
    shown = Screen()
    monkeypatch.setattr(shown, "_out", Console(width=100, record=True, highlight=False))
    return shown


def said(screen) -> str:
    return " ".join(screen._out.export_text().split())


def test_a_sentence_and_its_fate():
    text = "It rained. The lamp cost 59 crowns. Nobody paid."
    before = batch(text)
    spans = before.origin.spans[0, :, :2].tolist()
    stay = [i for i, (a, b) in enumerate(spans) if "lamp" not in text[a:b] and a < text.index("Nobody") - 1]
    found = evidence_of("The lamp cost 59 crowns.", before, before.take(torch.tensor([stay])))
    assert "".join(found.tokens).strip() == "The lamp cost 59 crowns."
    assert [token for token, kept in zip(found.tokens, found.kept, strict=True) if not kept] == [" lamp"]
    assert [kept for _, kept in found.pieces()] == [True, False, True]
    assert text[spans[found.first][0] : spans[found.last][1]].strip() == "The lamp cost 59 crowns."


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ((True, True, True), "all of its 3 tokens are kept"),
        ((False, False, False), "none of its 3 tokens is kept"),
        ((True, False, True), "2 of its 3 tokens are kept: a … c"),
    ],
)
def test_the_fate_in_words(screen, kept, words):
    screen.evidence(QUESTION, {"a quarter": Evidence(("a", " b", " c"), kept, 1441)})
    shown = said(screen)
    assert words in shown
    assert "tokens 1,441 to 1,443 a b c" in shown


def test_answers_are_judged_and_counted(screen):
    right, wrong, gone = (
        outcome(QUESTION, text, answer)
        for text, answer in (
            ("59 million jobs", "It was 59 million."), ("59 million jobs", "200."), ("no jobs", None),
        )
    )  # fmt: skip
    screen.answers({"first": right, "second": wrong, "third": gone}, "a model", 134_515_008)
    screen.score({"first": [right, wrong, gone]})
    shown = said(screen)
    assert "first right It was 59 million." in shown
    assert "second wrong 200." in shown
    assert "third wrong too long for its context" in shown
    assert "a model has 135 million parameters" in shown
    assert "first 2 of 3 1 of 3" in shown


def test_demo(tokenry, small, tmp_path):
    """The small model holds 2,048 tokens, so that only the quarter fits."""
    done = tokenry("demo", "--model", small, "--questions", 2, "--max-new", 2, "--report", tmp_path / "trace.html")
    assert done.status == 0, done.err
    shown = " ".join(done.out.split())
    assert "2 questions about a speech of 5,162 tokens" in shown
    assert "There were 59 million Americans employed at the start of 1949" in shown
    assert "all of its 32 tokens are kept" in shown
    assert "does not fit into this model's context" in shown
    assert "the whole speech 2 of 2 0 of 2" in shown
    assert "There were 59 million" in (tmp_path / "trace.html").read_text(encoding="utf-8").replace('","', "")
