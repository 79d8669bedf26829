"""Dictionaries, threads and scores are exactly what they say; choosing is greedy decoding among candidates."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
import torch

from tokenry import Pipeline, PrefixTuning, PromptTuning
from tokenry.core.errors import ContextOverflow, Incompatible, InvalidValue, StorageError
from tokenry.measure.needle_threading import GRIDS, NeedleThreading
from tokenry.measure.reporting.results import Results, contour
from tokenry.measure.tasks import threads
from tokenry.measure.tasks.answering import Chosen, Told
from tokenry.measure.tasks.candidates import choose
from tokenry.measure.tasks.haystack import MARK, WORDS
from tokenry.measure.tasks.quoted import said
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

LENGTHS = {"uuid": (2400, 5000), "short": (900, 6000)}
TASKS = [(task, keys) for task in GRIDS for keys in LENGTHS]


def make(task="threading", keys="short", **more):
    given = {"characters": LENGTHS[keys], "hops": (1, 2, 5), "threads": (1, 3), "needles": (1, 4), "branches": 3}
    return NeedleThreading(task=task, keys=keys, **{**given, "repeats": 2, **more})


def items(pairs):
    return [v for value in pairs.values() for v in ([value] if isinstance(value, str) else value)]


@pytest.mark.parametrize(("task", "keys"), TASKS)
def test_a_solver_is_always_right_and_shuffled_answers_never(task, keys):
    benchmark = make(task, keys)
    samples = list(benchmark.samples(seed=1))
    results = benchmark.run(Told(benchmark.solve), seed=1)
    assert results.summary()["exact"]["mean"] == results.summary()["right"]["mean"] == 1
    others = samples[1:] + samples[:1]
    wrong = [benchmark.score(s, o.write(o.answers))["right"] for s, o in zip(samples, others, strict=True)]
    assert sum(wrong) / len(wrong) < 0.02


@pytest.mark.parametrize(("task", "keys"), TASKS)
def test_keys_are_unique_and_the_length_is_as_asked(task, keys):
    pair = {"uuid": 80, "short": 36}[keys]
    for sample in make(task, keys).samples():
        listed = json.loads(sample.text, object_pairs_hook=list)
        pairs = dict(listed)
        assert len(listed) == len(pairs) == sample.facts["pairs"]
        values = items(pairs)
        assert len(values) == len(set(values))
        assert 0 <= sample.facts["characters"] - len(sample.text) < pair + 1
        leading = set(values) & set(pairs)
        hops = sample.facts.get("hops", 1) - 1
        assert len(leading) == hops * sample.facts.get("threads", 1)


@pytest.mark.parametrize("direction", threads.DIRECTIONS)
@pytest.mark.parametrize("task", ["threading", "multi_threading", "branched"])
def test_hops_and_directions_by_replay(task, direction):
    seen = set()
    for sample in make(task, direction=direction, hops=(1, 2, 5), repeats=6).samples():
        pairs = json.loads(sample.text)
        starts = [part for part in sample.ask.split('"')[1::2]]
        assert len(starts) == sample.facts.get("threads", 1)
        for start, end in zip(starts, sample.answers, strict=True):
            way = threads.follow(pairs, start)
            assert way[-1] == end
            assert len(way) == sample.facts["hops"]
            if sample.facts["hops"] == 5:
                seen.add(threads.direction(pairs, start))
    assert direction in seen if direction == "random" else seen == {direction}


def test_branches_end_but_for_one():
    for sample in make("branched", hops=4).samples():
        pairs = json.loads(sample.text)
        lists = [value for value in pairs.values() if isinstance(value, list)]
        assert [len(value) for value in lists] == [3, 3, 3]
        assert [sum(v in pairs for v in value) for value in lists] == [1, 1, 1]


def test_depth_and_placing():
    for sample in make("single", depths=(0, 0.5, 1)).samples():
        place = list(json.loads(sample.text).values()).index(sample.answers[0])
        assert place == round(sample.facts["depth"] * (sample.facts["pairs"] - 1))
    for placing, together in (("clustered", True), ("random", False)):
        for sample in make("multiple", placing=placing, needles=4, characters=6000).samples():
            places = sorted(sample.facts["places"])
            assert (places[-1] - places[0] == 3) is together
            values = list(json.loads(sample.text).values())
            assert [values[p] for p in sample.facts["places"]] == list(sample.answers)


def test_conditional_needles_are_those_with_the_mark():
    for sample in make("conditional", "uuid").samples():
        pairs = json.loads(sample.text)
        assert sample.answers == tuple(v for k, v in pairs.items() if MARK in k)
        assert len(sample.answers) == sample.facts["needles"]
        mixed = list(reversed(sample.answers))
        assert make("conditional").score(sample, json.dumps(mixed))["right"] == 1


def test_bytes_do_not_change():
    """A change of these is a change of the benchmark: results from before cannot be compared."""
    found = hashlib.sha256()
    for task, keys in TASKS:
        for sample in make(task, keys).samples(seed=7):
            found.update(json.dumps([sample.id, sample.text, sample.ask, sample.answers, sample.candidates]).encode())
    assert found.hexdigest()[:16] == "f771a504ddc3d443"


def test_a_task_does_not_depend_on_the_grid_around_it():
    one = {s.id: s.text for s in make(hops=(2, 5), characters=900).samples()}
    two = {s.id: s.text for s in make(hops=(1, 2, 3), characters=(900, 1500)).samples()}
    shared = set(one) & set(two)
    assert len(shared) == 2
    assert all(one[name] == two[name] for name in shared)


def test_score_of_several_and_of_the_path():
    benchmark = make("multiple", needles=4, characters=900)
    sample = next(benchmark.samples())
    a, b, c, d = sample.answers
    for answer, right in (
        (f'["{a}", "{b}", "{c}", "{d}"]', 1), (f'"{a}", "{b}", "{c}", "{d}"', 1), (f"{a}, {b}, {c}, {d}", 1),
        (f'["{a}", "{b}"]', 0.5), (f'["{b}", "{a}", "{c}", "{d}"]', 0.5),
        (f'["{a}", "{b}", "{c}", "{d}", "more", "more", "more", "more"]', 0.5), ("[]", 0), ("", 0),
    ):  # fmt: skip
        assert benchmark.score(sample, answer)["right"] == right
    path = make(path=True, hops=3)
    sample = next(path.samples())
    scores = path.score(sample, sample.write((sample.answers[0], "wrong", sample.answers[2])))
    assert scores == {"right": 2 / 3, "exact": 0, "hop 1": 1, "hop 2": 0, "hop 3": 1}


def test_one_answer_must_be_the_only_one():
    benchmark = make("single", depths=0.5, characters=900)
    sample = next(benchmark.samples())
    (value,), key = sample.answers, sample.ask.split('"')[1]
    for answer in (
        f'"{value}"',
        value,
        f'{{"{key}": "{value}"}}',
        f'The value of "{key}" is "{value}".',
        f" {value}.\n",
    ):
        assert benchmark.score(sample, answer)["exact"] == 1, answer
    for answer in (f'"{value}x"', value[:3], f'["{value}", "able"]', f"{value}, able", f"It may be {value}"):
        assert benchmark.score(sample, answer)["exact"] == 0, answer


def test_items_of_answers():
    assert said('Here: ["a", ["b"], 3] and "c"') == ["a", "b", "3"]
    assert said('{"k": {"l": "a"}, "m": "b"}') == ["a", "b"]
    assert said('["a", "b') == ["a"]
    assert said("a, b\n`c`") == ["a", "b", "c"]


def test_words():
    assert len(set(WORDS)) == len(WORDS) > 600
    assert all(w.isascii() and w.isalpha() and w.islower() and 4 <= len(w) <= 6 for w in WORDS)


def test_choice_is_greedy_decoding_in_the_tree_of_candidates():
    """Against decoding token by token with all but the tree's tokens forbidden, on random trees."""
    draw = random.Random(0)
    for trial in range(200):
        ids = [[*way, 6] for way in {tuple(draw.choice((0, 1)) for _ in range(3)) for _ in range(6)}]
        table = {}

        def logits(prefix, trial=trial, table=table):
            if prefix not in table:
                table[prefix] = torch.randn(7, generator=torch.Generator().manual_seed(hash((trial, prefix))))
            return table[prefix]

        here, alive = (), ids
        total = 0.0
        while len(here) < 4:
            tokens = sorted({way[len(here)] for way in alive})
            best = max(tokens, key=lambda t: logits(here)[t])
            here = (*here, best)
            alive = [way for way in alive if tuple(way[: len(here)]) == here]
        for way in ids:
            others = [o for o in ids if o != way]
            rows = torch.stack([logits(tuple(way[:i])) for i in range(4)])
            choice = choose(way, others, rows)
            assert (choice.picked is None) == (tuple(way) == here)
            total += torch.tensor(choice.logprob).exp().item()
        assert total == pytest.approx(1, abs=1e-5)


def test_a_tie_finds_nothing_and_answers_must_differ():
    assert choose([1, 2], [[3, 2], [4, 2]], torch.zeros(2, 5)).picked == 0
    with pytest.raises(InvalidValue, match="must differ"):
        choose([1, 2], [[1, 2, 3]], torch.zeros(2, 5))


def test_chosen_reads_every_right_item_after_the_ones_before(smollm2):
    """What `Chosen` gives equals scores from plain forwards over whole texts."""
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    language = LanguageModel(model, smollm2.tokenizer, "tiny", 2048)
    benchmark = make(path=True, hops=2, characters=900)
    chosen = Chosen(language, Pipeline())
    sample = next(benchmark.samples())
    said = chosen(sample)
    right = smollm2.tokenizer(sample.write(sample.answers))["input_ids"]
    before = chosen.pipeline.prepare(sample.text, language, sample.ask, max_new=1).final.ids
    with torch.no_grad():
        logits = model(torch.cat((before, torch.tensor(right)[None]), 1)).logits[0, before.shape[1] - 1 : -1]
    total = 0.0
    for i in range(2):
        ways = [smollm2.tokenizer(sample.write((*sample.answers[:i], c)))["input_ids"] for c in sample.candidates]
        total += choose(right, [w for w in ways if w != right[: len(w)]], logits).logprob
    assert said.scores["logprob"] == pytest.approx(total / 2, abs=1e-3)


@pytest.mark.slow
@pytest.mark.claim
def test_threads_need_a_new_choice_at_every_hop(smollm2):
    """With 64 rows of a dictionary of 600 characters; the benchmark of this name measures more of them."""
    benchmark = make(path=True, hops=3, characters=600, repeats=5)
    right = {}
    for spec in ("token_select:budget=64:sink=4:recent=16:per=head,chunk=0,reuse=1.01", "snapkv:budget=64,window=16"):
        right[spec[:6]] = benchmark.run(Chosen(smollm2, Pipeline([spec]))).mean()
    assert right["token_"] > right["snapkv"] + 0.2


def test_too_long_for_the_context(smollm2):
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=64)
    with pytest.raises(ContextOverflow, match="a context of 64 tokens"):
        Chosen(LanguageModel(model, smollm2.tokenizer, "tiny", 64), Pipeline())(next(make().samples()))
    with pytest.raises(InvalidValue, match="candidates"):
        Chosen(LanguageModel(model, smollm2.tokenizer, "tiny", 64), Pipeline())(next(make(candidates=0).samples()))
    with pytest.raises(Incompatible, match="chooses what is said"):
        Chosen(smollm2, Pipeline(["soft_thinking"]))(next(make().samples()))


def test_choices_read_what_the_pipeline_prepares(smollm2):
    """Every method of the pipeline has its part, not only compressors."""
    model = LanguageModel(
        tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=4096), smollm2.tokenizer, "tiny", 4096
    )
    sample = next(make().samples())
    said = {
        name: Chosen(model, Pipeline(methods))(sample).scores["logprob"]
        for name, methods in {
            "dense": [],
            "respelt": ["stochastok:share=0.5"],
            "soft": [PromptTuning(tokens=4).start(model, "random")],
            "prefix": [PrefixTuning(tokens=4, hidden=0).start(model, "random")],
        }.items()
    }
    assert len(set(said.values())) == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"characters": 100, "hops": 9}, "characters: must hold"),
        ({"characters": "many"}, "characters must be a whole number"),
        ({"depths": (0.5, 1.5)}, "depths must be numbers in"),
        ({"hops": 0}, "hops must be"),
        ({"hops": 2.5}, "hops must be"),
        ({"depths": float("nan")}, "depths must be"),
        ({"characters": float("inf")}, "characters must be"),
        ({"hops": ()}, "hops must be"),
        ({"task": "weaving"}, "task must be one of"),
        ({"task": "single", "path": True}, "path must go with task=threading"),
    ],
)
def test_bad_settings(given, words):
    with pytest.raises(InvalidValue, match=words):
        list(make(**given).samples())


def test_effective_length_is_where_accuracy_falls_to_three_quarters():
    assert contour([(1000, 1.0), (4000, 0.5)], 0.75) == pytest.approx(2000)
    assert contour([(1000, 1.0), (2000, 0.8), (4000, 0.0)], 0.75) == pytest.approx(2000 * 2 ** (0.05 / 0.8))
    assert contour([(1000, 0.7), (2000, 1.0)], 0.75) == 0
    assert contour([(1000, 0.75), (2000, 1.0)], 0.75) == 2000
    assert contour([(1000, 0.9), (2000, 0.5), (4000, 1.0)], 0.75) < 2000
    assert contour([], 0.75) == 0
    benchmark = make(characters=(900, 1800, 3600), hops=(1, 5), repeats=4)
    wrong = {(3600, 1), (1800, 5), (3600, 5)}
    results = benchmark.run(
        Told(lambda s: "no" if (s.facts["characters"], s.facts["hops"]) in wrong else benchmark.solve(s))
    )
    assert results.effective_length(hops=1) == pytest.approx(1800 * 2**0.25)
    assert results.effective_length(hops=5) == pytest.approx(900 * 2**0.25)
    assert results.mean(hops=1) == pytest.approx(2 / 3)
    assert results.mean(hops=99) != results.mean(hops=99)


def test_damaged_results_are_refused(tmp_path):
    file = tmp_path / "r.json"
    benchmark = make(hops=2, characters=900)
    for text, error in (("{", StorageError), ("[]", StorageError), ('{"rows": []}', InvalidValue)):
        file.write_text(text)
        with pytest.raises(error):
            Results.begin(benchmark, {"answers": "x"}, file=file)
