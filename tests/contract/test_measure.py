"""Every metric and benchmark, found through the registry: what any of them must hold to."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.contract.cases import cases
from tokenry import Pipeline, PromptTuning
from tokenry.core.errors import InvalidValue
from tokenry.measure.base import Benchmark, Metric
from tokenry.measure.tasks.answering import Chosen, Generated, Told
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

ALL = cases("measure")
METRICS = [c for c in ALL if issubclass(c.method, Metric)]
BENCHMARKS = [c for c in ALL if issubclass(c.method, Benchmark)]
TEXTS = ("The lamp was paid for by the town.", "", "Bees make honey – and honey keeps.\n\n", "a" * 40)
CORPORA = {"morphology": ("ev+ler\nkitab+ı", "", "gel", "göz+lük+çü\nev+ler")}
"""Samples of metrics that measure something else than texts, by name."""


@pytest.fixture(params=ALL, ids=[c.name for c in ALL])
def case(request):
    return request.param


@pytest.fixture(params=METRICS, ids=[c.name for c in METRICS])
def metric(request):
    return request.param.trial(), list(CORPORA.get(request.param.entry.name, TEXTS))


@pytest.fixture(params=BENCHMARKS, ids=[c.name for c in BENCHMARKS])
def benchmark(request):
    return request.param.trial()


@pytest.fixture(scope="module")
def language(smollm2):
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    return LanguageModel(model, smollm2.tokenizer, "tiny", 2048)


def test_one_sample_alone_is_a_corpus_of_one(metric):
    method, corpus = metric
    for sample in corpus:
        alone = method.measure(sample)
        assert all(isinstance(value, float) for value in alone.values())
        np.testing.assert_equal(method.over([sample]).values, alone)
        assert method.over([sample]).intervals == {}


def test_a_sample_that_counts_twice_stands_there_twice(metric):
    method, corpus = metric
    weights = np.array([2.0, *[1.0] * (len(corpus) - 1)])
    twice = method.pool([corpus[0], *corpus])(np.ones(len(corpus) + 1))
    # What is shuffled is shuffled anew.
    for name, value in method.pool(corpus)(weights).items():
        assert "shuffled" in name or value == pytest.approx(twice[name], nan_ok=True), name


def test_intervals_hold_the_number_and_are_the_same_again(metric):
    method, corpus = metric
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()
    found, again = method.over(corpus, draws=50), method.over(iter(corpus), draws=50)
    np.testing.assert_equal(found.to_dict(), again.to_dict())
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())
    for name, (low, high) in found.intervals.items():
        assert low <= found.values[name] + 1e-9, name
        assert found.values[name] <= high + 1e-9, name


def test_an_empty_corpus_is_refused(metric):
    with pytest.raises(InvalidValue, match="at least one sample"):
        metric[0].over([])


@dataclass(frozen=True, kw_only=True)
class Words(Metric):
    """Words of a text, and the share of long ones where there are any."""

    def measure(self, sample):
        words = sample.split()
        return {"words": float(len(words))} | ({"long": sum(len(w) > 4 for w in words) / len(words)} if words else {})


def test_numbers_of_a_corpus_are_means_where_nothing_else_is_said():
    found = Words().over(["one two three", "", "seven"], draws=100)
    assert found.values == {"words": pytest.approx(4 / 3), "long": pytest.approx(2 / 3)}
    assert found.intervals["words"][0] < 4 / 3 < found.intervals["words"][1]
    assert Words().pool(["one two", "three"])(np.array([1.0, 3.0])) == {"words": 1.25, "long": 0.75}
    assert found.to_dict()["samples"] == 3


def test_the_same_seed_gives_the_same_bytes(benchmark):
    one, two, other = (list(benchmark.samples(seed=s)) for s in (3, 3, 4))
    assert one == two
    assert [s.text for s in one] != [s.text for s in other]
    assert len({s.id for s in one}) == len(one) > 3
    assert list(benchmark.samples(seed=3, limit=3)) == one[:3]
    assert list(benchmark.samples(seed=3, limit=0)) == []
    json.dumps([dict(s.facts) for s in one])


def test_right_answers_are_right_and_others_wrong(benchmark):
    samples = list(benchmark.samples())
    for sample, other in zip(samples, samples[1:] + samples[:1], strict=True):
        assert benchmark.score(sample, sample.write(sample.answers))["right"] == 1
        assert benchmark.score(sample, other.write(other.answers))["right"] < 1
        for nothing in ("", "[]", "{", "I do not know", '"', "\0", "[" * 100_000):
            assert benchmark.score(sample, nothing)["right"] == 0


def test_an_interrupted_run_goes_on(benchmark, tmp_path):
    asked = []

    def answer(sample):
        asked.append(sample.id)
        return sample.write(sample.answers)

    class Stop(Exception):
        pass

    def stop(_):
        if len(asked) == 2:
            raise Stop

    file = tmp_path / "results.json"
    with pytest.raises(Stop):
        benchmark.run(Told(answer), file=file, tell=stop)
    assert len(json.loads(file.read_text())["rows"]) == 2
    results = benchmark.run(Told(answer), file=file)
    assert asked == [s.id for s in benchmark.samples()]
    assert results.to_dict() == benchmark.run(Told(answer)).to_dict() == json.loads(file.read_text())
    assert results.summary()["right"]["mean"] == 1
    with pytest.raises(InvalidValue, match="another file"):
        benchmark.run(Told(answer), seed=1, file=file)


def test_models_answer_and_stay_as_they_are(benchmark, language):
    before = {name: p.clone() for name, p in language.model.named_parameters()}
    for answering in (
        Generated(language, Pipeline(), max_new=2),
        Chosen(language, Pipeline()),
        Chosen(language, Pipeline(["compress/random:budget=0.5", "token_select:budget=16:sink=2:recent=4,chunk=0"])),
    ):
        results = benchmark.run(answering, limit=2)
        again = benchmark.run(answering, limit=2)
        assert results.rows == again.rows
        assert all(0 <= row["scores"]["right"] <= 1 for row in results.rows)
    assert all(torch.equal(p, before[name]) for name, p in language.model.named_parameters())
    assert not any(p.grad is not None for p in language.model.parameters())


def test_pictures(benchmark, tmp_path):
    results = benchmark.run(Told(lambda sample: sample.write(sample.answers)))
    for name in ("a.png", "b.svg"):
        results.plot(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(InvalidValue, match="must end in"):
        results.plot(tmp_path / "c.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.svg"]


def test_methods_that_learned_otherwise_are_told_apart(language):
    """Their fields are the same, and their numbers are not."""
    one, other = (
        Generated(language, Pipeline([PromptTuning(tokens=2).start(language, "random", seed=s)])) for s in (0, 1)
    )
    assert one.describe()["pipeline"] == other.describe()["pipeline"]
    assert one.describe() != other.describe()
