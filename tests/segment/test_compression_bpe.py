"""Compression-aware byte pairs: one candidate is plain BPE, several never do worse at a step."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tokenry.data import documents, read
from tokenry.segment.bpe import Bpe
from tokenry.segment.compression_bpe import CompressionBpe
from tokenry.segment.training.coding import Coding, Sampled
from tokenry.segment.training.pretokens import counted, words
from tokenry.segment.training.trainer import fresh, learn

pytest.importorskip("numba")

CORPUS = (read("in_the_year_2889"), read("sotu_1975"))


IDS = {piece: i for i, piece in enumerate(fresh().pieces) if piece}


def letters(text):
    """A text as words of ids of single bytes."""
    return [[IDS[bytes([b])] for b in word.encode()] for word in words(text)]


def test_one_candidate_is_plain_bpe(tmp_path):
    plain = Bpe.train(CORPUS, vocab_size=600, out=tmp_path / "plain")
    one = CompressionBpe.train(CORPUS, vocab_size=600, out=tmp_path / "one", width=1)
    more = CompressionBpe.train(CORPUS, vocab_size=600, out=tmp_path / "more", width=4, sample=8192)
    made = [dict(t.opened.content.description["model"]) for t in (plain, one, more)]
    assert made[0]["merges"] == made[1]["merges"] != made[2]["merges"]
    assert made[0]["vocab"] == made[1]["vocab"]


@pytest.mark.parametrize("coder", ["gzip", "lzma"])
def test_it_chooses_what_codes_best(coder):
    score = Coding(letters(CORPUS[0][:4000]), 3, coder)
    pairs = [(IDS[a], IDS[b]) for a, b in ((b" ", b"t"), (b"h", b"e"), (b"q", b"z"))]
    sizes = []
    for pair in pairs:
        tried = Coding(letters(CORPUS[0][:4000]), 3, coder)
        tried.merged(*pair, 300)
        sizes.append(tried.size())
    assert score.choose(pairs, 300) == sizes.index(min(sizes))
    assert score.choose([pairs[1], pairs[1]], 300) == 0


def test_the_sample_follows_every_merge():
    rng = random.Random(0)
    sequences = [[rng.randrange(1, 4) for _ in range(rng.randrange(1, 9))] for _ in range(200)]
    score, now = Coding(sequences, 2, "gzip"), [list(s) for s in sequences]
    for made, pair in enumerate([(1, 1), (2, 3), (4, 4), (5, 1), (3, 3)], 4):
        score.merged(*pair, made)
        now = [replaced(sequence, pair, made) for sequence in now]
        assert score._ids.tolist() == [i for sequence in now for i in sequence]
        assert score._last.tolist() == [i == len(s) - 1 for s in now for i in range(len(s))]


def replaced(sequence, pair, made):
    out, at = [], 0
    while at < len(sequence):
        whole = tuple(sequence[at : at + 2]) == pair
        out.append(made if whole else sequence[at])
        at += 1 + whole
    return out


def test_the_sample_codes_no_worse_than_with_plain_bpe():
    text = "".join(map(read, list(documents())[:3]))
    counts, sizes = counted([text], words), []
    for width in (1, 6):
        score = Coding(letters(text[:16000]), width, "gzip")
        known = learn(counts, 257 + 120, score=score)
        assert len(known.pairs) == 120
        sizes.append(score.size())
    assert sizes[1] < sizes[0]


def test_passages_are_drawn_evenly():
    """Each passage is as likely as every other one, and the whole text comes through."""
    text = "".join(f"{i:04096d}" for i in range(20))
    hits = np.zeros(20)
    for seed in range(400):
        sampled = Sampled([text[:40960], text[40960:]], 2 * 4096, seed)
        assert "".join(sampled) == text
        assert len(sampled.passages) == 2
        for passage in sampled.passages:
            hits[int(passage)] += 1
    assert hits.sum() == 800
    assert 20 < hits.min() <= hits.max() < 62
    small = Sampled(["abc"], 2, 0)
    assert list(small) == ["abc"]
    assert small.passages == ["ab"]
