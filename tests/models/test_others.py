"""Encoders and models that decode after an encoder: attention of every kind is found and reproduced."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import pytest
import torch

from tokenry.attend.token_select import TokenSelect
from tokenry.attend.window import Window
from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import OTHERS, tiny

KINDS = {
    "bert": {"encoder": 3},
    "clip": {"encoder": 6},
    "dinov2": {"encoder": 3},
    "llava": {"encoder": 3, "self": 3},
    "modernbert": {"encoder": 3},
    "siglip": {"encoder": 6},
    "t5": {"encoder": 3, "self": 3, "cross": 3},
    "vit": {"encoder": 3},
    "whisper": {"encoder": 3, "self": 3, "cross": 3},
}


@pytest.fixture(scope="module", params=sorted(OTHERS))
def model(request):
    return tiny(request.param)


def test_every_attention_layer_is_found(model):
    places = list(ModelAdapter.of(model).sites.values())
    assert Counter(p.kind for p in places) == KINDS[model.config.model_type]
    assert len(set(places)) == len(places)


def test_outputs_are_the_models_own(model):
    """Padded rows, a cache and one step on; the sites hand over everything attention depends on."""
    experiment = Experiment(model, rows=3, text=11)
    with torch.no_grad():
        expected = experiment.answers()
        with ModelAdapter.of(model).attached_to(lambda _: lambda site: site.probs() @ _wide(site)):
            explicit = experiment.answers()
        with ModelAdapter.of(model).attached_to(lambda _: Site.dense):
            ours = experiment.answers()
    for a, b, c in zip(expected, ours, explicit, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(a, c, atol=2e-5, rtol=1e-4)


def _wide(site):
    return site.v.repeat_interleave(site.groups, 1)


def test_bfloat16_is_close_to_the_models_own(model):
    half = tiny(model.config.model_type).to(torch.bfloat16)
    experiment = Experiment(half)
    with torch.no_grad():
        expected = experiment.answers()
        with ModelAdapter.of(half).attached_to(lambda _: Site.dense):
            ours = experiment.answers()
    for a, b in zip(expected, ours, strict=True):
        assert (a - b).abs().max() <= 0.05 * a.abs().max()


def test_nothing_is_left_behind(model):
    experiment = Experiment(model)
    with torch.no_grad():
        expected = experiment.answers()
        before = hooks(model)
        with pytest.raises(RuntimeError, match="boom"), ModelAdapter.of(model).attached_to(lambda _: Site.dense):
            raise RuntimeError("boom")
        for a, b in zip(expected, experiment.answers(), strict=True):
            assert torch.equal(a, b)
    assert hooks(model) == before


def hooks(model):
    return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]


def step_by_step(model, method, steps=12):
    """Decode given tokens one by one; the logits, and the cache of what was decoded."""
    experiment = Experiment(model)
    logits = []
    with torch.no_grad(), method(model) if method else nullcontext():
        out = experiment.run()
        for i in range(steps):
            cache = cache_of(out)
            if "decoder_input_ids" in experiment.inputs:
                inputs = experiment.inputs | {"decoder_input_ids": torch.full((2, 1), 5 + i)}
                out = model(**inputs, **with_cache(cache), use_cache=True)
            else:
                mask = torch.nn.functional.pad(experiment.inputs["attention_mask"], (0, i + 1), value=1)
                out = model(
                    input_ids=torch.full((2, 1), 5 + i), attention_mask=mask, **with_cache(cache),
                    position_ids=mask.sum(1, keepdim=True) - 1, use_cache=True,
                )  # fmt: skip
            logits.append(out.logits[:, -1])
    return torch.stack(logits), getattr(cache, "self_attention_cache", cache)


@pytest.mark.parametrize("family", ["t5", "whisper", "llava"])
def test_selection_acts_on_what_is_decoded(family):
    model = tiny(family)
    expected, _ = step_by_step(model, None)
    same, _ = step_by_step(model, TokenSelect(budget=1000))
    torch.testing.assert_close(same, expected, atol=2e-5, rtol=1e-4)
    fewer, cache = step_by_step(model, TokenSelect(budget="6:sink=1:recent=2", chunk=0))
    assert not torch.allclose(fewer, expected, atol=1e-6)
    assert all(isinstance(layer, KVBuffer) and layer.held == layer.seen for layer in cache.layers)


@pytest.mark.parametrize("family", ["whisper", "llava"])
def test_eviction_acts_on_what_is_decoded(family):
    _, cache = step_by_step(tiny(family), Window(budget="6:sink=1"))
    assert all(isinstance(layer, KVBuffer) and layer.held == 6 for layer in cache.layers)


def test_eviction_refuses_a_position_bias():
    """T5 computes its bias from the number of keys that are held, not seen."""
    with pytest.raises(UnsupportedModel, match="window: T5ForConditionalGeneration must know positions"):
        Window()(tiny("t5")).__enter__()


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_methods_that_need_a_cache_refuse_encoders(family):
    with pytest.raises(
        UnsupportedModel, match=r"token_select: .* must have attention of the kind self; it has encoder"
    ):
        TokenSelect()(tiny(family)).__enter__()
