"""Key norm keeps exactly the shortest keys of every head."""

from __future__ import annotations

import pytest
import torch

from tokenry.attend.key_norm import KeyNorm
from tokenry.core.budget import Budget
from tokenry.models.attention.mask import note_facts
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import tiny

IDS = torch.randint(3, 128, (1, 40), generator=torch.Generator().manual_seed(3))


def keys_of(model, ids, method=None):
    """What every layer's cache holds after the prompt."""
    from contextlib import nullcontext

    with torch.no_grad(), method(model, prompt_tokens=ids.shape[1]) if method else nullcontext():
        return cache_of(model(input_ids=ids, use_cache=True)).layers


def test_the_shortest_keys_stay():
    """Per KV head exactly those with the lowest norms, computed here in double precision."""
    model = tiny("llama")
    whole = keys_of(model, IDS)
    kept = keys_of(model, IDS, KeyNorm(budget=13, dense_layers=0))
    for full, layer in zip(whole, kept, strict=True):
        norms = full.keys.double().pow(2).sum(-1).sqrt()
        expected = norms.topk(13, largest=False).indices.sort(-1).values
        assert torch.equal(layer.columns, expected)
        torch.testing.assert_close(layer.keys, full.keys.gather(2, expected[..., None].expand_as(layer.keys)))


def test_the_first_layers_keep_everything():
    model = tiny("llama")
    for layer, held in zip(keys_of(model, IDS, KeyNorm(budget=13, dense_layers=2)), (40, 40, 13), strict=True):
        assert layer.keys.shape[2] == held


def site(keys):
    buffer = KVBuffer()
    k, v = buffer.update(keys, keys)
    facts = note_facts(1, k.shape[2], k.shape[2], mask_function=lambda b, h, q, k: k <= q)
    return Site(layer=0, q=k, k=k, v=v, scale=1.0, facts=facts, buffer=buffer)


def test_of_equal_norms_the_newer_stays():
    """Rounding must not decide where a model normalises its keys."""
    keys = torch.randn(1, 2, 20, 8, generator=torch.Generator().manual_seed(0))
    keys = keys / keys.norm(dim=-1, keepdim=True)
    score = KeyNorm().score(site(keys), None)
    assert (score.diff(dim=-1) > 0).all()


def test_a_layer_shares_the_sum_of_the_ranks():
    """Heads of different scale weigh the same."""
    keys = torch.randn(1, 2, 20, 8, generator=torch.Generator().manual_seed(0))
    keys[:, 1] *= 100
    method = KeyNorm(budget=Budget(tokens=5, per="layer"), dense_layers=0)
    ranks = keys.norm(dim=-1).argsort(-1).argsort(-1).sum(1)
    assert torch.equal(method.score(site(keys), None).sum(1), -ranks.float())


@pytest.mark.parametrize("per", ["head", "layer"])
def test_the_token_after_the_prompt_changes_no_choice(per):
    """Evicting at once and at the first decoding step keep the same rows."""
    model = tiny("llama")
    method = KeyNorm(budget=Budget(tokens=13, per=per), dense_layers=0)
    eager = keys_of(model, IDS, method)
    with torch.no_grad(), method(model):
        out = model(input_ids=IDS, use_cache=True)
        lazy = cache_of(model(input_ids=IDS[:, :1], **with_cache(cache_of(out)))).layers
    for a, b in zip(eager, lazy, strict=True):
        assert torch.equal(a.columns, b.columns[..., :-1])
