"""Unigram vocabularies: ids of tokenizers and sentencepiece, and what training gives."""

from __future__ import annotations

import json

import pytest

from tests.growth import growth
from tests.segment.segment_peers import ids
from tokenry.data import documents, read
from tokenry.models.files.vocabularies.find import SHIPPED
from tokenry.segment.engines.hostile import TEXTS, sample
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.unigram import Unigram


def test_tokenizer_json_as_tokenizers_reads_it():
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(SHIPPED["sample-unigram"] / "tokenizer.json"))
    for text in sample(["<|endoftext|>", "<unk>"]):
        assert ids(Unigram(special=True), text) == theirs.encode(text, add_special_tokens=False).ids


def test_a_mark_that_is_a_piece_of_the_model_is_text(tmp_path):
    """Unigram chooses among all its pieces, so that not looking for marks is not enough."""
    described = json.loads((SHIPPED["sample-unigram"] / "tokenizer.json").read_text())
    mark = described["added_tokens"][0]["content"]
    assert mark in [piece for piece, _ in described["model"]["vocab"]]
    for added in described["added_tokens"]:
        number = added["id"]
        text = f"a{added['content']}b"
        assert number in ids(Unigram(special=True), text)
        found = ids(Unigram(), text)
        assert number not in found
        assert Unigram().decode(found) == text.encode()


@pytest.fixture(scope="module", params=["identity", "nmt_nfkc", "nmt_nfkc_cf"])
def model(request, tmp_path_factory):
    """A model that sentencepiece trained itself, with characters that it does not know."""
    sentencepiece = pytest.importorskip("sentencepiece")
    file = tmp_path_factory.mktemp("unigram") / "small.model"
    with file.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(read("sotu_1975").splitlines()), model_writer=out, vocab_size=600,
            normalization_rule_name=request.param, minloglevel=2, num_threads=1,
        )  # fmt: skip
    return request.param, file, sentencepiece.SentencePieceProcessor(model_file=str(file))


def test_sentencepiece_models_as_sentencepiece_reads_them(model):
    _, file, theirs = model
    ours = open_tokenizer(str(file))
    assert type(ours) is Unigram
    assert ours.lossless.level == "lossy"
    for text in (*TEXTS, "  many   spaces  ", "½ ﬁ ｆｕｌｌ", "Ünïcödé"):
        found = ids(ours, text)
        assert found == theirs.encode(text)
        known = [i for i in found if not theirs.is_unknown(i)]
        for some in (found, known, known[3:], found[5:]):
            assert ours.decode(some).decode() == theirs.decode(some)


def test_places_after_normalisation(model):
    _, file, _ = model
    text = "The  state ½ of"
    sequence = open_tokenizer(str(file)).encode(text)
    held = [text.encode()[a:b].decode() for a, b in sequence.spans[:, :2].tolist()]
    assert "".join(held) == text
    assert held[0].strip() in ("The", "T", "Th", "the", "t", "th")
    assert any("½" in h for h in held)


def test_the_vocabulary_that_comes_along_is_made_of_the_sample_documents(tmp_path):
    pytest.importorskip("sentencepiece")
    made = Unigram.train([read(name) for name in documents()], vocab_size=2048, out=tmp_path / "made")
    shipped = Unigram()
    assert set(made.vocabulary) == set(shipped.vocabulary)
    assert not shipped.vocabulary.missing_bytes
    assert bool(shipped.lossless)


@pytest.mark.parametrize("character", ["a", "^", " ", "中"])
def test_long_runs_take_linear_time(character):
    tokenizer = Unigram()
    assert ids(tokenizer, "warm")
    assert growth(lambda n: ids(tokenizer, character * n), 100_000) < 3


def test_training_without_the_library(tmp_path, monkeypatch):
    import sys

    from tokenry.core.errors import InvalidValue

    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InvalidValue, match="needs the package sentencepiece"):
        Unigram.train(["text"], vocab_size=900, out=tmp_path / "out")
