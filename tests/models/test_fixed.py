"""A cache of fixed capacity says what a growing one says, and a compiled model is compiled once."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from tokenry import SnapKV, TokenSelect, Window
from tokenry.core.errors import ContextOverflow, Incompatible, InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.fixed import fixed_cache
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.name import with_cache
from tokenry.models.files.tiny import tiny

METHODS = [
    TokenSelect(budget="12:sink=2:recent=4", chunk=0),
    SnapKV(budget=12, window=4),
    Window(budget="12:sink=2"),
]
IDS = torch.randint(3, 128, (2, 30), generator=torch.Generator().manual_seed(0))


def go_on(model, cache, step=None):
    out = [model(input_ids=IDS, **with_cache(cache)).logits[:, -1]]
    for i in range(16):
        out.append((step or model)(input_ids=torch.full((2, 1), 3 + i), **with_cache(cache)).logits[:, -1])
    return torch.stack(out)


def bound(model, method, capacity):
    return method.cache(model, prompt_tokens=30, capacity=capacity)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name())
def test_it_says_what_a_growing_cache_says(method):
    model = tiny("llama")
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = bound(model, method, 60)
        expected = go_on(model, method.cache(model, prompt_tokens=30))
        torch.testing.assert_close(go_on(model, cache), expected, atol=2e-5, rtol=1e-4)
        places = [layer.keys.data_ptr() for layer in cache.layers]
        for layer in cache.layers:
            layer.reset()
        cache = bound(model, method, 60)
        torch.testing.assert_close(go_on(model, cache), expected, atol=2e-5, rtol=1e-4)
    assert len(set(places)) == 3
    assert {tuple(layer.keys.shape) for layer in cache.layers} == {(2, 2, 60, 16)}


def test_a_compiled_step_is_compiled_once():
    """Graphs stop at attention and the cache, and no token makes a new one."""
    model, method = tiny("llama"), METHODS[2]
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(model, backend="eager")
    frames = []

    def step(**inputs):
        out = compiled(**inputs)
        frames.append(counters["frames"]["ok"])
        return out

    with torch.no_grad(), ModelAdapter.of(model).attached():
        expected = go_on(model, method.cache(model, prompt_tokens=30))
        ours = go_on(model, bound(model, method, 60), step)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)
    assert len(set(frames[2:])) == 1
    torch._dynamo.reset()


def test_a_frozen_cache_fills_one_of_fixed_capacity():
    """Heads of unequal lengths included."""
    model, method = tiny("llama"), METHODS[1]
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = method.cache(model, prompt_tokens=30)
        model(input_ids=IDS, **with_cache(cache))
        frozen = FrozenCache.of(cache, model)
        step = torch.full((2, 1), 7)
        expected = model(input_ids=step, **with_cache(cache)).logits
        fixed = method.cache(model, prompt_tokens=30, capacity=40, frozen=frozen)
        ours = model(input_ids=step, **with_cache(fixed)).logits
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_an_evicting_method_lives_within_its_capacity():
    model = tiny("llama")
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = bound(model, Window(budget="12:sink=2"), 31)
        go_on(model, cache)
        dense = fixed_cache(model, 31)
        with pytest.raises(ContextOverflow, match="must hold at most capacity=31 rows; got 32"):
            go_on(model, dense)
    assert all(layer.held_bytes == 2 * 2 * 12 * 2 * 16 * 4 for layer in cache.layers)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InvalidValue, match="capacity: must be at least 1; got 0"):
        fixed_cache(tiny("llama"), 0)
    with pytest.raises(Incompatible, match="without a sliding window"):
        fixed_cache(tiny("gemma3_text"), 10)
