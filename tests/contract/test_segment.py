"""Every tokenizer, found through the registry: what any of them must hold to."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.cases import cases
from tokenry.core.errors import InvalidValue, UnknownModel, UnreadableInput
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.data import read
from tokenry.segment.base import Tokenizer
from tokenry.segment.engines.encoding import LostBytes
from tokenry.segment.engines.hostile import TEXTS
from tokenry.segment.engines.opening import open_tokenizer

BROKEN = (b"\xff", b"a\xffb", b"caf\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98 x\x80\x80\n\xc0\xaf", bytes(range(256)))
TOKENIZERS = [c for c in cases("segment") if issubclass(c.method, Tokenizer)]
CORPUS = ("in_the_year_2889", "sotu_1975")

pytestmark = pytest.mark.filterwarnings("ignore::tokenry.segment.engines.encoding.LostBytes")


@pytest.fixture(params=TOKENIZERS, ids=[c.name for c in TOKENIZERS])
def case(request):
    return request.param


@pytest.fixture
def tokenizer(case):
    return ready(case.trial())


def ready(tokenizer):
    try:
        assert tokenizer.vocab_size
    except UnknownModel as error:
        pytest.skip(str(error))
    return tokenizer


def check_spans(sequence: TokenSequence, data: bytes) -> None:
    """Spans follow each other and cover the text."""
    low, high = sequence.spans[:, 0], sequence.spans[:, 1]
    assert bool((low <= high).all())
    assert low[1:].tolist() == high[:-1].tolist()
    if len(sequence):
        assert (int(low[0]), int(high[-1])) == (0, len(data))
    assert not sequence.spans[:, 2:].any()


@pytest.mark.parametrize("text", [*TEXTS, *BROKEN], ids=range(len(TEXTS) + len(BROKEN)))
def test_spans_partition_the_source(tokenizer, text):
    sequence = tokenizer.encode(text)
    check_spans(sequence, text if isinstance(text, bytes) else text.encode())
    assert sequence.sources[0].kind == "text"
    assert sequence.sources[0].data == text
    assert sequence.source.tolist() == [0] * len(sequence)
    assert all(0 <= i < tokenizer.vocab_size for i in sequence.ids.tolist())
    assert sequence.ids.dtype == sequence.spans.dtype == torch.long


@pytest.mark.parametrize("text", [*TEXTS, *BROKEN], ids=range(len(TEXTS) + len(BROKEN)))
def test_what_comes_back(case, tokenizer, text):
    data = text if isinstance(text, bytes) else text.encode()
    if tokenizer.lossless:
        assert tokenizer.decode(tokenizer.encode(text)) == data
    else:
        assert tokenizer.lossless.why
    once = tokenizer.decode(tokenizer.encode(text))
    if tokenizer.lossless.level == "normalised":
        assert tokenizer.decode(tokenizer.encode(once)) == once


@settings(max_examples=60, deadline=None, database=None)
@given(st.one_of(st.text(max_size=40), st.binary(max_size=40)))
@pytest.mark.parametrize("case", TOKENIZERS, ids=[c.name for c in TOKENIZERS])
def test_anything(case, text):
    tokenizer = ready(case.trial())
    data = text if isinstance(text, bytes) else text.encode()
    sequence = tokenizer.encode(text)
    check_spans(sequence, data)
    assert not tokenizer.lossless or tokenizer.decode(sequence) == data


def test_the_bytes_of_a_token_are_its_piece(tokenizer):
    text = "An  unaffable 🤷🏽‍♀️ naïve\n\tcat."
    sequence, vocabulary = tokenizer.encode(text), tokenizer.vocabulary
    held = [text.encode()[a:b] for a, b in sequence.spans[:, :2].tolist()]
    pieces = [vocabulary[i] for i in sequence.ids.tolist()]
    if tokenizer.lossless:
        assert held == pieces
    else:
        assert all(
            p is None or p.strip().lower() in h.strip().lower() or not h.isascii()
            for p, h in zip(pieces, held, strict=True)
        )


def test_half_a_character_is_refused(tokenizer):
    with pytest.raises(InvalidValue, match=r"half a surrogate pair at 1; pass bytes"):
        tokenizer.encode("a\ud83db")


def test_ids_that_there_are_not(tokenizer):
    for wrong in (-1, tokenizer.vocab_size, 1 << 40):
        with pytest.raises(InvalidValue, match=r"ids must be from 0"):
            tokenizer.decode([wrong])
    assert tokenizer.decode([]) == b""


def test_every_id_decodes(tokenizer):
    some = range(0, tokenizer.vocab_size, max(1, tokenizer.vocab_size // 300))
    assert all(isinstance(tokenizer.decode([i]), bytes) for i in some)


def test_interleaved_values_do_not_see_each_other(case, tokenizer):
    """A mark is text, but where the method was told otherwise."""
    marking = case.method(**{**case.entry.card.trial, "special": True})
    mark = next(iter(tokenizer.opened.marks), None)
    text = f"a {mark} b"
    first = tokenizer.encode(text).ids.tolist()
    other = marking.encode(text).ids.tolist()
    assert tokenizer.encode(text).ids.tolist() == first
    assert marking.encode(text).ids.tolist() == other
    if mark is not None:
        assert tokenizer.opened.marks[mark] not in first
        assert tokenizer.opened.marks[mark] in other


def test_sequences_make_batches(tokenizer):
    rows = [tokenizer.encode(t) for t in ("A long first row of text, with more words.", "short")]
    batch = TokenBatch.collate(rows)
    assert batch.lengths.tolist() == [len(r) for r in rows]
    assert not batch.mask[1, 0]


def train(case, corpus, out, **how):
    """A small vocabulary, with the fields of the trial."""
    return case.method.train(corpus, vocab_size=900, out=out, **fields(case), **how)


def fields(case):
    """What the trial says of training."""
    return {name: value for name, value in case.entry.card.trial.items() if name not in ("source", "special")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each kind trained once on two texts and a file."""
    kept = {}

    def of(case):
        if case.name not in kept:
            folder = tmp_path_factory.mktemp("trained")
            (folder / "corpus.txt").write_text(read(CORPUS[1]), encoding="utf-8")
            corpus = [read(CORPUS[0]), folder / "corpus.txt"]
            kept[case.name] = (corpus, train(case, corpus, folder / "made"))
        return kept[case.name]

    return of


def test_training_is_the_same_twice(case, trained, tmp_path):
    corpus, tokenizer = trained(case)
    again = train(case, corpus, tmp_path / "again")
    assert 600 < tokenizer.vocab_size <= 900
    assert again.vocabulary.fingerprint == tokenizer.vocabulary.fingerprint
    made = [Path(t.source, "tokenizer.json").read_bytes() for t in (tokenizer, again)]
    assert made[0] == made[1]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_was_trained_opens_everywhere(case, trained, text):
    from transformers import AutoTokenizer

    _, tokenizer = trained(case)
    assert open_tokenizer(tokenizer.source) == tokenizer
    theirs = AutoTokenizer.from_pretrained(tokenizer.source)
    ids = tokenizer.encode(text).ids.tolist()
    marking = replace(tokenizer, special=True)
    assert theirs(text, add_special_tokens=False)["input_ids"] == marking.encode(text).ids.tolist()
    if tokenizer.lossless:
        assert tokenizer.decode(ids) == text.encode()


def test_training_helps(case, trained):
    """Fewer tokens than characters on a text it has not seen."""
    _, tokenizer = trained(case)
    text = read("moby_dick")
    assert len(tokenizer.encode(text)) < len(text) / 2


def test_what_cannot_be_trained(case, tmp_path):
    train, out = partial(case.method.train, **fields(case)), tmp_path / "out"
    for corpus in ([], [""], ["", ""]):
        with pytest.raises(InvalidValue, match="corpus: must hold some text"):
            train(corpus, vocab_size=900, out=out)
    with pytest.raises(InvalidValue, match="vocab_size must be at least"):
        train(["text"], vocab_size=5, out=out)
    with pytest.raises(InvalidValue, match="must be a list"):
        train("text", vocab_size=900, out=out)
    for wrong, reason in (("a\ud800b", "half a surrogate pair at 1"), (b"text", "texts and paths; got bytes")):
        for corpus in (["text", wrong], iter([wrong])):
            with pytest.raises(InvalidValue, match=reason if isinstance(corpus, list) else f"{reason}|be a list"):
                train(corpus, vocab_size=5000, out=out)
    (tmp_path / "binary").write_bytes(b"a\0b")
    (tmp_path / "latin").write_bytes("é".encode("latin1"))
    for name, reason in (("binary", "zero bytes"), ("latin", "UTF-8"), ("gone", "readable")):
        with pytest.raises(UnreadableInput, match=reason):
            train([tmp_path / name], vocab_size=900, out=out)
    assert not out.exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(InvalidValue, match="must be a new folder"):
        train(["text"], vocab_size=900, out=full)
    assert (full / "mine.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_training_leaves_nothing(case, tmp_path):
    def stop(phase, done, total):
        if phase != "reading":
            raise KeyboardInterrupt

    def corpus():
        yield read(CORPUS[0])
        raise KeyboardInterrupt

    given_list = [read(CORPUS[0])]
    with pytest.raises((KeyboardInterrupt, InvalidValue)):
        train(case, corpus(), tmp_path / "out")
    if case.entry.name != "wordpiece":
        with pytest.raises(KeyboardInterrupt):
            train(case, given_list, tmp_path / "out", progress=stop)
    assert not list(tmp_path.iterdir())


def test_training_refuses_what_it_does_not_have(case, tmp_path):
    with pytest.raises(InvalidValue, match="nonsense"):
        case.method.train(["text"], vocab_size=900, out=tmp_path / "out", nonsense=1)


def test_lost_bytes_are_said(tokenizer):
    missing = tokenizer.vocabulary.missing_bytes
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tokenizer.encode("nothing is lost here")
        assert not said
        tokenizer.encode(b"a\xff" + bytes(missing[:1]) + b"b")
    assert bool(tokenizer.lossless) == (not any(w.category is LostBytes for w in said))
