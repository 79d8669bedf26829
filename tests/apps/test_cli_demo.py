"""The demonstration: what it shows is what was run, and a model whose context is too short is no obstacle."""

from __future__ import annotations

import json
import re
import time

import pytest
import torch
from rich.console import Console

from tests.compress.compress_rows import batch
from tokenry.apps.demo.door import ASK, QUARTER, opened
from tokenry.apps.demo.evidence import Evidence, evidence_of
from tokenry.apps.demo.score import outcome
from tokenry.apps.demo.screen import Screen
from tokenry.core.registry import parse
from tokenry.data import build_log, conversation, questions

QUESTION = next(q for q in questions() if q.id == "sotu-1975-01")


@pytest.fixture
def screen(monkeypatch):
    shown = Screen()
    monkeypatch.setattr(shown, "_out", Console(width=100, record=True, highlight=False))
    return shown


@pytest.fixture(scope="module")
def door():
    return opened("o200k_base")


def said(screen) -> str:
    return " ".join(screen._out.export_text().split())


def test_what_was_asked_for_is_whole_in_a_quarter_and_all_of_it_comes_back(door):
    assert [cut.kind for cut in door.cuts] == ["log", "json", "code", "table", "log"]
    assert all(cut.kept and cut.tokens_out <= 0.25 * cut.tokens_in + 1 for cut in door.cuts)
    assert sum(cut.by_chance for cut in door.cuts) < len(door.cuts)
    assert 15_000 < door.tokens_in < 25_000
    assert door.whole
    (source,) = (m["content"] for m in conversation() if m.get("tool_call_id") == "call_2")
    assert door.answer == "".join(source.splitlines(True)[door.call["first_line"] - 1 : door.call["last_line"]])
    assert door.answer not in door.cuts[2].left


def test_it_takes_less_than_a_second_of_cpu(door):
    start = time.process_time()
    opened("o200k_base")
    assert time.process_time() - start < 1


def test_every_gap_is_marked():
    found = parse(QUARTER).shorten(build_log(), "o200k_base", ASK)
    assert "".join(build_log()[p.start : p.end] for p in found.pieces) == build_log()
    assert all(p.text for p in found.pieces if p.mark)
    gaps = re.findall(r"lines? (\d+)(?:–(\d+))?", "".join(p.text for p in found.pieces if p.mark))
    kept = sum(p.text.count("\n") for p in found.pieces if not p.mark)
    assert kept + sum(int(b or a) - int(a) + 1 for a, b in gaps) == build_log().count("\n")


def test_the_door_on_the_screen(screen, door):
    screen.door(door, "o200k_base")
    lines = screen._out.export_text().splitlines()
    shown = " ".join(" ".join(lines).split())
    assert all(len(line) <= 100 for line in lines)
    (log, *_) = door.cuts
    assert f"the build log log {log.tokens_in:,} {log.tokens_out:,} lines 180–187 whole" in shown
    assert "187 E At index 0 diff: [0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 5, 6, 7, 8] != [0, 1, 2, 3, 4" in shown
    assert all(cut.mark in shown for cut in door.cuts)
    assert "All 5 originals come back byte for byte." in shown


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
    assert "5 results of tools, on their way to a model behind an API" in shown
    assert "All 5 originals come back byte for byte." in shown
    assert shown.index("5 results of tools") < shown.index("2 questions about")
    assert "2 questions about a speech of 5,162 tokens" in shown
    assert "There were 59 million Americans employed at the start of 1949" in shown
    assert "all of its 32 tokens are kept" in shown
    assert "does not fit into this model's context" in shown
    assert "the whole speech 2 of 2 0 of 2" in shown
    assert "There were 59 million" in (tmp_path / "trace.html").read_text(encoding="utf-8").replace('","', "")


def test_demo_as_json(tokenry, small, tmp_path):
    page = tmp_path / "trace.html"
    done = tokenry("demo", "--model", small, "--questions", 1, "--max-new", 1, "--report", page, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tokenry.demo/0"
    assert found["messages"]["originals_came_back"] is True
    assert [text["name"] for text in found["messages"]["texts"]][1:3] == ["search_code", "read_file"]
    assert found["run"]["schema"] == "tokenry.run/0"
    assert found["questions"]["the nearest quarter"] == {"asked": 1, "there": 1, "right": 0}
