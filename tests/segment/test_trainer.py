"""The trainer of byte pairs: beside tokenizers and counting anew, interrupted, from what there is, and at length."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.growth import growth
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.data import documents, read
from tokenry.models.files.load import load_tokenizer
from tokenry.models.text.vocabulary import vocabulary_of
from tokenry.segment.bpe import Bpe
from tokenry.segment.engines.hostile import TEXTS as HOSTILE
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.training import note
from tokenry.segment.training.pairs import of_words
from tokenry.segment.training.pretokens import Forgotten, chunks, counted, words
from tokenry.segment.training.trained import ALPHABET, END, byte_level_words
from tokenry.segment.training.trainer import begun, fresh, learn

pytest.importorskip("numba")

TEXTS = tuple(map(read, list(documents())[:6]))


def recounted(sequences, counts, size, merges):
    """Byte pairs as published: count all pairs anew for each merge."""
    now, found = [list(s) for s in sequences], []
    for made in range(size, size + merges):
        pairs = Counter()
        for sequence, count in zip(now, counts, strict=True):
            for pair in pairwise(sequence):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append((*best, pairs[best]))
        now = [replaced(sequence, best, made) for sequence in now]
    return found, now


def replaced(sequence, pair, made):
    out, at = [], 0
    while at < len(sequence):
        whole = tuple(sequence[at : at + 2]) == pair
        out.append(made if whole else sequence[at])
        at += 1 + whole
    return out


@settings(max_examples=80, deadline=None, database=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=24), st.integers(1, 5)), min_size=1))
def test_pairs_are_those_of_counting_anew(sequences):
    expected, after = recounted(*zip(*sequences, strict=True), 3, 8)
    pairs, found = of_words(sequences, sizes=[1] * 3), []
    for made in range(3, 3 + len(expected)):
        found += pairs.best()
        pairs.merge(*found[-1][:2], made)
    assert found == expected
    assert pairs.sequences() == after


def test_the_first_of_many_pairs():
    pairs = of_words([([0, 1], 5), ([1, 2], 5), ([2, 0], 3), ([0, 0], 1)], sizes=[1] * 3)
    assert pairs.best(3) == pairs.best(3) == [(0, 1, 5), (1, 2, 5), (2, 0, 3)]
    assert pairs.best(9, fewest=3) == [(0, 1, 5), (1, 2, 5), (2, 0, 3)]


def test_a_pair_that_occurs_again_is_offered_again():
    """Two pairs may make one piece: what follows it is counted together."""
    pairs = of_words([([0, 3, 9], 4), ([2, 1, 9], 3)], sizes=[1] * 10)
    pairs.merge(0, 3, 10)
    assert pairs.best() == [(10, 9, 4)]
    pairs.merge(2, 1, 10)
    assert pairs.best() == [(10, 9, 7)]


def test_merges_are_those_of_tokenizers():
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = byte_level_words()
    alphabet = list(ALPHABET)
    trainer = trainers.BpeTrainer(
        vocab_size=3000, special_tokens=[END], initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    library.train_from_iterator(TEXTS, trainer=trainer)
    theirs = json.loads(library.to_str())["model"]
    ours = learn(counted(TEXTS, words), 3000, fewest=2)
    model = ours.description(pre_tokenizer=pre_tokenizers.ByteLevel())["model"]
    assert model["merges"] == theirs["merges"]
    assert model["vocab"] == theirs["vocab"]
    assert all(earlier >= later for earlier, later in pairwise(ours.counts))


@pytest.mark.parametrize("unit", ["bytes", "characters"])
def test_no_piece_is_too_long(unit):
    """Of characters of which a piece has a part, each counts."""
    text = "naïve café 日本語日本語 naïve café" * 3
    found = learn(counted([text], words), 400, longest=2, unit=unit)
    made = [piece for piece in found.pieces if piece and len(piece) > 1]
    owner = [i for i, c in enumerate(text) for _ in c.encode()]
    for piece in made:
        at = text.encode().find(piece)
        touched = owner[at + len(piece) - 1] - owner[at] + 1
        assert (len(piece) if unit == "bytes" else touched) <= 2
    assert any(len(piece) > 2 for piece in made) == (unit == "characters")


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path))
    counts = counted(TEXTS[:2], words)
    whole = learn(counts, 900)
    assert not list(tmp_path.rglob("*.json"))

    def stop(phase, done, total):
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(counts, 900, progress=stop, every=0)
    (kept,) = note.folder().iterdir()
    done = json.loads(kept.read_text())["merges"]
    assert 200 < len(done) < 600
    asked = []
    again = learn(counts, 900, progress=lambda phase, done, total: asked.append(done), every=0)
    assert (again.pairs, again.counts, again.pieces) == (whole.pairs, whole.counts, whole.pieces)
    assert not list(note.folder().iterdir())
    with pytest.raises(KeyboardInterrupt):
        learn(counts, 900, progress=stop, every=0)
    for damage in ("", "[]", '{"merges": [[1, 2]]}', '{"merges": [[5, 99999, 1]]}', '{"merges": [[1, -2, 1]]}'):
        kept.write_text(damage)
        assert learn(counts, 900).pairs == whole.pairs


def test_a_vocabulary_is_learnt_on():
    """Old ids and merges stay, bytes that were missing get ids, and new text takes fewer tokens."""
    old = vocabulary_of(load_tokenizer("smollm2"))
    text = "evlerimizden evlerinizden evlerinden görüşeceğiz\x04 " * 50
    begin = begun(old)
    assert begin.pieces[: len(old)] == list(old.pieces)
    assert len(begin.pieces) == len(old) + 21
    found = learn(counted([text], words), len(begin.pieces) + 30, begin=begin)
    assert found.pairs[: len(begin.pairs)] == begin.pairs
    assert len(begin.pieces) < len(found.pieces) <= len(begin.pieces) + 30
    ids = {piece: i for i, piece in enumerate(found.pieces) if piece}
    merges = [(a, b, ids[found.pieces[a] + found.pieces[b]], rank) for rank, (a, b) in enumerate(found.pairs)]
    new = Vocabulary(tuple(found.pieces), merging=lambda: merges)
    assert not new.missing_bytes
    assert b" evlerimizden" in new.ids
    word = [new.ids[bytes([b])] for b in b" evlerimizden"]
    assert len(new.merged(word)) == 1 < len(old.merged([old.ids[bytes([b])] for b in b" evlerimizden"]))
    with pytest.raises(Incompatible, match="byte pairs"):
        begun(Vocabulary((b"a", b"b")))


def test_what_there_is_too_much_of_is_forgotten():
    rare = [" " + "".join(letters) for letters in product("abcdefghij", repeat=3)][:400]
    many = ["".join(rare[n : n + 50]) + " often" for n in range(0, 400, 50)]
    with pytest.warns(Forgotten, match="more than 100 different"):
        found = counted(many, words, most=100)
    assert len(found) <= 100
    assert found[" often"] == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(counted(many, words).values()) == 8 * 51


def test_words_are_those_of_tokenizers():
    for text in (*HOSTILE, "x" * 1000, TEXTS[0]):
        theirs = Counter(text[a:b] for _, (a, b) in byte_level_words().pre_tokenize_str(text))
        assert counted([text], words) == theirs, text[:80]


def test_chunks_are_the_text():
    lengths = lambda n: np.full(n, 3)  # noqa: E731
    assert chunks("abcdefgh", lengths) == ["abc", "def", "gh"]
    assert chunks("ab" + "=" * 9 + "\ncd", lengths, run=7) == ["ab", "=" * 9, "\ncd"]
    assert chunks("", lengths, run=7) == chunks("", lengths) == []
    assert "".join(chunks(TEXTS[0], lengths, run=2)) == TEXTS[0]


@pytest.mark.parametrize("text", ["a", "\0", "aa", "é", "\u200b\u0301", "a" * 100_000, "\n"])
def test_corpora_of_almost_nothing(text):
    found = learn(counted([text], words), 300)
    assert found.pieces[: len(fresh().pieces)] == fresh().pieces
    assert all(text.encode() * 2 != piece for piece in found.pieces)


def test_no_words():
    with pytest.raises(InvalidValue, match="must hold some text"):
        learn({}, 300)


def test_a_long_word_and_many_words_take_time_in_line():
    rng = random.Random(0)
    text = "".join(rng.choices("abcdefgh ", k=160_000))
    assert growth(lambda n: learn({text[:n]: 1}, 400), 160_000) < 2
    assert growth(lambda n: chunks("a=" * (n // 2), lambda m: np.full(m, 5), run=7), 160_000) < 2
    assert growth(lambda n: learn({"a" * n: 1}, 400), 160_000) < 2


def test_the_folder_says_who_learnt_it(tmp_path):
    made = Bpe.train(TEXTS[:1], vocab_size=400, out=tmp_path / "made")
    file = tmp_path / "made" / "tokenizer_config.json"
    for by in (1, "segment/nothing", "segment/stochastok", "attend/window", "segment/kl3m:nonsense=1", "segment/kl3m"):
        file.write_text(json.dumps({"trained_by": by}))
        opened = open_tokenizer(made.source)
        assert opened.name() == ("kl3m" if by == "segment/kl3m" else "bpe")
        assert opened.encode("hello").ids.tolist() == made.encode("hello").ids.tolist()
