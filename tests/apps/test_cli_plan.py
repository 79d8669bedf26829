"""Choosing a method for one's own texts, and the picture of a comparison."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.models.text.document import Document
from tokenry.pipeline.plan import Tried, plan, settings
from tokenry.pipeline.planning.halving import better_half, front, rounds
from tokenry.pipeline.planning.losses import Check, Needles
from tokenry.pipeline.planning.samples import Sample, mixed, samples, samples_of_messages


def test_a_plan_is_the_cheapest_setting_within_the_loss(tokenry, small, document):
    done = tokenry(
        "plan", document, "--passage", 500, "--model", small, "--max-new", 4, "--loss", 1.5, "--cost", "tokens",
        "--use", "lexical_relevance", "--use", "attend/window", "--dtype", "float32", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tokenry.plan/1"
    assert found["samples"] >= 4
    within = [t for t in found["tried"] if t["within"]]
    assert all(len(t["losses"]) == found["samples"] for t in within)
    points = {t["spec"]: (t["tokens"], t["loss"]) for t in found["tried"]}
    front = [points[spec] for spec in found["front"]]
    assert front == sorted(front)
    assert [loss for _, loss in front] == sorted((loss for _, loss in front), reverse=True)
    assert found["chosen"] == min(within, key=lambda t: t["tokens"])["spec"]
    for t in found["tried"]:
        assert t["note"] or 4 <= len(t["losses"]) <= found["samples"]
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


def test_some_of_many_passages_come_from_all_texts_and_are_mixed():
    given = [Sample((Document(f"{i}"),), "?") for i in range(100)]
    some = mixed(given, 10)
    at = [given.index(sample) for sample in some]
    assert sorted(at) == list(range(0, 100, 10))
    assert min(at[:4]) < 50 <= max(at[:4])
    assert sorted(given.index(sample) for sample in mixed(given[:3], 10)) == [0, 1, 2]


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
    nothing = tokenry("plan", "--model", small)
    assert "plan: needs texts to try on" in nothing.err
    alone = tokenry("plan", document, "--by", "check", "--model", small)
    assert "must be a command" in alone.err
    other = tokenry("plan", document, "--by", "luck", "--model", small)
    assert "by: must be one of kl, check, needles" in other.err


def test_a_plan_goes_on_and_writes_a_pipeline(tokenry, small, document, tmp_path):
    line = (
        "plan", document, "--passage", 400, "--model", small, "--max-new", 2, "--loss", 2.0, "--cost", "tokens",
        "--use", "lexical_relevance", "--dtype", "float32", "--results", tmp_path / "trials.json", "--json",
    )  # fmt: skip
    first = json.loads(tokenry(*line, "--write", tmp_path / "pipeline.json").out)
    trials = json.loads((tmp_path / "trials.json").read_text())
    # As if it was killed in the middle.
    for rows in trials["rows"].values():
        del rows[3:]
    (tmp_path / "trials.json").write_text(json.dumps(trials))
    second = json.loads(tokenry(*line).out)
    for a, b in zip(first["tried"], second["tried"], strict=True):
        assert a["spec"] == b["spec"]
        assert a["losses"] == pytest.approx(b["losses"])
    written = json.loads((tmp_path / "pipeline.json").read_text())
    assert written["use"] == ([first["chosen"]] if first["chosen"] else [])
    assert written["plan"]["samples"] == first["samples"]
    done = tokenry(
        "run", document, "--ask", "?", "--model", small, "--pipeline", tmp_path / "pipeline.json", "--max-new", 2,
        "--dtype", "float32", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert [s["method"] for s in json.loads(done.out)["receipt"]["steps"]] == ["lexical_relevance"]
    other = tokenry(*line, "--max-new", 3)
    assert "max_new differs" in other.err


def test_the_line_that_runs_it_names_files(tokenry, small, document):
    done = tokenry(
        "plan", document.parent, "--passage", 400, "--model", small, "--max-new", 2, "--use", "lexical_relevance",
        "--cost", "tokens", "--json",
    )  # fmt: skip
    assert json.loads(done.out)["run"].startswith("tokenry run '…' --ask")


def tried(tokens, loss):
    return Tried(spec=f"{tokens}", losses=(loss,), tokens=tokens)


def test_halving_keeps_the_front():
    points = [tried(*p) for p in ((100, 0.0), (50, 0.1), (60, 0.3), (25, 0.5), (30, 0.6), (10, 2.0), (90, 0.4))]
    assert [p.tokens for p in front(points, "tokens")] == [10, 25, 50, 100]
    assert {p.tokens for p in better_half(points, "tokens", 0.2)} == {10, 25, 50, 100}
    many = [*points, tried(55, 0.35), tried(35, 0.7), tried(95, 0.9), tried(99, 0.8)]
    kept = {p.tokens for p in better_half(many, "tokens", 0.2)}
    assert kept == {10, 25, 50, 100, 30, 55}, "the front, and what is the front without it"
    assert rounds(4) == [4]
    assert rounds(12) == [4, 8, 12]


def test_kinds_of_content_are_tried_where_texts_are_not_plain(tmp_path):
    log = "".join(f"2026-01-01 00:00:{i:02} INFO worker {i} done\n" for i in range(40))
    plain, logs = samples([Document("A text. " * 20)], [], 500), samples([Document(log)], [], 700)
    assert {s.kind for s in logs} == {"log"}
    assert "".join(s.documents[0].text for s in logs) == log
    chains = settings(["compress/lexical_relevance", "attend/window"], logs)
    assert [c[0].partition("0.75")[2] for c in chains] == ["", ",units=auto", ""]
    assert len(settings(["compress/lexical_relevance"], plain)) == 1
    messages = [
        {"role": "user", "content": "Which worker failed?"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "logs", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": log},
    ]
    found = samples_of_messages(messages, 700)
    assert "".join(s.documents[0].text for s in found) == log
    assert all("Which worker failed?" in s.ask for s in found)


def test_needles_and_checks_know_what_is_right():
    given = [Sample((Document(f"One sentence. Another one {i}."),), "?") for i in range(5)]
    hidden = Needles().prepare(given)
    assert hidden == Needles().prepare(given)
    for sample in hidden:
        assert f"is {sample.answer}." in sample.documents[0].text
        assert Needles().right(sample, f"It is {sample.answer}!")
        assert not Needles().right(sample, f"It is 9{sample.answer}.")
    words = "One two three. Four five six. Seven."
    kept = [Sample((Document(words, protect=((4, 7), (15, 19), (30, 35))),), "?") for _ in range(9)]
    for sample in Needles().prepare(kept):
        [document] = sample.documents
        assert [document.text[a:b] for a, b in document.protect] == ["two", "Four", "Seven"]
    assert Check("grep -q yes").right(given[0], "yes, it is")
    assert not Check("grep -q yes").right(given[0], "no")
    with pytest.raises(InvalidValue, match="must be a command that runs"):
        Check("no-such-command").right(given[0], "no")


def test_a_check_may_print_whatever_it_likes(tmp_path):
    given = Sample((Document("One sentence."),), "?")
    bytes_of_none = Check(f'{sys.executable} -c "import sys; sys.stdout.buffer.write(bytes([255]))"')
    assert bytes_of_none.right(given, "half a pair: \ud800")


def test_a_command_that_nobody_asks_is_refused(tokenry, small, document):
    done = tokenry("plan", document, "--by", "needles", "--check", "true", "--model", small)
    assert done.status == 2
    assert "check: must be left out where the loss is needles" in done.err


def test_a_model_that_is_never_right_is_no_measure(tokenry, small, document):
    done = tokenry("plan", document, "--passage", 300, "--model", small, "--by", "needles", "--max-new", 2)
    assert done.status == 2
    assert "the model alone must be right at least 4 times" in done.err


def test_answers_are_lost_where_the_check_says_so(tokenry, small, document):
    done = tokenry(
        "plan", document, "--passage", 400, "--model", small, "--check", "true", "--max-new", 2, "--loss", 0.7,
        "--use", "lexical_relevance", "--cost", "tokens", "--dtype", "float32", "--json",
    )  # fmt: skip
    found = json.loads(done.out)
    assert found["by"] == "check"
    assert all(set(t["losses"]) == {0.0} for t in found["tried"])
    assert found["chosen"].startswith("compress/lexical_relevance")
