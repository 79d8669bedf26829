"""Every method that changes tokens between layers: what any of them must hold to."""

from __future__ import annotations

import copy
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tests.attend.feeding import CACHE, feed, tokens
from tests.contract.cases import reducing
from tests.padded import padded
from tests.tinies import shared
from tokenry.core.errors import Incompatible
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache

METHODS = reducing()
PROMPT, STEPS = padded(41), 7
N, PAD = 53, 9
IDS = tokens(2, N)
MASK = torch.ones_like(IDS)
MASK[1, :PAD] = 0


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


@pytest.fixture(params=["llama", "gemma3_text", "gpt2"])
def model(request):
    return shared(request.param)


def generate(model, inputs=PROMPT, **options):
    settings = {"max_new_tokens": STEPS, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    return model.generate(**inputs, **settings | options)


def same(a, b):
    torch.testing.assert_close(torch.stack(a.logits), torch.stack(b.logits), atol=2e-5, rtol=1e-4)
    assert torch.equal(a.sequences, b.sequences)


def same_where_real(a, b, mask):
    real = torch.ones(a.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
    torch.testing.assert_close(a[real], b[real], atol=2e-5, rtol=1e-4)


def test_identity_setting_is_dense(model, entry):
    for method in entry.identities():
        with method(model):
            ours = generate(model)
        same(ours, generate(model))


@pytest.mark.parametrize("family", ["bert", "modernbert", "vit"])
def test_identity_setting_is_the_encoder(family, entry):
    model = shared(family)
    given = {"pixel_values": torch.rand(2, 3, 32, 32)} if family == "vit" else padded(20)
    with torch.no_grad():
        expected = model(**given).last_hidden_state
        for method in entry.identities():
            with method(model):
                same_where_real(model(**given).last_hidden_state, expected, given.get("attention_mask"))
        with entry.trial()(model):
            found = model(**given).last_hidden_state
    assert found.isfinite().all()
    assert found.shape[1] < expected.shape[1]


def test_fewer_tokens_are_computed_and_cached(model, entry):
    with entry.trial()(model) as run:
        out = generate(model)
    counts = run.streams[0].counts
    assert counts[0] == 41
    assert counts[-1] < 41
    assert counts == sorted(counts, reverse=True)
    held = [layer.held_bytes / layer.keys[0].nbytes * layer.keys.shape[2] for layer in cache_of(out).layers]
    assert all(layer.seen == 41 + STEPS - 1 for layer in cache_of(out).layers)
    assert held[-1] < held[0]


def test_leaves_no_trace(model, entry):
    before = model(**PROMPT).logits
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    with pytest.raises(RuntimeError, match="boom"), entry.trial()(model):
        generate(model)
        raise RuntimeError("boom")
    assert torch.equal(before, model(**PROMPT).logits)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_a_sequence_has_no_neighbours(model, entry):
    with entry.trial()(model):
        both = torch.stack(generate(model).logits)
        for row, low in ((0, 0), (1, 9)):
            alone = {name: values[row : row + 1, low:] for name, values in PROMPT.items()}
            found = torch.stack(generate(model, alone).logits)
            torch.testing.assert_close(found[:, 0], both[:, row], atol=2e-5, rtol=1e-4)


def test_chunked_prefill(model, entry):
    with entry.trial()(model):
        whole = generate(model)
    with entry.trial()(model):
        same(generate(model, prefill_chunk_size=7), whole)


@pytest.mark.parametrize("passes", [[4, 1, 3, 2, 2], [12], [1, 11]], ids=str)
def test_a_pass_of_several_tokens_is_so_many_steps(entry, passes):
    """After the prompt nothing is dropped, whatever number of tokens a pass brings."""
    model = shared("qwen3")
    steps = feed(model, entry.trial(), IDS, 41, mask=MASK, prompt_tokens=41)
    fed = feed(model, entry.trial(), IDS, 41, mask=MASK, passes=passes, prompt_tokens=41)
    torch.testing.assert_close(fed.logits, steps.logits, atol=2e-5, rtol=1e-4)


def test_drafts_are_refused(entry):
    """They come with the prompt; where its length is not known, one that is taken back has its sentence."""
    model, text = shared("llama"), tokens(1, 10).repeat(1, 4)
    options = {"max_new_tokens": 14, "do_sample": False}
    with entry.trial()(model, prompt_tokens=40), pytest.raises(Incompatible, match="as drafts do"):
        model.generate(text, **options, assistant_model=shared("qwen3"))
    with entry.trial()(model), pytest.raises(Incompatible, match="must know where the prompt ends"):
        model.generate(text, **options, assistant_model=shared("qwen3"))


def test_a_pass_over_the_end_of_the_prompt_is_refused(entry):
    model = shared("llama")
    with entry.trial()(model, prompt_tokens=30), pytest.raises(Incompatible, match="the end of the prompt and what"):
        model(IDS[:1, :41])


def test_states_hold_what_follows_a_cache(entry):
    with entry.trial()(shared("llama")):
        out = generate(shared("llama"))
    for layer in cache_of(out).layers:
        for state in layer.states:
            for field in fields(state):
                value = getattr(state, field.name)
                if isinstance(value, Tensor):
                    assert value.shape[0] == 2, field.name
                else:
                    assert value is None or isinstance(value, bool | int | float | str), field.name


def test_beams(entry):
    model, found = shared("llama"), []
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5}
    for _ in range(2):
        with entry.trial()(model):
            found.append(generate(model, **options).sequences)
    assert torch.equal(*found)
    with entry.identities()[0](model):
        assert torch.equal(generate(model, **options).sequences, generate(model, **options).sequences)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_numbers(entry, dtype):
    model = shared("llama", dtype)
    with entry.trial()(model):
        out = torch.stack(generate(model).logits)
    assert out.isfinite().all()
    if dtype == torch.float64:
        with entry.trial()(shared("llama")):
            narrow = torch.stack(generate(shared("llama")).logits)
        torch.testing.assert_close(out.float(), narrow, atol=1e-3, rtol=1e-3)


def test_short_prompts(model, entry):
    for n in (1, 2, 3):
        ids = torch.full((1, n), 5)
        with entry.trial()(model):
            assert torch.stack(generate(model, {"input_ids": ids}, max_new_tokens=3).logits).isfinite().all()


def test_caches_of_others_are_refused(entry):
    """And what the sentence says to do works, but for a capacity, which is refused as well."""
    model, ids = shared("llama"), IDS[:1, :20]
    with entry.trial()(model), pytest.raises(Incompatible, match="StaticLayer in a StaticCache"):
        model.generate(ids, max_new_tokens=3, cache_implementation="static")
    with entry.trial()(model):
        expected = model.generate(ids, max_new_tokens=3, do_sample=False)
    method = entry.trial()
    cache = method.cache(model)
    with ModelAdapter.of(model).attached():
        assert torch.equal(model.generate(ids, max_new_tokens=3, do_sample=False, **{CACHE: cache}), expected)
        with pytest.raises(Incompatible, match="fixed capacity cannot follow"):
            model.generate(ids, max_new_tokens=3, **{CACHE: method.cache(model, capacity=40)})


def test_a_second_question_on_a_copy_of_the_cache(entry):
    """What was dropped for the prompt stays so, and the cache serves again."""
    model = shared("llama")
    with torch.no_grad(), entry.trial()(model, prompt_tokens=30):
        cache = cache_of(model(IDS[:1, :30]))
        answers = []
        for _ in range(2):
            own = copy.deepcopy(cache)
            answers.append(torch.cat([model(IDS[:1, i : i + 1], **with_cache(own)).logits for i in range(30, 35)]))
    assert torch.equal(*answers)
