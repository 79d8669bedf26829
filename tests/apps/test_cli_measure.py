"""`tokenry measure`: numbers of tokenizers over texts, and tasks for models."""

from __future__ import annotations

import json
import math

import pytest

TASK = "needle_threading:keys=short,characters=300,hops=1+2,repeats=2"


def test_tokenizers_beside_each_other_and_controls(tokenry, document, tmp_path):
    picture = tmp_path / "a.png"
    done = tokenry(
        "measure", "tokenizer_information:orders=2", document, document, "--tokenizer", "smollm2", "--tokenizer",
        "minilm", "--draws", 10, "--plot", picture, "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tokenry.measure/0"
    assert [m["name"].partition(",")[0] for m in found["measured"]] == ["smollm2", "minilm", "bytes", "random merges"]
    for one in found["measured"]:
        assert set(one) == {"name", "who", "samples", "values", "intervals"}
        assert one["samples"] == 2
        assert one["values"]["h1"] > one["values"]["h2"] >= 0
    assert picture.stat().st_size > 1000


def test_a_table_for_people(tokenry, document):
    done = tokenry(
        "measure", "tokenizer_information:orders=2", document, "--tokenizer", "bytes", "--no-controls", "--draws", 9
    )
    assert done.status == 0, done.err
    assert "bytes per token" in done.out
    assert "random" not in done.out


def test_tasks_go_on_where_they_stopped(tokenry, small, tmp_path):
    kept, picture = tmp_path / "kept.json", tmp_path / "a.svg"
    command = ("measure", TASK, "--model", small, "--dtype", "float32", "--results", kept, "--json")
    first = tokenry(*command, "--limit", 2)
    assert first.status == 0, first.err
    rows = json.loads(first.out)["results"][0]["rows"]
    assert len(rows) == 2
    whole = json.loads(tokenry(*command, "--plot", picture).out)
    assert whole["schema"] == "tokenry.measure/0"
    assert whole["results"][0]["rows"][:2] == rows
    assert whole["results"][0] == json.loads(kept.read_text())
    assert picture.exists()
    other = tokenry(*command, "--use", "window:budget=32:sink=4")
    assert other.status == 2
    assert "another file" in json.loads(other.err)["error"]["message"]


@pytest.mark.parametrize("use", [(), ("--use", "compress/random:budget=0.5", "--use", "token_select:budget=32")])
def test_tasks_for_people(tokenry, small, use):
    done = tokenry(
        "measure", TASK, "--model", small, "--dtype", "float32", "--limit", 2, "--generate", "--max-new", 2, *use
    )
    assert done.status == 0, done.err
    assert "effective length" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tokenizer_information",), "must have a corpus"),
        (("needle_threading", "report.txt"), "makes its own texts"),
        (("snapkv", "report.txt"), "of room attend"),
        (("needle_threading:hops=0",), "hops must be"),
        (("tokenizer_information", "gone.txt"), "must be a readable text file"),
        (("needle_threading", "--plot", "a.txt"), "must end in"),
    ],
)
def test_mistakes(tokenry, arguments, words):
    done = tokenry("measure", *arguments)
    assert done.status == 2
    assert words in done.err


def test_tokenizers_beside_each_other(tokenry, document, tmp_path, monkeypatch):
    from tokenry.measure.comparison import families

    monkeypatch.setattr(families, "LONG", 400)
    (tmp_path / "words").write_text("lamp+s\ntown\n")
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\ntwo\n" if name == "a" else "eins\nzwei\n")
    command = ("measure", "tokenizers", "sample-unigram", "bytes", "--corpus", document, "--draws", 5, "--words",
               tmp_path / "words", "--languages", f"a={tmp_path}/a", "--languages", f"b={tmp_path}/b")  # fmt: skip
    found = json.loads(tokenry(*command, "--json", "--html", tmp_path / "page.html").out)
    assert found["schema"] == "tokenry.tokenizers/0"
    assert [t["name"] for t in found["tokenizers"]] == ["sample-unigram", "bytes"]
    assert found["tokenizers"][1]["families"]["fairness"]["values"]["premium_b"] == 8 / 6
    assert "sample-unigram" in (tmp_path / "page.html").read_text()
    assert "bytes per token" in tokenry(*command).out


def test_the_numbers_of_a_row_are_all_whole_or_none():
    from tokenry.apps.cli.measure import _cells

    for values, shown in (
        ([2.0, 1.0, 0.0], ["2", "1", "0"]),
        ([2.0, 1.25, math.nan], ["2.000", "1.250", "–"]),
        ([1234.0, math.inf, 0.0], ["1,234", "–", "0"]),
        ([1234.5, 1.0], ["1,234.500", "1.000"]),
    ):
        assert _cells(values, [None] * len(values)) == shown
    assert _cells([2.0, 1.5], [(1.5, 2.5), (1.5, 1.5)]) == ["2.000 ± 0.500", "1.500"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tokenizers", "bytes"], "must have --corpus FILE"),
        (["tokenizers", "--corpus", "{doc}"], "must have a tokenizer"),
        (["tokenizers", "bytes", "--corpus", "{doc}", "--languages", "x"], "must be NAME=FILE"),
        (["tokenizers", "bytes", "--corpus", "{doc}", "--languages", "x=/nowhere"], "must be a readable text"),
        (["tokenizers", "nowhere", "--corpus", "{doc}"], "nothing is there"),
        (["tokenizer_information", "{doc}", "--html", "x.html"], "must stand after"),
    ],
)
def test_tokenizers_that_cannot_be_compared(tokenry, document, arguments, words):
    done = tokenry("measure", *[str(document) if a == "{doc}" else a for a in arguments])
    assert done.status == 2
    assert words in " ".join(done.err.split())
