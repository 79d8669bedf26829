"""Dynamic hierarchical sparse attention: means, boundaries, and what is read."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache

from tests.attend.feeding import CACHE, tokens
from tests.padded import padded
from tests.tinies import shared
from tokenry.attend.calibrated.boundaries import Boundaries, boundaries, masses, starts
from tokenry.attend.dhsa import Dhsa
from tokenry.attend.rows.choose import choose
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache

PROMPT = padded(41)
OPTIONS = {"max_new_tokens": 6, "do_sample": False}


def fresh(**fields):
    return Dhsa(**{"budget": "12:sink=2:recent=2:per=layer", "chunk_size": 4, "block": 4, "instruction": 2, **fields})


@pytest.mark.parametrize("per", ["layer", "head"])
@pytest.mark.parametrize("norm", ["sqrt", "none"])
def test_a_block_reads_the_tokens_of_the_nearest_chunks(per, norm):
    """By plain means, and every key stands before its query."""
    method, seen = fresh(budget=f"12:sink=2:recent=2:per={per}", norm=norm), []
    reading = method._read_block

    def looking(block, past, running, begins):
        out = reading(block, past, running, begins)
        if past <= 12:
            return out
        k, q = block.k[0].double(), block.q[0].double().mean(1)
        heads = [(q.view(2, 2, -1).mean(1)[g], k[g]) for g in range(2)] if per == "head" else [(q.mean(0), k.mean(0))]
        scores = torch.zeros(1, len(heads), past, dtype=torch.double)
        for g, (query, keys) in enumerate(heads):
            for low in range(0, past, 4):
                high = min(low + 4, past)
                scores[0, g, low:high] = query @ keys[low:high].mean(0) * ((high - low) ** 0.5 if norm == "sqrt" else 1)
        rows = choose(method.budget, scores, None, past).expand(1, 2, -1)
        own = torch.arange(past, block.k.shape[2]).expand(1, 2, -1)
        expected = block.narrow(torch.cat((rows, own), -1)).dense()
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
        seen.append((block.layer, past, block.k.shape[2]))
        return out

    object.__setattr__(method, "_read_block", looking)
    with torch.no_grad(), method(shared("llama")):
        shared("llama")(tokens(1, 41))
    assert [s[1:] for s in seen if s[0] == 0] == [(16, 20), (20, 24), (24, 28), (28, 32), (32, 36), (36, 39)]


def test_a_distinctive_token_is_not_drowned_by_long_chunks():
    """A chunk of one token against long ones of noise: only with the root of the length it may lose."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 8, generator=draw) * 0.3
    one = torch.nn.functional.one_hot(torch.tensor([3]), 8).float()
    sums = torch.stack((noise.sum(0), one[0]))[None, None]
    counts = torch.tensor([200, 1]).view(1, 1, 2, 1)
    query = 4 * one
    for norm in ("sqrt", "none"):
        scores = query @ fresh(norm=norm)._means(sums, counts)[0, 0].mT
        assert scores.argmax() == 1
    means = [fresh(norm=norm)._means(sums * 50, counts * 50) for norm in ("none", "sqrt")]
    torch.testing.assert_close(means[0] * (counts * 50).sqrt(), means[1])


@pytest.mark.parametrize("per", ["layer", "head"])
def test_running_sums_are_those_of_all_keys(per):
    """While tokens are generated, padded or not: the sums of chunks that grew are those of chunks cut at once."""
    method, model = fresh(budget=f"12:per={per}"), shared("llama")
    with torch.no_grad(), method(model) as run:
        out = model.generate(**PROMPT, **OPTIONS, return_dict_in_generate=True)
    layer = cache_of(out).layers[1]
    state = layer.states[0]
    keys = layer.keys if per == "head" else layer.keys.mean(1, keepdim=True)
    for row in range(2):
        assert (state.of[row] >= 0).sum() == 41 + 5 - 9 * row
        for c in range(int(state.of[row].max()) + 1):
            there = (state.of[row] == c).nonzero()[:, 0]
            assert state.counts[row, c] == len(there) <= 4
            torch.testing.assert_close(state.sums[row, :, c], keys[row][:, there].sum(1), atol=1e-5, rtol=1e-4)
    assert set(run.reads.per_step) == {12}


def test_chunks_of_one_token_and_a_whole_budget_are_dense():
    model = shared("llama")
    expected = model(**PROMPT).logits
    with torch.no_grad(), fresh(chunk_size=1, budget="1.0")(model):
        torch.testing.assert_close(model(**PROMPT).logits, expected, atol=2e-5, rtol=1e-4)


def test_masses_are_those_of_the_map():
    """Sums over the queries behind both windows, by plain loops."""
    model, found = shared("llama"), {}

    def attend(site):
        if site.layer == 0:
            found["probs"], found["masses"] = site.probs()[0].double().mean(0), masses(site, 3)
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        model(tokens(1, 20))
    probs, (past, after) = found["probs"], found["masses"]
    for p in range(20):
        rows = range(p + 4, 20)
        assert past[p] == pytest.approx(sum(probs[i, j].item() for i in rows for j in range(max(0, p - 2), p + 1)))
        assert after[p] == pytest.approx(sum(probs[i, j].item() for i in rows for j in range(p + 1, min(20, p + 4))))


def test_boundaries_are_the_highest_and_stand_apart():
    scores = torch.tensor([0.0, 5, 4, 0, 0, 0, 3, 0, 0, 9, 0])
    assert starts(scores, 5, 2, floor=1.0).tolist() == [0, 2, 7, 10]
    assert starts(scores, 2, 2, floor=1.0).tolist() == [0, 2, 10]
    assert starts(scores, 5, 5, floor=1.0).tolist() == [0, 2, 10]
    assert starts(scores, 5, 2, floor=4.0).tolist() == [0, 2, 10]
    past, after = torch.full((30,), 1.0), torch.full((30,), 1.0)
    after[10], past[20] = 3.0, 2.0
    assert boundaries(past, after, 5, 1.1, 3).tolist() == [10, 20]


def test_a_predictor_learns_is_saved_and_cuts(tmp_path):
    """Boundaries after one token that stands out are found; chunks of all layers are cut by them."""
    model = shared("llama")
    made = Boundaries(layer=1, hidden=16, apart=2).build(width=32, generator=torch.Generator().manual_seed(0))
    made.remember(model)
    made.eval().save(tmp_path / "cuts")
    method = fresh(predictor=str(tmp_path / "cuts"), instruction=4)
    with torch.no_grad(), method(model) as run:
        out = model.generate(**PROMPT, **OPTIONS, return_dict_in_generate=True)
    states = [[s for s in layer.states if hasattr(s, "of") and s.of is not None] for layer in cache_of(out).layers]
    assert [len(s) for s in states] == [0, 1, 1]
    assert torch.equal(states[1][0].of, states[2][0].of)
    of = states[1][0].of[0]
    assert of[36] != of[37], "the instruction begins a chunk"
    assert len({int((of == c).sum()) for c in range(int(of.max()) + 1)}) > 1
    assert run.reads.per_step[0] < 42
    with pytest.raises(InvalidValue, match="predictor must read a layer"):
        fresh(predictor=str(tmp_path / "cuts"), dense_layers=2)(model).__enter__()


def test_a_predictor_of_a_layer_that_forgets_is_refused(tmp_path):
    """Its keys are not there, and those of another layer are not what it learnt from."""
    model = shared("gemma3_text")
    width = model.config.num_key_value_heads * model.config.head_dim
    made = Boundaries(layer=2, hidden=16).build(width=width, generator=torch.Generator().manual_seed(0))
    made.remember(model)
    made.eval().save(tmp_path / "cuts")
    refused = pytest.raises(Incompatible, match="got layer 2, which has a sliding window of its own")
    with torch.no_grad(), fresh(predictor=str(tmp_path / "cuts"))(model), refused:
        model(**PROMPT)


def test_a_decoder_behind_an_encoder():
    model = shared("t5")
    with torch.no_grad(), fresh(budget="4:sink=1:recent=1:per=layer")(model) as run:
        model.generate(**PROMPT, max_new_tokens=9, min_new_tokens=9, do_sample=False)
    assert run.reads.per_step == [2, 3, 4, 4, 4, 4, 4, 4]


def test_what_is_behind_a_window_is_not_chosen():
    """In a plain cache, which holds it: every row that a step reads is one that it may see."""
    model, method, seen = shared("gemma2"), fresh(budget="12:sink=0:recent=0:per=layer"), []
    choose_rows = method.select

    def looking(site, state):
        rows = choose_rows(site, state)
        at = rows.expand(len(site.k), -1, -1)
        allowed = site.facts.allowed(site.key_columns()[:, :1])[:, :, 0]
        assert bool(allowed.gather(-1, at.clamp_min(0))[at >= 0].all())
        seen.append(site.layer)
        return rows

    object.__setattr__(method, "select", looking)
    with torch.no_grad(), method(model):
        model.generate(**PROMPT, **OPTIONS, **{CACHE: DynamicCache()})
    assert set(seen) == {0, 1, 2}


def test_learning_finds_what_keys_tell():
    """A text in which attention changes where one token stands: the predictor finds it from the keys."""
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(400, 32, generator=draw) * 0.1
    places = torch.arange(20, 390, 23)
    keys[places] += 2
    labels = torch.zeros(400, dtype=torch.bool)
    labels[places] = True
    Boundaries.examples, own = (lambda *_: (keys, labels)), Boundaries.examples
    try:
        fitted = Boundaries.fit(shared("llama"), [torch.zeros(400, dtype=torch.long)], steps=200, rate=1e-2, hidden=16)
    finally:
        Boundaries.examples = own
    assert fitted.cut(keys, 18)[1:].tolist() == (places + 1).tolist()


def test_samples_are_bounded():
    for length in (20, 5000):
        with pytest.raises(InvalidValue, match="samples must be at least one text, each a row of 128 to 4096"):
            Boundaries.fit(shared("llama"), [torch.zeros(length, dtype=torch.long)])


def test_after_a_crop_into_the_prompt_chunks_are_cut_anew():
    model, method = shared("llama"), fresh()
    with torch.no_grad(), method(model, prompt_tokens=41):
        cache = cache_of(model(PROMPT["input_ids"][:1]))
        model(torch.tensor([[7]]), **with_cache(cache))
        cache.crop(-10)
        model(torch.tensor([[9]]), **with_cache(cache))
        state = cache.layers[0].states[0]
    assert state.of.shape[1] == 33
    assert int(state.counts.sum()) == 33
