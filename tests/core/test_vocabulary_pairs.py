"""Which ids may stand side by side, and which pieces begin alike: beside the libraries that merge."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.growth import growth
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.data import read
from tokenry.models.files.vocabularies.find import open_vocabulary
from tokenry.models.text.vocabulary import by_rank, pieces_of

BYTES = tuple(bytes([b]) for b in range(256))
PIECES = Vocabulary((None, b"a", b"b", b"ab", b"a", b"a\xff", b"a\xffz"), {"<s>": 0, "ab": 3})


@pytest.fixture(scope="module")
def library():
    """Byte pairs whose texts are one split."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    lines = read("in_the_year_2889").splitlines()
    made.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    return made


@pytest.fixture(scope="module")
def vocabulary(library):
    return pieces_of(json.loads(library.to_str()))


def test_pieces_that_begin_alike():
    assert PIECES.starting_with(b"a") == [1, 4, 3, 5, 6]
    assert PIECES.starting_with(b"a\xff") == [5, 6]
    assert PIECES.starting_with(b"") == [1, 4, 3, 5, 6, 2]
    assert PIECES.starting_with(b"\xff") == PIECES.starting_with(b"abc") == []
    assert Vocabulary((b"\xff\xff", b"\xff", None)).starting_with(b"\xff") == [1, 0]


@pytest.mark.parametrize("wrong", [-1, -7, 7])
def test_ids_that_there_are_not_are_refused(vocabulary, wrong):
    for look in (PIECES.__getitem__, lambda i: PIECES.spell([1, i])):
        with pytest.raises(InvalidValue, match=f"ids must be from 0 to 6; got {wrong}"):
            look(wrong)
    far = wrong if wrong < 0 else len(vocabulary)
    for look in (lambda i: vocabulary.valid([i]), lambda i: vocabulary.valid_pair(i, 0)):
        with pytest.raises(InvalidValue, match="ids must be from 0"):
            look(far)


def test_marks_by_name():
    assert PIECES.named_marks == {"<s>": 0}


def test_pairs_are_those_that_the_library_gives(library, vocabulary):
    rng = random.Random(0)
    wrong = seen = 0
    for _ in range(4000):
        pair = rng.randrange(len(vocabulary)), rng.randrange(len(vocabulary))
        text = vocabulary.spell(pair).decode("utf-8", "replace")
        if text.encode() == vocabulary.spell(pair):
            valid = library.encode(text).ids == list(pair)
            assert vocabulary.valid_pair(*pair) == vocabulary.valid(pair) == valid, pair
            wrong, seen = wrong + (not valid), seen + 1
    assert seen > 2000
    assert wrong > 50


@settings(max_examples=60, deadline=None, database=None)
@given(text=st.text(alphabet="the world in 2889é", max_size=40))
def test_what_the_library_gives_is_valid(library, vocabulary, text):
    ids = library.encode(text).ids
    assert vocabulary.merged([vocabulary.ids[bytes([b])] for b in text.encode()]) == ids
    assert vocabulary.valid(ids)
    assert all(vocabulary.valid_pair(*pair) for pair in pairwise(ids))


def test_valid_pairs_make_valid_sequences(vocabulary):
    """The rule that lets sequences be built from the left."""
    rng, ids = random.Random(1), range(len(vocabulary))
    for _ in range(300):
        sequence = [rng.choice(ids) for _ in range(4)]
        pairs = all(vocabulary.valid_pair(*pair) for pair in pairwise(sequence))
        assert pairs == vocabulary.valid(sequence)


def test_ranks_merge_where_the_whole_is_a_piece():
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {piece: i for i, piece in enumerate((*BYTES, b"ab", b"bc", b"abc", b"aa", b"bcaa", b"cab"))}
    vocabulary = Vocabulary(tuple(ranks), merging=lambda: by_rank(ranks, ranks.__getitem__), whole_first=True)
    theirs = tiktoken.Encoding("tiny", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})
    rng = random.Random(2)
    for _ in range(500):
        text = "".join(rng.choices("abc", k=rng.randrange(1, 9)))
        ids = theirs.encode(text)
        assert vocabulary.valid(ids)
        other = [rng.randrange(256, len(ranks)) for _ in range(2)]
        assert vocabulary.valid(other) == (theirs.encode(vocabulary.spell(other).decode()) == other)


def test_sentencepiece_merges_the_best_score_first(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(read("in_the_year_2889").splitlines()), model_prefix=str(tmp_path / "small"),
        model_type="bpe", vocab_size=500, byte_fallback=True, user_defined_symbols=["<tool>"], minloglevel=2,
    )  # fmt: skip
    vocabulary = open_vocabulary(str(tmp_path / "small.model")).vocabulary
    library = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "small.model"))
    for word in read("sotu_1975").split()[:400]:
        ids = library.encode(word)
        if not any(library.is_byte(i) or library.is_unknown(i) for i in ids):
            assert vocabulary.valid(ids), word
    assert vocabulary.named_marks.keys() >= {"<s>", "</s>"}
    assert vocabulary[vocabulary.added["<tool>"]] == b"<tool>"


def test_the_first_ids():
    assert PIECES.first(3).pieces == PIECES.pieces[:3]
    assert PIECES.first(3).added == {"<s>": 0}


def test_marks_and_pieces_that_never_come_out():
    pieces = (None, b"a", b"b", b"c", b"ab", b"bc", b"abc")
    merges = [(2, 3, 5, 0), (1, 2, 4, 1), (4, 3, 6, 2)]
    vocabulary = Vocabulary(pieces, merging=lambda: merges)
    assert vocabulary.merged([6]) == [1, 5]
    assert not vocabulary.valid([6])
    assert not vocabulary.valid([0])
    assert not vocabulary.valid_pair(6, 1)
    assert not vocabulary.valid_pair(0, 1)
    assert vocabulary.valid_pair(1, 5)
    assert not vocabulary.valid_pair(4, 3)
    whole = Vocabulary(pieces, merging=lambda: merges, whole_first=True)
    assert whole.valid([6])
    assert not whole.valid([1, 5])


def test_without_merges():
    for ask in (lambda: PIECES.valid([1]), lambda: PIECES.valid_pair(1, 2), lambda: PIECES.merged([1])):
        with pytest.raises(Incompatible, match="must be made of byte pairs"):
            ask()


def test_a_long_text_takes_time_in_line(vocabulary):
    a = vocabulary.ids[b"a"]
    assert growth(lambda n: vocabulary.merged([a] * n), 4000) < 3
