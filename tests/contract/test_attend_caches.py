"""Every attend method, on caches that are not ours: it acts, or it says why it cannot."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, Fp8QuantizedLayer, StaticCache

from tests.attend.feeding import CACHE, tokens
from tests.contract.cases import choosing
from tests.tinies import shared
from tokenry.core.errors import Incompatible, UnsupportedModel, WithoutEffect
from tokenry.models.attention.adapter import ModelAdapter

METHODS = choosing()
IDS = tokens(2, 40)
OPTIONS = {"max_new_tokens": 4, "do_sample": False}


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


class OwnLayer(DynamicLayer):
    """A layer of a user's own, which may hold keys in any way."""


def own_cache(model):
    cache = DynamicCache(config=model.config)
    cache.layers[:] = [OwnLayer() for _ in cache.layers]
    return cache


def quantized_cache(model):
    cache = DynamicCache(config=model.config)
    cache.layers[1] = Fp8QuantizedLayer()
    return cache


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (lambda model: {"cache_implementation": "static"}, "StaticLayer in a StaticCache"),
        (lambda model: {"cache_implementation": "sliding_window"}, "StaticLayer in a StaticCache"),
        (lambda model: {CACHE: StaticCache(config=model.config, max_cache_len=60)}, "StaticLayer in a StaticCache"),
        (lambda model: {CACHE: DynamicCache(config=model.config, offloading=True)}, "moved off its device"),
        (lambda model: {CACHE: quantized_cache(model)}, "Fp8QuantizedLayer in a DynamicCache"),
        (lambda model: {CACHE: own_cache(model)}, "OwnLayer in a DynamicCache"),
    ],
    ids=["static", "sliding_window", "static object", "offloaded", "quantized", "subclass"],
)
def test_layers_of_another_kind_are_refused(entry, given, name):
    """What the sentence says to do works."""
    model, method = shared("llama"), entry.trial()
    with method(model), pytest.raises(Incompatible, match=name) as refused:
        model.generate(IDS, **OPTIONS, **given(model))
    assert "method.cache(model)" in str(refused.value)
    assert "capacity=n" in str(refused.value)
    with method(model) as run:
        expected = model.generate(IDS, **OPTIONS)
    assert run.reads.per_step
    with ModelAdapter.of(model).attached():
        for capacity in (None, 50):
            cache = method.cache(model, capacity=capacity)
            assert torch.equal(model.generate(IDS, **OPTIONS, **{CACHE: cache}), expected)


def test_layers_that_all_slide_are_refused(entry):
    """By the model, and by a cache that somebody made so."""
    with pytest.raises(UnsupportedModel, match="all of them forget by themselves"):
        entry.trial()(shared("mistral")).__enter__()
    model = shared("llama")
    cache = DynamicCache(config=shared("mistral").config)
    with entry.trial()(model), pytest.raises(Incompatible, match="all 3 have a sliding window of their own"):
        model.generate(IDS, **OPTIONS, **{CACHE: cache})


def test_a_method_that_never_acted_says_so(entry):
    model, method = shared("llama"), entry.trial()
    with pytest.warns(WithoutEffect, match="it read everything densely, without a cache"), method(model):
        model(IDS, use_cache=False)
    with pytest.warns(WithoutEffect, match="nothing was read with it"), method(model):
        shared("qwen3")(IDS)
    with pytest.warns(WithoutEffect, match="all as a part of a prompt"), method(model, prompt_tokens=400):
        model(IDS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WithoutEffect)
        with method(model):
            model(IDS)
        with pytest.raises(RuntimeError, match="boom"), method(model):
            raise RuntimeError("boom")
