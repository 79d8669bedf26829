"""GGUF files of encoders, and folders of vocab.json with merges.txt, beside the libraries they come from."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from tests.segment.segment_peers import ids
from tests.segment.test_bpe import write_gguf
from tokenry.core.errors import StorageError, UnknownModel, UnsupportedModel
from tokenry.data import read
from tokenry.models.files.protobuf import fields
from tokenry.models.files.vocabularies.find import find_vocabulary
from tokenry.segment.bpe import Bpe
from tokenry.segment.engines.hostile import TEXTS
from tokenry.segment.engines.opening import open_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::tokenry.segment.engines.encoding.LostBytes")


def test_words_of_a_gguf_file(tmp_path):
    """As llama.cpp's converter writes them: what begins a word has a mark, what continues it has none."""
    theirs = Tokenizer.from_file(str(find_vocabulary("minilm")))
    theirs.no_padding()
    theirs.no_truncation()
    known = sorted(theirs.get_vocab(), key=theirs.get_vocab().get)
    marks = [piece.startswith("[") and piece.endswith("]") for piece in known]
    pieces = [
        p if mark else p[2:] if p.startswith("##") else f"▁{p}" for p, mark in zip(known, marks, strict=True)
    ]  # fmt: skip
    file = write_gguf(tmp_path, "bert", pieces, [3 if mark else 1 for mark in marks])
    ours = open_tokenizer(str(file))
    assert (ours.name(), ours.opened.format) == ("wordpiece", "gguf")
    assert "[CLS]" in ours.vocabulary.named_marks
    theirs.encode_special_tokens = True
    wrong = [t for t in (*TEXTS, read("moby_dick")) if ids(ours, t) != theirs.encode(t, add_special_tokens=False).ids]
    assert not [t for t in wrong if "[" not in t]
    plain = open_tokenizer("minilm")
    assert not [t for t in TEXTS if ids(ours, t) != ids(plain, t)]


@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity"])
def test_unigram_pieces_of_a_gguf_file(rule, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    gguf = pytest.importorskip("gguf")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(read("sotu_1975").splitlines()), model_prefix=str(tmp_path / "small"), vocab_size=600,
        normalization_rule_name=rule, minloglevel=2, character_coverage=1.0,
    )  # fmt: skip
    data = (tmp_path / "small.model").read_bytes()
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    rules = dict(fields(dict(fields(data))[3])).get(2, b"")
    n = range(theirs.get_piece_size())
    writer = gguf.GGUFWriter(str(tmp_path / "small.gguf"), "t5")
    writer.add_tokenizer_model("t5")
    writer.add_token_list([theirs.id_to_piece(i) for i in n])
    writer.add_token_types([2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 1 for i in n])
    writer.add_token_scores([theirs.get_score(i) for i in n])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    if rules:
        writer.add_precompiled_charsmap(bytes(rules))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    ours = open_tokenizer(str(tmp_path / "small.gguf"))
    assert (ours.name(), ours.opened.format) == ("unigram", "gguf")
    plain = [t for t in (*TEXTS, read("sotu_1930")) if "▁" not in t and "<" not in t]
    assert not [t for t in plain if ids(ours, t) != theirs.encode(t) and not broken(t)]


def broken(text):
    """White space and control characters about which tokenizers and sentencepiece are of two minds."""
    return any(ord(c) < 0x20 or c in "\x7f\x80\x9f" or ord(c) > 0x2000 for c in text) or any(
        "\u0300" <= c <= "\u036f" for c in text
    )


@pytest.fixture
def folder(tmp_path):
    """A byte-level vocabulary as its two old files."""
    made = Bpe.train([read("sotu_1975")], vocab_size=700, out=tmp_path / "made")
    model = made.opened.content.description["model"]
    old = tmp_path / "old"
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (old / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return old


def test_vocab_json_and_merges_txt(folder):
    from transformers import GPT2Tokenizer

    theirs = GPT2Tokenizer.from_pretrained(folder)
    ours = open_tokenizer(str(folder))
    assert (ours.name(), ours.opened.format) == ("bpe", "merges.txt")
    assert ours.opened.marks == ours.vocabulary.named_marks == {"<|endoftext|>": 0}
    for text in (t for t in TEXTS if "<|" not in t):
        assert ids(ours, text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids(ours, text)) == text.encode()
    assert ours.lossless


def test_marks_that_stand_beside_it(folder):
    (folder / "added_tokens.json").write_text('{"<|im_start|>": 700}')
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    ours = open_tokenizer(str(folder))
    assert ours.vocabulary.named_marks == {"<|endoftext|>": 0, "<|im_start|>": 700}
    assert 700 not in ids(ours, "<|im_start|>")


@pytest.mark.parametrize(
    ("file", "content", "error", "reason"),
    [
        ("merges.txt", "#version: 0.2\none\n", StorageError, "line 2 must be two pieces"),
        ("merges.txt", "q zz\n", StorageError, "must merge pieces of vocab.json"),
        ("merges.txt", b"\xff\xfe a\n", StorageError, "readable list of merges"),
        ("vocab.json", "[", StorageError, "readable JSON"),
        ("vocab.json", "[]", StorageError, "must hold a table"),
        ("vocab.json", '{"a": 0, "b": "x"}', StorageError, "merge|ids must be whole numbers"),
        ("vocab.json", '{"a": 0, "b</w>": 1}', UnsupportedModel, "as GPT-2 does"),
        ("tokenizer_config.json", '{"tokenizer_class": "CLIPTokenizer"}', UnsupportedModel, "CLIPTokenizer"),
        ("added_tokens.json", '{"<x>": -5}', StorageError, "ids must be whole numbers"),
    ],
)  # fmt: skip
def test_damaged_files(folder, file, content, error, reason):
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=reason):
        open_tokenizer(str(folder))


def test_one_of_the_two_is_missing(folder):
    (folder / "vocab.json").unlink()
    with pytest.raises(StorageError, match=r"vocab.json: must be a readable"):
        open_tokenizer(str(folder))
    (folder / "merges.txt").unlink()
    with pytest.raises(UnknownModel, match=r"merges\.txt"):
        open_tokenizer(str(folder))
