"""Layers of attention and a recurrence together: keys are chosen and forgotten, the recurrence goes its own way."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache, LinearAttentionLayer

from tests.attend.feeding import tokens
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.token_select import TokenSelect
from tokenry.attend.window import Window
from tokenry.core.errors import Incompatible
from tokenry.models.cache.fixed import fixed_cache
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.hybrid import HybridKV
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.cache.own import own_buffers

COMMON = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
FAMILIES = {
    "falcon_h1": {**COMMON, "num_hidden_layers": 2, "head_dim": 16, "mamba_d_ssm": 128, "mamba_n_heads": 8,
                  "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1},
    "zaya": {**COMMON, "num_hidden_layers": 2, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 1,
             "moe_intermediate_size": 32},
}  # fmt: skip
IDS = tokens(2, 30)
MASK = torch.ones_like(IDS)
MASK[1, :5] = 0
HOW = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}


@pytest.fixture(params=sorted(FAMILIES))
def model(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(request.param, **FAMILIES[request.param])
        return AutoModelForCausalLM.from_config(config).eval()


def generated(model, **how):
    return model.generate(IDS, attention_mask=MASK, **HOW, **how)


def logits(out):
    return torch.stack(out.logits)


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@pytest.mark.parametrize("method", [TokenSelect(budget=1000), SnapKV(budget=1000)], ids=lambda m: m.name())
def test_a_budget_that_covers_everything_changes_nothing(model, method, how):
    expected = generated(model, **how)
    with method(model):
        found = generated(model, **how)
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(logits(found), logits(expected), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [TokenSelect(budget=8, chunk=0), SnapKV(budget=8, window=4)], ids=lambda m: m.name())
def test_a_small_budget_matters(model, method):
    expected = generated(model)
    with method(model):
        assert not torch.equal(logits(generated(model)), logits(expected))


def test_forgotten_keys_are_freed_and_states_stay(model):
    expected = cache_of(model(IDS, attention_mask=MASK, use_cache=True))
    with Window(budget="8:sink=1")(model):
        cache = cache_of(model(IDS, attention_mask=MASK, use_cache=True))
        model(IDS[:, :1], attention_mask=torch.nn.functional.pad(MASK, (0, 1), value=1), **with_cache(cache))
    for layer, own in zip(cache.layers, expected.layers, strict=True):
        assert isinstance(layer, HybridKV)
        assert layer.keys.shape[2] < own.keys.shape[2]
        assert layer.get_seq_length() == 31
        for name in ("conv_states", "recurrent_states"):
            found = [state for state in getattr(layer, name).values() if state is not None]
            assert [s.shape for s in found] == [s.shape for s in getattr(own, name).values() if s is not None]


def test_a_used_cache_is_taken_over_with_its_states(model):
    step = torch.full((2, 1), 7)
    with torch.no_grad():
        own, taken = (cache_of(model(IDS, use_cache=True)) for _ in range(2))
        own_buffers(taken)
        assert all(isinstance(layer, HybridKV) for layer in taken.layers)
        expected = model(step, **with_cache(own)).logits
        torch.testing.assert_close(model(step, **with_cache(taken)).logits, expected, atol=2e-5, rtol=1e-4)


def test_rows_are_chosen_among_states_too(model):
    cache = cache_of(model(IDS, use_cache=True))
    own_buffers(cache)
    before = [dict(layer.conv_states) for layer in cache.layers]
    cache.batch_select_indices(torch.tensor([1, 1, 0]))
    for layer, states in zip(cache.layers, before, strict=True):
        assert layer.keys.shape[0] == 3
        assert all(torch.equal(layer.conv_states[i], s[[1, 1, 0]]) for i, s in states.items() if s is not None)
    cache.batch_repeat_interleave(2)
    assert all(len(layer.keys) == len(layer.conv_states[0]) == 6 for layer in cache.layers)
    cache.reset()
    assert all(layer.get_seq_length() == 0 and not layer.has_previous_state[0] for layer in cache.layers)


def test_what_cannot_hold_states_is_refused(model):
    with pytest.raises(Incompatible, match="without a sliding window or a recurrence"):
        fixed_cache(model, 40)
    cache = DynamicCache(config=model.config)
    own_buffers(cache)
    model(IDS, **with_cache(cache))
    with pytest.raises(Incompatible, match="must be plain or with a sliding window to be copied; got HybridKV"):
        FrozenCache.of(cache, model)
    assert isinstance(cache.layers[0], LinearAttentionLayer)
