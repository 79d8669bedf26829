"""Choosing a method for one's own texts, and the picture of a comparison."""

from __future__ import annotations

import json
import shlex

import pytest

from tokenry.apps.report.pareto import front
from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.models.text.document import Document
from tokenry.pipeline.plan import Sample, plan, samples


def test_a_plan_is_the_cheapest_setting_within_the_loss(tokenry, small, document):
    done = tokenry(
        "plan", document, "--passage", 500, "--model", small, "--max-new", 4, "--loss", 1.5, "--cost", "tokens",
        "--use", "lexical_relevance", "--use", "attend/window", "--dtype", "float32", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tokenry.plan/0"
    assert found["samples"] >= 4
    within = [t for t in found["tried"] if t["within"]]
    assert found["chosen"] == min(within, key=lambda t: t["tokens"])["spec"]
    for t in found["tried"]:
        assert t["note"] or len(t["losses"]) == found["samples"]
        assert t["note"] or t["interval"][0] <= t["loss"] <= t["interval"][1]
    assert found["tried"][0]["spec"] == ""
    line = shlex.split(found["run"])
    assert line[:2] == ["tokenry", "run"]
    if found["chosen"]:
        assert line[-2:] == ["--use", found["chosen"]]


def test_nothing_cheap_enough_is_dense(tokenry, small, document):
    done = tokenry(
        "plan", document, "--passage", 500, "--model", small, "--max-new", 4, "--loss", 1e-9,
        "--use", "lexical_relevance", "--dtype", "float32",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "Nothing cheaper stays within this loss" in done.out
    assert "--use" not in done.out


def test_passages_are_the_whole_text_in_order():
    text = read("sotu_1975")
    found = samples([Document(text, "a"), Document("short")], ["One?", "Two?"], 3000)
    assert "".join(s.documents[0].text for s in found if s.ask == "One?") == text + "short"
    assert len(found) == 2 * len({s.documents[0].name for s in found})


def test_bad_input_is_one_sentence(tokenry, small, document):
    one = Sample((Document("x"),), "?")
    with pytest.raises(InvalidValue, match="plan: needs at least 4 texts or passages"):
        plan(None, [one] * 3)
    with pytest.raises(InvalidValue, match="plan: loss must be above 0"):
        plan(None, [one] * 4, loss=0.0)
    with pytest.raises(InvalidValue, match="plan: cost must be one of seconds, tokens, bytes, flops; got 'euros'"):
        plan(None, [one] * 4, cost="euros")
    done = tokenry("plan", document, "--use", "lexical_relevanse", "--model", small)
    assert done.status == 2
    assert "lexical_relevance" in done.err


def test_the_front_is_what_nothing_beats():
    points = [(5.0, 0.0), (1.0, 0.9), (2.0, 0.3), (3.0, 0.4), (2.0, 0.2), (5.0, 0.1)]
    assert front(points) == [1, 4, 0]


def test_compare_draws_a_page_and_a_picture(tokenry, small, document, tmp_path, arms_here):
    for name in ("loss.html", "loss.png"):
        done = tokenry(
            "compare",
            "snapkv:budget=40",
            "--text",
            document,
            "--model",
            small,
            "--max-new",
            3,
            "--plot",
            tmp_path / name,
        )
        assert done.status == 0, done.err
    page = (tmp_path / "loss.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "attend/random" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    assert (tmp_path / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    done = tokenry("compare", "snapkv", "--text", document, "--model", small, "--plot", tmp_path / "loss.bmp")
    assert done.status == 2
    assert "plot: must end in .html, .png, .svg" in done.err
