"""Byte pairs: the ids of the original library for every format of file, and what cannot be opened."""

from __future__ import annotations

import base64
import json

import pytest

from tests.growth import growth
from tests.segment.segment_peers import ids, package
from tokenry.core.errors import InvalidValue, UnknownModel
from tokenry.data import read
from tokenry.models.files.vocabularies import ranks as read_ranks
from tokenry.segment.base import FromFile
from tokenry.segment.bpe import Bpe
from tokenry.segment.engines import encoding, fast
from tokenry.segment.engines.encoding import LostBytes
from tokenry.segment.engines.hostile import TEXTS, sample
from tokenry.segment.engines.opening import open_tokenizer

RUNS = {"letters": "a", "signs": "^", "spaces": " ", "signs of Chinese": "中"}


@pytest.fixture(scope="module")
def smollm2_file():
    from tokenry.models.files.vocabularies.find import find_vocabulary

    try:
        return find_vocabulary("smollm2")
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tekken():
    return package("mistral_common") / "data" / "tekken_240911.json"


@pytest.fixture(scope="module")
def ranks(tekken):
    """A small vocabulary of ranks: the first 20,000 of a real one."""
    vocabulary = json.loads(tekken.read_bytes())["vocab"][:20000]
    return {base64.b64decode(v["token_bytes"]): v["rank"] for v in vocabulary}


def write_ranks(file, ranks):
    file.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(p), r) for p, r in ranks.items()))
    return file


@pytest.mark.parametrize("quick", [False, True], ids=["original", "engine"])
@pytest.mark.parametrize("special", [True, False])
def test_tokenizer_json_as_tokenizers_reads_it(smollm2_file, special, quick):
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(smollm2_file))
    theirs.encode_special_tokens = not special
    ours = Bpe(source=str(smollm2_file.parent), special=special)
    for text in sample(ours.opened.marks):
        assert ids(ours, text, fast=quick) == theirs.encode(text, add_special_tokens=False).ids, text[:40]


@pytest.mark.parametrize("quick", [False, True], ids=["original", "engine"])
@pytest.mark.parametrize("name", ["r50k_base", "cl100k_base", "o200k_base"])
def test_tiktoken_files_as_tiktoken_reads_them(ranks, name, quick, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    public = pytest.importorskip("tiktoken_ext.openai_public")
    file = write_ranks(tmp_path / f"{name}.tiktoken", ranks)
    pattern = tiktoken_pattern(public, name)
    assert read_ranks.FILES[name][0] == pattern
    _, marks = read_ranks.FILES[name]
    theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=marks)
    ours, plain = Bpe(source=str(file), special=True), Bpe(source=str(file))
    assert bool(ours.lossless)
    for text in sample(marks):
        right = theirs.encode(text, allowed_special="all")
        assert ids(ours, text, fast=quick) == right
        assert ours.decode(right) == theirs.decode_bytes(right) == text.encode()
        assert ids(plain, text, fast=quick) == theirs.encode(text, disallowed_special=())


def tiktoken_pattern(public, name):
    """The pattern that tiktoken has for an encoding, without fetching the encoding."""
    load, public.load_tiktoken_bpe = public.load_tiktoken_bpe, lambda *_, **__: {}
    try:
        return public.ENCODING_CONSTRUCTORS[name]()["pat_str"]
    finally:
        public.load_tiktoken_bpe = load


@pytest.mark.parametrize("quick", [False, True], ids=["original", "engine"])
def test_tekken_as_tiktoken_reads_it(tekken, ranks, quick, tmp_path):
    """Ids follow the control marks, which no text makes."""
    tiktoken = pytest.importorskip("tiktoken")
    found = json.loads(tekken.read_bytes())
    found["vocab"] = found["vocab"][: len(ranks) + 5]
    found["config"]["default_vocab_size"] = len(ranks) + 1000
    file = tmp_path / "tekken.json"
    file.write_text(json.dumps(found))
    theirs = tiktoken.Encoding("t", pat_str=found["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})
    ours = open_tokenizer(str(file))
    assert ours.vocab_size == len(ranks) + 1000
    for text in TEXTS:
        assert ids(ours, text, fast=quick) == [1000 + i for i in theirs.encode_ordinary(text)]
        assert ours.decode(ours.encode(text)) == text.encode()


@pytest.mark.slow
def test_a_whole_tekken_file(tekken):
    pytest.importorskip("tiktoken")
    ours = open_tokenizer(str(tekken))
    assert ours.vocab_size == 131072
    for text in TEXTS:
        assert ids(ours, text, fast=True) == ids(ours, text)
        assert ours.decode(ours.encode(text)) == text.encode()


@pytest.mark.parametrize("file", ["tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3"])
def test_sentencepiece_models_as_sentencepiece_reads_them(file):
    sentencepiece = pytest.importorskip("sentencepiece")
    file = package("mistral_common") / "data" / file
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(file))
    ours = open_tokenizer(str(file))
    assert type(ours) is Bpe
    assert str(ours.lossless) == "normalised: U+2581 becomes a space"
    for text in TEXTS:
        right = theirs.encode(text)
        assert ids(ours, text) == right
        assert ours.decode(right).decode() == theirs.decode(right) == text.replace("▁", " ")


def test_gguf_by_score_as_sentencepiece_reads_it(tmp_path):
    """A GGUF file made of a SentencePiece model gives its ids."""
    sentencepiece = pytest.importorskip("sentencepiece")
    theirs = sentencepiece.SentencePieceProcessor(
        model_file=str(package("mistral_common") / "data" / "tokenizer.model.v1")
    )
    n = range(theirs.get_piece_size())
    kinds = [
        2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1 for i in n
    ]  # fmt: skip
    pieces = [theirs.id_to_piece(i) for i in n]
    file = write_gguf(tmp_path, "llama", pieces, kinds, scores=[theirs.get_score(i) for i in n])
    ours = Bpe(source=str(file), special=False)
    assert ours.opened.format == "gguf"
    for text in TEXTS:
        assert ids(ours, text) == theirs.encode(text), text[:40]


def test_gguf_of_bytes_splits_as_the_file_says(tmp_path):
    """Digits stand alone, so that a run of spaces before one stays a run."""
    from tokenizers import Tokenizer, pre_tokenizers

    made = Bpe.train([read("sotu_1975"), "a    b\n" * 500], vocab_size=900, out=tmp_path / "made")
    theirs = Tokenizer.from_file(f"{made.source}/tokenizer.json")
    theirs.encode_special_tokens = True
    model = json.loads(theirs.to_str())["model"]
    pieces, merges = sorted(model["vocab"], key=model["vocab"].get), [" ".join(m) for m in model["merges"]]
    for way, split in (("smollm", True), ("gpt-2", False)):
        file = write_gguf(tmp_path, "gpt2", pieces, [1] * len(pieces), merges=merges, pre=way)
        digits = [pre_tokenizers.Digits(individual_digits=True)] if split else []
        theirs.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        ours = Bpe(source=str(file))
        for text in (*TEXTS, "a  1", "\n\n12"):
            assert ids(ours, text) == theirs.encode(text, add_special_tokens=False).ids
        assert len(ids(ours, "a  1")) == (3 if split else 4)


def write_gguf(folder, model, pieces, kinds, *, scores=None, merges=None, pre=None):
    from gguf import GGUFWriter

    file = folder / f"{model}-{pre}.gguf"
    writer = GGUFWriter(str(file), "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("run", RUNS)
def test_long_runs_take_linear_time(smollm2_file, ranks, run, tmp_path):
    """A hundred thousand of one character, in the original and in the engine for long texts."""
    pytest.importorskip("tiktoken")
    found = [Bpe(source=str(smollm2_file)), Bpe(source=str(write_ranks(tmp_path / "cl100k_base.tiktoken", ranks)))]
    for tokenizer in found:
        for quick in (False, True):
            ids(tokenizer, "warm", fast=quick)
            assert growth(lambda n: ids(tokenizer, RUNS[run] * n, fast=quick), 100_000) < 3  # noqa: B023


def test_the_engine_is_one_that_gave_the_right_ids(smollm2_file, monkeypatch):
    tokenizer = Bpe(source=str(smollm2_file))
    opened = tokenizer.opened
    wrong = ("wrong", lambda text: encoding.runner(opened, True).original.ids(text)[::-1])

    def broken(text):
        raise ValueError("no")

    monkeypatch.setattr(encoding, "candidates", lambda *_: iter([wrong, ("broken", broken)]))
    run = encoding.Runner(opened, True)
    assert run.engine == "tokenizers"
    installed = [name for name, _ in fast.candidates(opened, True)]
    assert tokenizer.engine in (*installed, "tokenizers")


def test_a_text_that_the_engine_refuses_is_encoded_by_the_original(smollm2_file, monkeypatch):
    opened = Bpe(source=str(smollm2_file)).opened
    original = encoding.Runner(opened, True).original

    def picky(text):
        if "zxqjzebra" in text:
            raise ValueError("no zebras")
        return original.ids(text)

    monkeypatch.setattr(encoding, "candidates", lambda *_: iter([("picky", picky)]))
    run = encoding.Runner(opened, True)
    run._seen = 2 * encoding.WORTH_LOADING
    assert run.engine == "picky"
    assert run.ids("a zxqjzebra").tolist() == original.ids("a zxqjzebra").tolist()


def test_short_texts_load_no_engine(smollm2_file):
    run = encoding.Runner(Bpe(source=str(smollm2_file)).opened, True)
    run.ids("short")
    assert "_fast" not in vars(run)


def test_bytes_without_a_piece(smollm2_file):
    """What the library leaves out is said, and the bytes belong to a neighbour."""
    tokenizer = Bpe(source=str(smollm2_file))
    with pytest.warns(LostBytes, match="1 bytes have no piece"):
        sequence = tokenizer.encode("a\x04b")
    assert tokenizer.decode(sequence) == b"ab"
    assert sequence.spans[:, :2].tolist() == [[0, 1], [1, 3]]
    assert "21 of the 256 bytes" in tokenizer.lossless.why
    with pytest.warns(LostBytes):
        assert len(tokenizer.encode("\x04")) == 0


def test_broken_bytes_are_single_ids(ranks, tmp_path):
    pytest.importorskip("tiktoken")
    tokenizer = Bpe(source=str(write_ranks(tmp_path / "cl100k_base.tiktoken", ranks)))
    sequence = tokenizer.encode(b"caf\xc3 \xff\xfe!")
    assert tokenizer.decode(sequence) == b"caf\xc3 \xff\xfe!"
    assert [ranks[b"\xff"], ranks[b"\xfe"]] == sequence.ids.tolist()[-3:-1]
    many = bytes(b for b in range(256)) * 2000
    assert tokenizer.decode(tokenizer.encode(many)) == many
    assert growth(lambda n: tokenizer.encode(many[:n]), len(many)) < 3


def test_a_changed_file_is_read_again(ranks, tmp_path):
    pytest.importorskip("tiktoken")
    file = write_ranks(tmp_path / "cl100k_base.tiktoken", ranks)
    tokenizer = Bpe(source=str(file))
    before = tokenizer.ids("Hello there")
    small = {p: r for p, r in ranks.items() if r < 256}
    write_ranks(file, small)
    assert tokenizer.ids("Hello there") != before
    assert len(tokenizer.ids("Hello there")) == 11


def test_a_pattern_is_asked_for(ranks, tmp_path):
    file = write_ranks(tmp_path / "mine.tiktoken", ranks)
    with pytest.raises(InvalidValue, match="how it splits text must be given"):
        Bpe(source=str(file)).encode("a")
    with pytest.raises(InvalidValue, match="regular expression"):
        Bpe(source=str(file), pattern="(").encode("a")
    pytest.importorskip("tiktoken")
    assert (
        Bpe(source=str(file), pattern=r"\s+|\S+").decode(Bpe(source=str(file), pattern=r"\s+|\S+").ids("a b")) == b"a b"
    )
    known = write_ranks(tmp_path / "r50k_base.tiktoken", ranks)
    with pytest.raises(InvalidValue, match="this file is known"):
        Bpe(source=str(known), pattern="x").encode("a")
    with pytest.raises(InvalidValue, match=r"only for \.tiktoken"):
        Bpe(source="smollm2", pattern="x").encode("a")


def test_another_kind_is_refused():
    with pytest.raises(InvalidValue, match="use unigram"):
        Bpe(source="sample-unigram").encode("a")


def test_names(smollm2_file):
    assert open_tokenizer("smollm2") == Bpe()
    assert open_tokenizer("bpe:special=true") == Bpe(special=True)
    assert open_tokenizer("segment/bpe") == Bpe()
    assert isinstance(open_tokenizer(str(smollm2_file)), FromFile)
    with pytest.raises(UnknownModel, match="did you mean 'cl100k_base'"):
        open_tokenizer("cl100k_bas")
    with pytest.raises(UnknownModel, match="nothing is there"):
        open_tokenizer("./gone/tokenizer.json")
    with pytest.raises(InvalidValue, match="must be a tokenizer"):
        open_tokenizer("stochastok")


def test_a_library_that_is_missing(ranks, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(InvalidValue, match="needs the package tiktoken"):
        Bpe(source=str(write_ranks(tmp_path / "gpt2.tiktoken", ranks))).encode("a")
