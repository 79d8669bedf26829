"""KL3M: added text, short pieces, normal forms, and tokens that errors leave alone."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.segment.bpe import Bpe
from tokenry.segment.engines.hostile import TEXTS
from tokenry.segment.kl3m import GROUPS, Kl3m
from tokenry.segment.training.domain import outside

pytest.importorskip("numba")

CORPUS = (read("in_the_year_2889"), read("sotu_1975"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tokenizer with some fields, trained once."""
    kept = {}

    def of(**fields):
        key = repr(fields)
        if key not in kept:
            out = tmp_path_factory.mktemp("made") / "made"
            size = Kl3m(**fields).fewest_ids + 500
            kept[key] = Kl3m.train(CORPUS, vocab_size=size, out=out, **fields)
        return kept[key]

    return of


def test_added_text_is_one_id_in_every_context(made):
    tokenizer = made()
    ids = tokenizer.vocabulary.added
    longer = {a: [b for b in tokenizer.added if a != b and a in f"x{b}y"] for a in tokenizer.added}
    assert len(tokenizer.added) > 1500
    assert set(tokenizer.added) <= ids.keys() | {None}
    for text in tokenizer.added:
        for before, after in (("", ""), ("x", "y"), ("Word", "word"), ("é", "é"), (".", ".")):
            whole = before + text + after
            if not any(b in whole for b in longer[text]):
                assert ids[text] in tokenizer.encode(whole).ids.tolist(), whole


def test_the_longest_added_text_is_taken(made):
    tokenizer = made()
    shown = [tokenizer.vocabulary[i] for i in tokenizer.ids("in 1975, 12345 and 347 F. Supp. 2d 12")]
    assert b"1975" in shown
    assert b"347" in shown
    assert b"F. Supp. 2d" in shown
    assert [s for s in shown if s and s.isdigit()][1:3] == [b"123", b"45"]


def test_no_merged_piece_is_part_of_added_text_only(made):
    """Digits are always added text, but for zeros that stand alone, so none is learnt."""
    tokenizer = made()
    added = set(tokenizer.vocabulary.added.values())
    learnt = [p for i, p in enumerate(tokenizer.vocabulary) if p and len(p) > 1 and i not in added]
    assert learnt
    assert not any(p.strip(b"0").isdigit() for p in learnt)


@pytest.mark.parametrize("longest", [3, 4])
def test_no_piece_is_longer_than_the_limit(made, longest):
    tokenizer = made(longest=longest, add=())
    sizes = [len(p.decode()) for p in tokenizer.vocabulary if p and p.decode("utf-8", "ignore").encode() == p]
    assert max(sizes) == longest
    assert not tokenizer.vocabulary.missing_bytes


@settings(max_examples=60, deadline=None, database=None)
@given(text=st.one_of(st.text(max_size=40), st.sampled_from(TEXTS)))
@pytest.mark.parametrize("fields", [{}, {"longest": 3, "add": ()}, {"across": "whitespace", "add": ("numbers",)}])
def test_the_normal_form_comes_back(made, fields, text):
    tokenizer = made(**fields)
    assert tokenizer.decode(tokenizer.encode(text)).decode() == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_other_normal_forms(made, text):
    bare = made(nfkc=False, add=("years",))
    assert bare.lossless
    assert bare.decode(bare.encode(text)) == text.encode()
    lower = made(cased=False, add=("citations",))
    once = lower.decode(lower.encode(text)).decode()
    assert lower.lossless.level == "normalised"
    assert unicodedata.normalize("NFKC", once) == once
    assert not any(c.isupper() and c.isascii() for c in once)


def test_ids_are_filled_up_to_a_power_of_two(made):
    tokenizer = made(even=True, add=("json",))
    assert tokenizer.vocab_size & (tokenizer.vocab_size - 1) == 0
    assert tokenizer.encode("a text that is as it was").ids.max() < tokenizer.vocab_size
    assert sum(name.startswith("<|unused_") for name in tokenizer.vocabulary.named_marks) > 0
    assert tokenizer.decode(tokenizer.encode("<|unused_0|>")) == b"<|unused_0|>"


@pytest.mark.parametrize("across", ["whitespace", "chunks"])
def test_words_may_be_joined(made, across):
    pieces = [p for p in made(across=across, add=()).vocabulary if p]
    assert [p for p in pieces if b" " in p.strip() and p.strip().replace(b" ", b"").isalpha()]


def test_groups_stay_as_they_are_in_normal_form():
    added = [text for group in GROUPS.values() for text in group]
    assert all(unicodedata.normalize("NFKC", text) == text for text in added)
    assert not any(text.isalpha() for text in added)


def test_text_outside():
    cut = outside(["12", "123", "(a)", "."])
    assert cut("x123y12z(a)...") == ["x", "y", "z"]
    assert cut("") == []
    assert outside([])("as it is") == ["as it is"]


def test_an_error_changes_fewer_tokens_than_with_long_pieces(made, tmp_path):
    """The share of tokens that still stand where they stood, by their bytes."""
    text = read("moby_dick")[:6000]
    wrong = text.replace("rn", "m").replace("l", "1").replace("0", "O")
    plain = Bpe.train(CORPUS, vocab_size=4000, out=tmp_path / "plain")
    assert untouched(made(longest=3, add=()), text, wrong) > untouched(plain, text, wrong) + 0.02


def untouched(tokenizer, text, wrong):
    """Tokens of a text that are found, with the same bytes, in the damaged text too, aligned from both ends."""
    from difflib import SequenceMatcher

    ids, others = (tokenizer.encode(t).ids.tolist() for t in (text, wrong))
    blocks = SequenceMatcher(None, ids, others, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(ids)


def test_too_few_ids_for_what_is_added(tmp_path):
    with pytest.raises(InvalidValue, match="vocab_size must be at least 2"):
        Kl3m.train(CORPUS, vocab_size=900, out=tmp_path / "out")
