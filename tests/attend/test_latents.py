"""Methods on models that cache latents: a row serves all heads, and what is forgotten is freed."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import CACHE, TRIES, feed, same, taken_back, tokens
from tests.tinies import LATENT, shared
from tokenry.attend.adaptive_heads import AdaptiveHeads
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.still import Still
from tokenry.attend.token_select import TokenSelect
from tokenry.core.errors import UnsupportedModel
from tokenry.core.registry import parse
from tokenry.models import private
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.files.tiny import tiny

EVICTING = ["window:budget=12:sink=2", "snapkv:budget=12,window=4,kernel=3", "h2o:budget=12:recent=6",
            "key_norm:budget=12:recent=4", "rerotated:inside=window[budget=12:sink=2]"]  # fmt: skip
CHOOSING = ["token_select:budget=12:sink=2:recent=4,chunk=8,reuse=1.01", "quest:budget=12,page=4,dense_layers=0",
            "fasa:budget=12,dense_layers=0,window=4", "recycled:budget=12"]  # fmt: skip
PROMPT, IDS = 33, tokens(2, 45)
MASK = torch.ones_like(IDS)
MASK[1, :9] = 0


@pytest.fixture
def model():
    return shared(LATENT)


@pytest.mark.parametrize("form", EVICTING[1:3])
def test_rows_of_latents_are_freed(model, form):
    """Twelve rows and what came behind them, of the latent and its rotated part, once for all four heads."""
    fed = feed(model, parse(form), IDS[:1], PROMPT, prompt_tokens=PROMPT)
    grown = 0 if form.startswith("h2o") else 12
    for layer in fed.cache.layers:
        assert layer.keys.shape == (1, 1, 12 + grown, 16)
        assert layer.values.shape == (1, 1, 12 + grown, 8)
        assert layer.allocated_bytes <= (12 + grown + 64) * (16 + 8) * 4
    assert fed.run.held_bytes == 3 * (12 + grown) * (16 + 8) * 4


def test_heads_add_their_votes(model):
    """What stays is what all heads of the layer together gave most."""
    method, given = SnapKV(budget=12, window=4, kernel=1), {}

    def look(site):
        given[site.layer] = site.probs(slice(-4, None)).sum((1, 2))
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: look):
        model(input_ids=IDS[:1, :PROMPT])
    fed = feed(model, method, IDS[:1, : PROMPT + 1], PROMPT, prompt_tokens=PROMPT)
    best = given[0][0, : PROMPT - 4].topk(8).indices.sort().values
    assert fed.cache.layers[0].columns[0, 0, :8].tolist() == best.tolist()


@pytest.mark.parametrize("form", [*EVICTING, *CHOOSING])
def test_a_pass_of_several_tokens_is_so_many_steps(model, form):
    steps = feed(model, parse(form), IDS, PROMPT, mask=MASK, prompt_tokens=PROMPT)
    fed = feed(model, parse(form), IDS, PROMPT, mask=MASK, passes=[4, 1, 3, 2, 2], prompt_tokens=PROMPT)
    same(fed.logits, steps.logits)
    assert fed.run.reads.per_step == pytest.approx(steps.run.reads.per_step)


@pytest.mark.parametrize("capacity", [None, 80])
@pytest.mark.parametrize("form", [EVICTING[2], CHOOSING[0]])
def test_what_is_taken_back_was_never_there(model, form, capacity):
    ids, method = IDS[:1], parse(form)

    def go(tries):
        cache = method.cache(model, prompt_tokens=PROMPT, capacity=capacity)
        return taken_back(model, cache, ids, PROMPT, tries)

    with torch.no_grad(), ModelAdapter.of(model).attached():
        same(go(TRIES), go([(1, 1)] * 12))


def test_a_frozen_cache_goes_on(model):
    method = parse(EVICTING[1])
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = method.cache(model, prompt_tokens=PROMPT)
        model(input_ids=IDS[:1, :PROMPT], **{CACHE: cache})
        frozen = FrozenCache.of(cache, model)
        again = method.cache(model, prompt_tokens=PROMPT, frozen=frozen)
        a, b = (model(input_ids=IDS[:1, PROMPT:], **{CACHE: c}).logits for c in (cache, again))
    same(a, b)


def test_in_half_precision():
    fed = feed(shared(LATENT, torch.bfloat16), parse(EVICTING[1]), IDS, PROMPT, mask=MASK)
    assert bool(fed.logits.isfinite().all())


@pytest.mark.parametrize("method", [AdaptiveHeads(), Still(layers=(1,))], ids=lambda m: m.name())
def test_what_holds_rows_by_head_is_refused(model, method):
    with pytest.raises(UnsupportedModel, match=rf"{method.name()}: .* caches latents that all heads share"):
        method(model).__enter__()


def test_latents_that_nobody_knows_to_expand_are_refused(monkeypatch):
    """Read densely they are right; which key is made of which row is not known."""
    monkeypatch.setattr(private, "expansion", lambda layer: None)
    model = tiny(LATENT)
    with pytest.raises(UnsupportedModel, match="must attend once to the keys and values that it caches"):
        TokenSelect()(model).__enter__()


def test_latents_that_expand_to_other_keys_are_refused(monkeypatch):
    known = private.expansion
    monkeypatch.setattr(private, "expansion", lambda layer: lambda a, b: known(layer)(2 * a, b))
    with pytest.raises(UnsupportedModel, match="must attend once to the keys and values that it caches"):
        SnapKV()(tiny(LATENT)).__enter__()
