"""Choosing a method for one's own texts, and the picture of a comparison."""

from __future__ import annotations

import json
import shlex

import pytest

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
