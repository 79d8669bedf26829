"""Entropies of sources that are known in closed form, and controls that choose nothing."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest

from tokenry import data
from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.measure.statistics.compression import packed
from tokenry.measure.statistics.controls import random_merges
from tokenry.measure.statistics.entropy import Windows, correction, entropy, renyi
from tokenry.measure.statistics.stream import Bytes, Stream, codec_of, stream_of
from tokenry.measure.tokenizer_information import TokenizerInformation


class Alphabet:
    """A vocabulary of K pieces of one byte, for ids that are given."""

    name = "alphabet"

    def __init__(self, size):
        self.vocabulary = Vocabulary(tuple(bytes([i]) for i in range(size)))

    def encode(self, text):
        return list(text.encode())


def of_ids(*documents, size, **more):
    codec = Alphabet(size)
    streams = [Stream(codec.vocabulary.spell(ids), np.array(ids), True) for ids in documents]
    return TokenizerInformation(tokenizer=codec, **more).over(streams, draws=0).values


def parts(characters=3000):
    texts = map(data.read, data.documents())
    return [text[i : i + characters] for text in texts for i in range(0, len(text), characters)]


def test_a_uniform_source_uses_the_whole_capacity():
    """Every pair of 8 tokens once around a de Bruijn cycle: H1 and H2 are exactly 3 bits."""
    cycle = de_bruijn(8, 2)
    found = of_ids([*cycle, cycle[0]], size=8, orders=2)
    assert found["h2"] == pytest.approx(3, abs=1e-9)
    assert found["bigram_entropy"] == pytest.approx(6, abs=1e-9)
    exact = of_ids(cycle, size=8, orders=1)
    assert exact["h1"] == exact["capacity"] == 3
    assert exact["capacity_use"] == 1
    assert exact["renyi_use"] == pytest.approx(1)
    assert exact["vocabulary_used"] == 1
    assert exact["fixed_width_bits_per_byte"] == 3


def test_a_cycle_leaves_nothing_to_say():
    found = of_ids([0, 1, 2, 3] * 250, [2, 3, 0, 1] * 250, size=4)
    assert found["h1"] == pytest.approx(2)
    for k in (2, 3, 4, 5):
        assert found[f"h{k}"] == pytest.approx(0, abs=1e-9)
    assert found["h2_shuffled"] > 1.9


def test_a_markov_source_has_its_rate():
    """Two states that are left with probability 0.1 and 0.3: H2 = sum of stationary share times binary entropy."""
    stay = (0.9, 0.7)
    share = np.array([0.3, 0.1]) / 0.4
    generator = np.random.default_rng(0)
    documents = []
    for _ in range(10):
        draws, state, ids = generator.random(20_000), 0, []
        for draw in draws:
            ids.append(state)
            state = state if draw < stay[state] else 1 - state
        documents.append(ids)
    found = of_ids(*documents, size=2)
    rate = sum(s * entropy(np.array([p, 1 - p])) for s, p in zip(share, stay, strict=True))
    assert found["h1"] == pytest.approx(entropy(share), abs=0.01)
    for k in (2, 3, 4, 5):
        assert found[f"h{k}"] == pytest.approx(rate, abs=0.01)
        assert found[f"h{k}_shuffled"] == pytest.approx(entropy(share), abs=0.01)
    assert rate < found["lzma_ids_bits_per_byte"] < found["gzip_ids_bits_per_byte"] < 1.5 * rate


def test_an_independent_source_after_correction():
    """Plug-in entropies fall with k alone; Miller and Madow give back most of it, and shuffling shows the rest."""
    ids = np.random.default_rng(1).integers(0, 64, 20_000)
    found = of_ids(ids, size=64, orders=2)
    assert 6 - found["h2"] > 0.1
    assert found["h2_corrected"] == pytest.approx(6, abs=0.04)
    assert abs(found["h2"] - found["h2_shuffled"]) < 0.01
    counts = np.bincount(ids[:300]).astype(float)
    assert entropy(counts) + correction(counts) == pytest.approx(entropy(counts) + (64 - 1) / (600 * math.log(2)))


def test_the_chain_rule_is_exact_on_the_same_windows():
    documents = [np.random.default_rng(i).integers(0, 9, 40 * i) for i in range(6)]
    windows = Windows(documents, 4)
    for weights in (None, np.array([0.0, 2, 1, 1, 3, 1])):
        parts = [windows.conditional(k, weights) for k in (1, 2, 3, 4)]
        assert sum(parts) == pytest.approx(windows.block(4, weights), abs=1e-9)
        assert all(part >= -1e-9 for part in parts)
    direct = {}
    for ids in documents:
        for i in range(len(ids) - 3):
            direct[tuple(ids[i : i + 4])] = direct.get(tuple(ids[i : i + 4]), 0) + 1
    assert windows.block(4) == pytest.approx(entropy(np.array(list(direct.values()), dtype=float)))


def test_renyi_entropy():
    counts = np.array([5.0, 3, 1, 1])
    assert renyi(counts, 1 + 1e-6) == pytest.approx(entropy(counts), abs=1e-5)
    assert renyi(counts, 1) == entropy(counts)
    assert renyi(counts, 0) == 2
    assert renyi(counts, 2) == pytest.approx(-math.log2(0.25 + 0.09 + 0.01 + 0.01))
    assert renyi(counts, 100) == pytest.approx(1, abs=0.02)


def test_bytes_of_a_text():
    text = "Lamp – lamp\n" * 50
    found = TokenizerInformation(tokenizer="bytes").measure(text)
    raw = text.encode()
    assert found["bytes"] == found["tokens"] == len(raw)
    assert found["bytes_per_token"] == found["whole_documents"] == 1
    assert found["fixed_width_bits_per_byte"] == 8
    assert found["gzip_bits_per_byte"] == found["gzip_ids_bits_per_byte"]
    assert found["gzip_bits_per_byte"] == 8 * len(gzip.compress(raw, 9, mtime=0)) / len(raw)
    assert found["missing_bytes"] == 0


def test_packed_ids():
    ids = np.array([0, 1, 258, 65535])
    assert packed(ids[:2], 256) == b"\0\1"
    assert packed(ids, 65536) == b"\0\0\1\0\2\1\xff\xff"
    assert len(packed(ids, 65537)) == 12
    assert packed(ids[:0], 5) == b""
    assert packed(ids[:1], 1) == b"\0"


def test_documents_shorter_than_a_run_and_empty_ones():
    found = TokenizerInformation(tokenizer="bytes").over(["", "ab", "a"], draws=20)
    assert found.values["h1"] == pytest.approx(entropy(np.array([2.0, 1.0])))
    assert found.values["h5"] == 0
    empty = TokenizerInformation(tokenizer="bytes").measure("")
    assert empty["tokens"] == 0
    assert math.isnan(empty["bytes_per_token"])


def test_intervals_grow_with_fewer_documents():
    many, few = parts()[:24], parts()[:24:8]
    method = TokenizerInformation(tokenizer="bytes", orders=2)
    wide, narrow = (method.over(texts, draws=100).intervals["h2"] for texts in (few, many))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Documents of an independent source whose skew differs from one to the next; H1 of the mixture is known."""
    inside = 0
    for trial in range(100):
        generator = np.random.default_rng(trial)
        shares = generator.choice([0.1, 0.3, 0.5], 40)
        streams = [Stream(b"x" * 200, (generator.random(200) < s).astype(int), True) for s in shares]
        low, high = TokenizerInformation(tokenizer=Alphabet(2), orders=1).over(streams).intervals["h1"]
        inside += low <= entropy(np.array([0.3, 0.7])) <= high
    assert 88 <= inside <= 99


def test_real_tokenizers_and_controls(smollm2, minilm):
    texts = parts()
    control = random_merges(texts, 4096)
    assert len(control.vocabulary) == 4096
    assert control.vocabulary.missing_bytes == ()
    named = {"smollm2": smollm2.tokenizer, "minilm": minilm.tokenizer, "control": control, "bytes": "bytes"}
    found = {name: TokenizerInformation(tokenizer=t).over(texts, draws=0).values for name, t in named.items()}
    assert found["smollm2"] == TokenizerInformation(tokenizer="smollm2").over(texts, draws=0).values
    order = ("smollm2", "control", "bytes")
    assert sorted(order, key=lambda n: -found[n]["bytes_per_token"]) == list(order)
    assert sorted(order, key=lambda n: found[n]["h1_bits_per_byte"]) == list(order)
    assert all(found[name]["whole_documents"] == 1 for name in order)
    assert found["minilm"]["whole_documents"] == 0
    assert found["smollm2"]["missing_bytes"] == 21
    assert found["smollm2"]["bytes"] == sum(len(t.encode()) for t in texts)


def test_random_merges():
    texts = ["low lower lowest newer"] * 3
    small, same, other = random_merges(texts, 262), random_merges(texts, 262), random_merges(texts, 262, seed=5)
    assert small.vocabulary.pieces == same.vocabulary.pieces != other.vocabulary.pieces
    assert len(small.vocabulary) == 262
    assert stream_of(small, "lowest é\x04").whole
    whole = random_merges(texts, 10_000)
    assert whole.encode("low lowest") == [whole.vocabulary.ids[b"low"], whole.vocabulary.ids[b" lowest"]]
    assert len(whole.vocabulary) < 300
    with pytest.raises(InvalidValue, match="size must be at least 256"):
        random_merges(texts, 100)


def test_what_is_no_tokenizer_is_refused():
    for wrong in (3, object(), str.encode):
        with pytest.raises(InvalidValue, match="tokenizer: must be a name"):
            TokenizerInformation(tokenizer=wrong)
    assert codec_of(codec_of("bytes")).name == "bytes"
    assert isinstance(codec_of("bytes"), Bytes)


def test_pictures(tmp_path):
    found = TokenizerInformation(tokenizer="bytes").over(parts()[:4], draws=20)
    found.plot(tmp_path / "a.svg", names=("h1", "h2", "bytes_per_token"))
    found.plot(tmp_path / "b.png", names=("capacity_use",))
    assert min(f.stat().st_size for f in tmp_path.iterdir()) > 1000


def de_bruijn(size, order):
    """A cycle in which every run of `order` letters occurs once."""
    letters, found = [0] * size * order, []

    def extend(t, p):
        if t > order:
            if order % p == 0:
                found.extend(letters[1 : p + 1])
            return
        letters[t] = letters[t - p]
        extend(t + 1, p)
        for j in range(letters[t - p] + 1, size):
            letters[t] = j
            extend(t + 1, t)

    extend(1, 1)
    return found
