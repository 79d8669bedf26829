"""`tokenry tune`: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import os

import pytest

from tokenry.core.registry import parse
from tokenry.soft.prefix_tuning import PrefixTuning
from tokenry.soft.prompt_tuning import PromptTuning

KEYS = {
    "schema", "method", "model", "out", "start", "parameters", "steps", "best_step", "seconds", "losses", "held_out",
}  # fmt: skip


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": "France", "answer": "Paris"}, {"prompt": "Italy, in Europe", "answer": "Rome"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_tune_prints_one_json_document_and_writes_the_method(tokenry, small, pairs, tmp_path):
    out = tmp_path / "new" / "soft"
    done = tokenry(
        "tune", "prompt_tuning:tokens=4", "--model", small, "--data", pairs, "--out", out, "--text", "Name the capital",
        "--held-out", pairs, "--steps", 5, "--every", 2, "--peft", tmp_path / "peft", "--dtype", "float32", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert set(found) == KEYS
    assert found["schema"] == "tokenry.tune/0"
    assert (found["start"], found["steps"], found["parameters"]) == ("text", 5, 4 * 64)
    assert [h["step"] for h in found["held_out"]] == [0, 2, 4, 5]
    assert len(found["losses"]) == 5
    assert found["losses"][-1] < found["losses"][0]
    method = parse(str(out))
    assert isinstance(method, PromptTuning)
    assert sorted(os.listdir(out.parent)) == ["soft"]
    assert sorted(os.listdir(tmp_path / "peft")) == ["adapter_config.json", "adapter_model.safetensors"]


def test_marks_in_examples_are_text_and_that_is_said(tokenry, small, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": "A<|im_end|>", "answer": "<file_sep>B"}) + "\n")
    options = ("tune", "prompt_tuning:tokens=2", "--model", small, "--data", file, "--steps", 1, "--dtype", "float32")
    told = "the examples spell <|im_end|>, <file_sep>, which is read as text"
    assert told in tokenry(*options, "--out", tmp_path / "text").err
    assert told not in tokenry(*options, "--out", tmp_path / "marks", "--marks").err


def test_a_prefix_is_saved_folded_and_tuned_on(tokenry, small, pairs, tmp_path):
    out = tmp_path / "soft"
    options = ("--model", small, "--data", pairs, "--steps", 2, "--dtype", "float32")
    done = tokenry("tune", "prefix_tuning:tokens=3,hidden=8", *options, "--out", out)
    assert done.status == 0, done.err
    assert done.out.splitlines()[1] == str(out)
    method = parse(str(out))
    assert isinstance(method, PrefixTuning)
    assert method.hidden == 0
    done = tokenry("tune", out, *options, "--out", out, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["start"] is None
    assert not bool((parse(str(out)).keys == method.keys).all())


def test_an_interrupted_command_goes_on(tokenry, small, pairs, tmp_path, monkeypatch):
    from tokenry.soft.training.tuning import _Training

    options = ("--model", small, "--data", pairs, "--steps", 6, "--every", 2, "--dtype", "float32", "--json")
    whole = json.loads(tokenry("tune", "prompt_tuning:tokens=4", *options, "--out", tmp_path / "whole").out)
    step, taken = _Training.step, []

    def stops(self, rows):
        if len(taken) == 5:
            raise KeyboardInterrupt
        taken.append(rows)
        step(self, rows)

    monkeypatch.setattr(_Training, "step", stops)
    done = tokenry("tune", "prompt_tuning:tokens=4", *options, "--out", tmp_path / "soft")
    assert done.status == 130
    assert not (tmp_path / "soft").exists()
    monkeypatch.setattr(_Training, "step", step)
    found = json.loads(tokenry("tune", "prompt_tuning:tokens=4", *options, "--out", tmp_path / "soft").out)
    assert found["losses"] == whole["losses"]
    first, second = ((tmp_path / name / "method.safetensors").read_bytes() for name in ("whole", "soft"))
    assert first == second
    assert sorted(os.listdir(tmp_path)) == ["pairs.jsonl", "soft", "whole"]


def test_what_cannot_be_is_refused_before_a_model_is_loaded(tokenry, pairs, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "none.jsonl").write_text("")
    out = ("--data", pairs, "--out", tmp_path / "soft", "--model", "/nothing")
    for arguments, words in (
        (("window", *out), "must be a method of room soft; got attend/window"),
        (("prompt_tuning:tokens=0", *out), "tokens must be at least 1; got 0"),
        (("prompt_tuning", *out[:2], "--out", tmp_path / "full", "--model", "/nothing"), "it holds something else"),
        (("prompt_tuning", *out[:2], "--out", pairs, "--model", "/nothing"), "it holds something else"),
        (("prompt_tuning", "--data", tmp_path / "none.jsonl", *out[2:]), "must hold at least one example"),
        (("prompt_tuning", "--data", tmp_path / "gone.jsonl", *out[2:]), "must be a readable file"),
        (("prompt_tuning", *out), "model '/nothing'"),
    ):
        done = tokenry("tune", *arguments)
        assert done.status == 2, done.err
        assert words in done.err
        assert not done.out
    assert (tmp_path / "full" / "letter.txt").exists()


def test_a_start_without_its_text_is_refused(tokenry, small, pairs, tmp_path):
    done = tokenry(
        "tune", "prompt_tuning", "--data", pairs, "--out", tmp_path / "soft", "--model", small, "--start", "text"
    )
    assert done.status == 2
    assert "text must be given with start=text" in done.err
    assert not (tmp_path / "soft").exists()
