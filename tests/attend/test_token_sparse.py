"""Token Sparse Attention: what a head keeps, and that it equals dense attention among these tokens."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import tokens
from tests.tinies import shared
from tokenry.attend import token_sparse
from tokenry.attend.calibrated.drift import drifting, drifts
from tokenry.attend.token_sparse import TokenSparse
from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import tiny
from tokenry.models.generate.answer import divergence


def read_prompt(method, watch, ids=None, family="llama", **more):
    """Read a prompt; `watch(site, kept, out)` sees every sequence of every layer."""
    reading, model = method._read, shared(family)

    def looking(site):
        out = reading(site)
        watch(site, method._kept(site), out)
        return out

    object.__setattr__(method, "_read", looking)
    with torch.no_grad(), method(model) as run:
        model(input_ids=tokens(1, 41) if ids is None else ids, use_cache=True, **more)
    return run


def fresh(**fields):
    return TokenSparse(**{"tail": 0.4, "least": 8, "window": 4, "layers": (0, 1, 2), **fields})


def test_what_is_kept_equals_dense_attention_among_it():
    """And a row that a head leaves out is exactly zero."""
    layers = []

    def watch(site, kept, out):
        layers.append(site.layer)
        causal = torch.ones(41, 41, dtype=torch.bool).tril()
        for head, rows in enumerate(kept):
            there = torch.zeros(41, dtype=torch.bool)
            there[rows] = True
            k, v = (of[0, head // site.groups] for of in (site.k, site.v))
            logits = (site.q[0, head] @ k.mT * site.scale).masked_fill(~(causal & there), float("-inf"))
            expected = torch.where(there[:, None], logits.softmax(-1).nan_to_num() @ v, 0.0)
            torch.testing.assert_close(out[0, head], expected, atol=1e-5, rtol=1e-4)
            assert (out[0, head, ~there] == 0).all()

    read_prompt(fresh(), watch)
    assert layers == [0, 1, 2]


def test_heads_keep_as_many_ascending_and_the_window():
    def watch(site, kept, out):
        assert (kept.diff(dim=-1) > 0).all()
        assert kept[:, -4:].tolist() == [list(range(37, 41))] * 4
        scores = torch.nn.functional.avg_pool1d(site.probs()[0, :, -4:, :37].mean(1), 7, stride=1, padding=3)
        for head, rows in enumerate(kept):
            best = scores[head].topk(len(rows) - 4).indices.sort().values
            assert torch.equal(rows[:-4], best)
        share = scores.mean(0) / scores.mean(0).sum()
        lowest = share.sort().values.cumsum(0)
        assert kept.shape[1] == 41 - int((lowest < 0.4).sum())

    read_prompt(fresh(), watch)


def test_a_pass_on_a_filled_cache_reads_what_was_before():
    """A pass that brings the second half: each head keeps keys of both halves, and queries of its own."""
    method, model, seen = fresh(), shared("llama"), []
    ids = tokens(1, 41)

    def watch(site):
        out, kept, before = reading(site), method._kept(site), site.k.shape[2] - site.q.shape[2]
        seen.append((before, site.k.shape[2]))
        rows = kept[0]
        own = rows[rows >= before] - before
        causal = rows <= own[:, None] + before
        logits = (site.q[0, 0, own] @ site.k[0, 0, rows].mT * site.scale).masked_fill(~causal, float("-inf"))
        torch.testing.assert_close(out[0, 0, own], logits.softmax(-1) @ site.v[0, 0, rows], atol=1e-5, rtol=1e-4)
        return out

    reading = method._read
    object.__setattr__(method, "_read", watch)
    with torch.no_grad(), method(model, prompt_tokens=41):
        cache = cache_of(model(ids[:, :20], use_cache=True))
        model(ids[:, 20:], **with_cache(cache))
    assert seen == [(0, 20)] * 3 + [(20, 41)] * 3


def test_the_cache_holds_everything_and_fewer_pairs_are_read():
    model, runs = shared("llama"), []
    for method in (fresh(tail=0.0), fresh()):
        with torch.no_grad(), method(model) as run:
            cache = cache_of(model(tokens(1, 41), use_cache=True))
        assert all(layer.seen == layer.keys.shape[2] == 41 for layer in cache.layers)
        runs.append(run.reads.pairs)
    assert runs[1] < runs[0]


def test_layers_that_do_not_exist_are_refused():
    with pytest.raises(InvalidValue, match="layers must be below 3"):
        fresh(layers=(1, 3))(shared("llama")).__enter__()
    with pytest.raises(InvalidValue, match="kernel must be an odd number"):
        fresh(kernel=4)


def test_without_layers_the_second_half_but_the_last_acts():
    assert list(TokenSparse()._acting(shared("llama"))) == []
    assert list(TokenSparse()._acting(tiny("llama", num_hidden_layers=32))) == list(range(16, 31))


def test_the_drift_names_the_quiet_layers():
    model, ids = shared("llama"), tokens(1, 30)[0]
    found = drifts(model, ids)
    assert len(found) == model.config.num_hidden_layers - 1
    assert drifting(model, ids, share=1.0) == (0, 1)
    assert drifting(model, ids, share=0.5) == (int(found.argmin()),)
    with pytest.raises(InvalidValue, match="share must be in"):
        drifting(model, ids, share=0.0)


@pytest.mark.claim
@pytest.mark.slow
def test_it_is_closer_to_dense_than_random_tokens(smollm2, monkeypatch):
    """On 2,048 tokens of prose: the last token's KL, with the tokens that heads choose and with random ones."""
    ids = smollm2.tokenizer(read("moby_dick"), return_tensors="pt", verbose=False)["input_ids"][:, :2048]
    method = TokenSparse(tail=0.05, least=64, layers=drifting(smollm2.model, ids[0, :512]))

    def last(attached):
        with torch.no_grad(), attached:
            return smollm2.model(ids, use_cache=True, logits_to_keep=1).logits[0].float()

    dense, chosen = last(ModelAdapter.of(smollm2.model).attached()), last(method(smollm2.model))
    draw = torch.Generator().manual_seed(0)
    kept = TokenSparse._kept

    def by_chance(self, site):
        rows = kept(self, site)
        if rows is None:
            return None
        n = site.k.shape[2] - self.window
        some = torch.rand(len(rows), n, generator=draw).topk(rows.shape[1] - self.window).indices.sort(-1).values
        return torch.cat((some, rows[:, -self.window :]), -1)

    monkeypatch.setattr(token_sparse.TokenSparse, "_kept", by_chance)
    chance = last(method(smollm2.model))
    assert divergence(dense, chosen)[0].mean() < divergence(dense, chance)[0].mean()
