"""What an audit finds, and that an engine which was wrong once is never used again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.segment.segment_peers import ids
from tokenry.core.vocabulary import Vocabulary
from tokenry.data import read
from tokenry.models.files.vocabularies.find import open_vocabulary
from tokenry.segment.engines import audit as auditing
from tokenry.segment.engines import encoding
from tokenry.segment.engines.audit import audit, unreachable
from tokenry.segment.engines.barred import barred
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.unigram import Unigram

TEXT = read("sotu_1975")


@pytest.fixture
def engines(monkeypatch, tmp_path):
    """Libraries that are made up, for the small vocabulary; their choice is kept in a folder of the test."""
    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path))
    encoding.runner.cache_clear()
    right = encoding.runner(open_vocabulary("sample-unigram"), False).original.ids

    def give(**wrapped):
        made = [(name, lambda text, wrap=wrap: wrap(right(text), text)) for name, wrap in wrapped.items()]
        for module in (auditing, encoding):
            monkeypatch.setattr(module, "candidates", lambda opened, special: iter(made))

    yield give
    encoding.runner.cache_clear()


def same(found, text):
    return found


def wrong_once(found, text):
    """Right on all texts that break tokenizers, wrong on a word of the corpus."""
    return found[:-1] if "Mr. Speaker" in text else found


def quadratic(found, text):
    if "aaa" in text:
        for _ in range(len(text) // 100):
            np.arange(len(text) * 8).sum()
    return found


def test_what_is_wrong_once_is_never_used_again(engines):
    engines(quick=wrong_once, sure=same)
    tokenizer = Unigram()
    assert tokenizer.engine == "quick"
    found = {e.name: e for e in audit(tokenizer.opened, [TEXT]).engines}
    assert (found["quick"].wrong, found["quick"].good, found["sure"].good) == (1, False, True)
    assert found["quick"].example == TEXT[:40]
    assert barred(tokenizer.opened) == {"quick"}
    assert tokenizer.engine == "sure"
    encoding.runner.cache_clear()
    assert tokenizer.engine == "sure"


def test_what_turns_out_wrong_is_given_up(engines):
    """The bytes of the tokens are looked at anyway: ids that do not spell the text are not given out."""
    engines(quick=wrong_once)
    tokenizer = Unigram()
    right = ids(tokenizer, TEXT)
    assert ids(tokenizer, TEXT, fast=True) == right
    assert tokenizer.engine == "tokenizers"


def test_what_was_mended_is_used_again(engines):
    engines(quick=wrong_once)
    tokenizer = Unigram()
    audit(tokenizer.opened, [TEXT])
    assert tokenizer.engine == "tokenizers"
    engines(quick=same)
    assert audit(tokenizer.opened, [TEXT]).engines[0].good
    assert tokenizer.engine == "quick"
    assert not barred(tokenizer.opened)


def test_what_takes_longer_than_in_line_is_not_used(engines):
    engines(slow=quadratic)
    (found,) = audit(Unigram().opened, [TEXT]).engines
    assert (found.wrong, found.steep, found.good) == (0, "a", False)
    assert Unigram().engine == "tokenizers"


def test_an_engine_that_fails_is_wrong(engines):
    def fails(found, text):
        raise ValueError("no")

    engines(broken=fails)
    (found,) = audit(Unigram().opened, [b"\xff", "text"]).engines
    assert found.wrong == found.texts > 30


def test_what_vocabularies_lack():
    found = audit(open_vocabulary("smollm2"), ["a text"])
    assert len(found.missing_bytes) == 21
    assert (found.duplicates, found.unreachable, found.lossless.level) == (0, (), "lossy")
    assert all(engine.good for engine in found.engines)


def test_pieces_that_nothing_merges_to():
    merges = [(1, 2, 4, 0), (2, 3, 5, 1)]
    vocabulary = Vocabulary((None, b"a", b"b", b"c", b"ab", b"bc", b"abc"), {"abc": 6}, lambda: merges)
    assert unreachable(vocabulary) == ()
    assert unreachable(Vocabulary(vocabulary.pieces, {}, lambda: [*merges, (1, 5, 6, 2)])) == (6,)
    assert unreachable(Vocabulary((b"a", b"b"))) == ()


def test_the_command(capsys, tmp_path, monkeypatch):
    from tokenry.apps.cli.main import app

    (tmp_path / "text.txt").write_text("a text")
    app(["audit", "sample-unigram", str(tmp_path), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "tokenry.audit/0"
    assert (found["vocab_size"], found["missing_bytes"], found["engines"]) == (2048, [], [])
    app(["audit", "sample-unigram", str(tmp_path / "text.txt")], standalone_mode=False)
    assert "no faster library" in capsys.readouterr().out
    assert open_tokenizer("sample-unigram").lossless
