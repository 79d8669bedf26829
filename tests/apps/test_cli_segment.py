"""`tokenry encode`, `decode` and `train`."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys

import pytest

from tests.apps.traces import Elements
from tokenry.core.sequence import TokenSequence
from tokenry.data import read
from tokenry.segment.engines.opening import open_tokenizer

NASTY = "<script>alert('1')</script> & \"x\" 🤷🏽‍♀️ \u202edlrow\u202c\0\x1b[31m red\r\nend\ttab"


@pytest.fixture
def nasty(tmp_path):
    file = tmp_path / "nasty.txt"
    file.write_bytes(NASTY.encode())
    return file


def test_ids_and_back(tokenry, nasty, tmp_path):
    done = tokenry("encode", nasty, "--tokenizer", "sample-unigram")
    ids = done.out.split()
    assert [int(i) for i in ids] == open_tokenizer("sample-unigram").ids(NASTY)
    assert "bytes a token" in done.err
    back = tokenry("decode", *ids, "--tokenizer", "sample-unigram", "--out", tmp_path / "back")
    assert back.status == 0
    assert back.out == ""
    assert (tmp_path / "back").read_bytes() == NASTY.encode()


def test_a_pipe_gives_the_same_bytes(tokenry, tmp_path):
    data = b"caf\xc3\xa9 \xff\xfe\0\r\n"
    (tmp_path / "raw").write_bytes(data)
    encoded = tokenry("encode", tmp_path / "raw", "--json", "--tokenizer", "sample-unigram").out
    command = [sys.executable, "-m", "tokenry", "decode", "-", "--tokenizer", "sample-unigram"]
    done = subprocess.run(command, input=encoded.encode(), capture_output=True, check=True)
    assert done.stdout == data


def test_json(tokenry, nasty):
    found = json.loads(tokenry("encode", nasty, "--tokenizer", "sample-unigram", "--json").out)
    assert found["schema"] == "tokenry.encode/0"
    assert (found["method"], found["vocab_size"], found["bytes"]) == ("unigram", 2048, len(NASTY.encode()))
    assert found["lossless"] == {"level": "bytes", "why": ""}
    assert found["warnings"] == []
    assert b"".join(NASTY.encode()[a:b] for a, b in found["spans"]) == NASTY.encode()
    back = json.loads(tokenry("decode", *found["ids"], "--tokenizer", "sample-unigram", "--json").out)
    assert back["schema"] == "tokenry.decode/0"
    assert back["text"] == NASTY
    part = json.loads(tokenry("decode", found["ids"][0], "--tokenizer", "sample-unigram", "--json").out)
    assert base64.b64decode(part["base64"]) == NASTY.encode()[: found["spans"][0][1]]


def test_lost_bytes_are_said(tokenry, tmp_path, smollm2):
    (tmp_path / "lost.txt").write_bytes(b"a\x04b")
    done = tokenry("encode", tmp_path / "lost.txt", "--json")
    assert "1 bytes have no piece" in json.loads(done.out)["warnings"][0]
    assert json.loads(done.out)["lossless"]["level"] == "lossy"
    assert "no piece" in tokenry("encode", tmp_path / "lost.txt").err


def test_show(tokenry, nasty):
    out = tokenry("encode", nasty, "--tokenizer", "sample-unigram", "--show").out
    assert "script" in out
    assert "⟨f0⟩" in out
    assert "␛" in out
    assert "\x1b[31m red" not in out
    assert "\u202e" not in out


def test_html(tokenry, nasty, tmp_path):
    done = tokenry("encode", nasty, "--tokenizer", "sample-unigram", "--html", tmp_path / "page.html")
    assert done.out == ""
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|\u202e|\x1b|\0|<(link rel=.stylesheet|iframe|img)", text)
    assert "default-src 'none'" in text
    assert "<script>alert" not in text
    sequence: TokenSequence = open_tokenizer("sample-unigram").encode(NASTY)
    drawn = json.loads(Elements(text).scripts["tokens"])
    assert drawn["ids"] == sequence.ids.tolist()
    assert drawn["ends"] == sequence.spans[:, 1].tolist()
    assert drawn["parts"]
    for i in drawn["parts"]:
        assert re.fullmatch(r"[0-9a-f]{2}( [0-9a-f]{2})*", drawn["tokens"][i])
    shown = [token for i, token in enumerate(drawn["tokens"]) if i not in drawn["parts"]]
    assert "".join(shown).startswith("<script>alert('1')</script> &")


@pytest.mark.browser
def test_html_of_any_length_is_drawn_where_it_is_seen(tokenry, tmp_path, chromium):
    (tmp_path / "long.txt").write_text(NASTY + "many words " * 30_000, encoding="utf-8")
    tokenry("encode", tmp_path / "long.txt", "--tokenizer", "sample-unigram", "--html", tmp_path / "page.html")
    dom = chromium(tmp_path / "page.html", "", "--dump-dom", "--enable-logging=stderr")
    assert 'data-ready="1"' in dom
    assert "data-error" not in dom
    assert 100 < len(re.findall(r'<span class="t b\d"', dom)) < 5000


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_train(tokenry, tmp_path, kind):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("sotu_1975", "moby_dick"):
        (corpus / f"{name}.txt").write_text(read(name), encoding="utf-8")
    done = tokenry("train", kind, corpus, "--vocab-size", 800, "--out", tmp_path / "made", "--json")
    found = json.loads(done.out)
    assert (found["schema"], found["kind"], found["files"]) == ("tokenry.train/0", kind, 2)
    assert found["vocab_size"] == open_tokenizer(str(tmp_path / "made")).vocab_size <= 800
    again = tokenry("train", kind, corpus, "--vocab-size", 800, "--out", tmp_path / "made")
    assert again.status == 2
    assert "must be a new folder" in again.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("encode", "gone.txt"), "must be a readable text file"),
        (("encode", "x.txt", "--tokenizer", "gone"), "nothing is there"),
        (("encode", "x.txt", "--tokenizer", "stochastok"), "must be a tokenizer"),
        (("encode", "x.txt", "--tokenizer", "unigram:sourse=a"), "has no field 'sourse'"),
        (("decode", "1", "x", "--tokenizer", "sample-unigram"), "must be whole numbers"),
        (("decode", "99999", "--tokenizer", "sample-unigram"), "ids must be from 0 to 2047"),
        (("train", "snapkv", "x.txt", "--vocab-size", "900", "--out", "o"), "must be one of"),
        (("train", "stochastok", "x.txt", "--vocab-size", "900", "--out", "o"), "must be a tokenizer"),
        (("train", "bpe", "x.txt", "--vocab-size", "90", "--out", "o"), "at least 257"),
        (("train", "bpe", "gone.txt", "--vocab-size", "900", "--out", "o"), "must be a readable file"),
        (("train", "bpe", "empty", "--vocab-size", "900", "--out", "o"), "found none"),
        (("audit", "sample-unigram", "empty"), "found none"),
        (("hypernetwork", "empty", "--out", "o"), "found none"),
        (("hypernetwork", "x.txt", "gone.txt", "--out", "o"), "gone.txt: must be a readable text file"),
    ],
)
def test_mistakes(tokenry, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    done = tokenry(*arguments)
    assert done.status == 2
    assert reason in done.err
    assert not (tmp_path / "o").exists()


def test_an_empty_text(tokenry, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    assert tokenry("encode", tmp_path / "empty.txt", "--tokenizer", "sample-unigram").out.strip() == ""


def test_a_hypernetwork_from_text(tokenry, tmp_path):
    """One step of each kind; what is written gives rows, and the same command again is refused."""
    from tests.embed.embed_models import OLD_TEXT, model, trained
    from tokenry import Zett
    from tokenry.models.text.embeddings import save

    save(model("llama", trained(OLD_TEXT, bos_token="<s>")), tmp_path / "model")
    (tmp_path / "text").write_text(read("in_the_year_2889"))
    command = ("hypernetwork", tmp_path / "text", "--model", tmp_path / "model", "--out", tmp_path / "rows",
               "--first", 1, "--steps", 1, "--batch", 2, "--tokens", 16, "--pieces", 300, "--json")  # fmt: skip
    done = tokenry(*command)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert (found["schema"], found["files"]) == ("tokenry.hypernetwork/0", 1)
    assert found["log"][-1]["bits_per_byte"] > 0
    assert Zett(hypernetwork=str(tmp_path / "rows"))
    assert "must be a new or an empty folder" in tokenry(*command).err
