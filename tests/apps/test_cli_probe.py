"""`tokenry probe`: one document of numbers, a picture, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

TABLES = {"sink", "difference", "control", "lead", "value_ratio", "residual_peak", "loss", "ablation"}


@pytest.fixture
def code(tmp_path):
    import textwrap
    from pathlib import Path

    file = tmp_path / "code.py"
    file.write_text(Path(textwrap.__file__).read_text(encoding="utf-8")[:3000], encoding="utf-8")
    return file


def test_json_is_one_document(tokenry, small, document, code):
    done = tokenry("probe", "active_dormant:ablate=1", document, "--contrast", code, "--model", small, "--tokens", 96,
                   "--rows", 3, "--dtype", "float32", "--json")  # fmt: skip
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert set(found) == {"schema", "probe", "summary", "tables", "model"}
    assert found["schema"] == "tokenry.probe/0"
    assert found["probe"]["method"] == "probe/active_dormant"
    assert set(found["tables"]) == TABLES
    sink = found["tables"]["sink"]
    assert sink["axes"] == ["group", "layer", "head"]
    assert sink["names"] == {"group": ["report.txt", "code.py"]}
    assert torch.tensor(sink["values"]).shape == (2, 3, 4)
    assert torch.tensor(found["tables"]["ablation"]["values"]).shape == (1, 2)


def test_sentences_and_pictures(tokenry, small, document, tmp_path):
    for ending, begin in (("png", b"\x89PNG"), ("html", b"<!doctype html>")):
        file = tmp_path / f"looked.{ending}"
        done = tokenry("probe", "active_dormant:ablate=0", document, "--model", small, "--tokens", 64, "--rows", 2,
                       "--plot", file)  # fmt: skip
        assert done.status == 0, done.err
        assert "of 12 heads put more than 0.3 of their attention on the first token" in done.out
        assert file.read_bytes().startswith(begin)
        assert str(file) in done.err.replace("\n", "")


def test_a_short_text_is_one_row(tokenry, small, tmp_path):
    file = tmp_path / "short.txt"
    file.write_text("Call me Ishmael.", encoding="utf-8")
    done = tokenry("probe", "active_dormant:skip=1", file, "--model", small, "--json")
    assert json.loads(done.out)["tables"]["control"]["values"][0][0][0] is None


WRONG = [
    (["probe", "snapkv", "{doc}"], "must be a method of the room probe; got attend/snapkv"),
    (["probe", "active_dorment", "{doc}"], "the nearest are active_dormant"),
    (["probe", "active_dormant:skip=-1", "{doc}"], "skip must be at least 0; got -1"),
    (["probe", "active_dormant", "{doc}", "--plot", "{tmp}/a.pdf"], "must end in .html, .png, .svg"),
    (["probe", "active_dormant", "{doc}", "--contrast", "{doc}"], "must name other documents"),
    (["probe", "active_dormant", "{tmp}/none.txt"], "must be a readable text file"),
    (["probe", "active_dormant", "{doc}", "--model", "smolm2"], "did you mean 'smollm2'?"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_wrong_is_one_sentence(tokenry, document, tmp_path, arguments, sentence):
    arguments = [a.format(doc=document, tmp=tmp_path) for a in arguments]
    done = tokenry(*arguments)
    assert done.status == 2
    assert sentence in done.err.replace("\n", " ")
    as_json = tokenry(*arguments, "--json")
    assert as_json.out == ""
    assert sentence in json.loads(as_json.err.splitlines()[-1])["error"]["message"]
