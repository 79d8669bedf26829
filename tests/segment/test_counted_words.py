"""Words that were counted elsewhere give the same file as texts that are read here."""

from __future__ import annotations

import pytest

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import load
from tokenry.data import read
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.words import Words, repeated

ODD = (
    "x" * 300
    + "\n\n  two  spaces\t\tTabs don't  'S 12345 naïve 中文字 \u00a0wide🙂🙂!\r\n"
    + "ab" * 200
    + "?!" * 100
    + "\n"
)


def count(words, corpus, progress):
    found = Words()
    for text in texts(corpus, progress):
        found.add(words(text))
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for i, text in enumerate((read("sotu_1930"), ODD * 3, read("moby_dick")[:9000])):
        (folder / f"{i}.txt").write_text(text, encoding="utf-8", newline="")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_the_file_is_the_same(kind, corpus, tmp_path):
    pytest.importorskip("sentencepiece")
    method = load(f"segment/{kind}")
    method.train(corpus, vocab_size=900, out=tmp_path / "here")
    method.train(corpus, vocab_size=900, out=tmp_path / "counted", count=count)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "counted" / name).read_bytes()


def test_words_are_repeated_as_often_as_they_were_counted():
    found = "".join(repeated({"b": 3, "a": 2_000_000}))
    assert found.count("a\0") == 2_000_000
    assert found.endswith("b\0b\0b\0")
    with pytest.raises(InvalidValue, match="must hold some text"):
        list(repeated({}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_ray_counts_the_same(kind, corpus, tmp_path, tokenry):
    pytest.importorskip("ray")
    line = ("train", kind, *corpus, "--vocab-size", 700)
    assert tokenry(*line, "--out", tmp_path / "here").status == 0
    done = tokenry(*line, "--out", tmp_path / "ray", "--ray", "local")
    assert done.status == 0, done.err
    assert (tmp_path / "here" / "tokenizer.json").read_bytes() == (tmp_path / "ray" / "tokenizer.json").read_bytes()
