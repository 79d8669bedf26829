"""FASA: chunks that sum to the product, and a prediction that with all of them is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.cache_utils import DynamicCache

from tests.attend.attend_kl import DOCUMENTS, Passage
from tests.attend.feeding import CACHE, feed, same, tokens
from tests.padded import padded
from tests.tinies import shared
from tokenry.attend.calibrated.frequencies import Frequencies
from tokenry.attend.fasa import Fasa, best_place
from tokenry.attend.random import RandomRows
from tokenry.attend.rows import frequencies
from tokenry.attend.rows.choose import choose
from tokenry.attend.rows.frequencies import agreement, channels_of, paired
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.rotary import Rotary
from tokenry.models.attention.site import Site

PROMPT = padded(41)
OPTIONS = {"max_new_tokens": 6, "do_sample": False}


def watched(method, watch, model=None, **options):
    """Generate; `watch(site, state, rows)` sees every choice."""
    select = method.select

    def looking(site, state):
        rows = select(site, state)
        if site.decoding:
            watch(site, state, rows)
        return rows

    object.__setattr__(method, "select", looking)
    model = model or shared("llama")
    with method(model) as run:
        model.generate(**PROMPT, **OPTIONS, **options)
    return run


def most_attended(budget, site):
    votes = site.probs().unflatten(1, (site.k.shape[1], -1)).sum((2, 3))
    return choose(budget, votes, site.real(), site.seen(site.buffer.seen))


@pytest.mark.parametrize("pairing", ["rope", "adjacent"])
def test_all_chunks_choose_the_rows_with_the_most_attention(pairing):
    method, steps = Fasa(budget=9, share=1.0, dense_layers=0, pairing=pairing, vote="sum"), []

    def watch(site, state, rows):
        assert torch.equal(rows, most_attended(method.budget, site))
        steps.append(site.layer)

    watched(method, watch, shared("llama", torch.float64))
    assert steps


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "gemma3_text"])
def test_caps_sinks_and_windows_have_their_say(family):
    """In a plain cache, which holds what is behind a window: still the rows with the most attention."""
    method, steps = Fasa(budget=9, share=1.0, dense_layers=0, vote="sum"), []

    def watch(site, state, rows):
        assert torch.equal(rows, most_attended(method.budget, site))
        steps.append(site.layer)

    watched(method, watch, shared(family), **{CACHE: DynamicCache()})
    assert len(set(steps)) == shared(family).config.num_hidden_layers


@pytest.mark.parametrize("budget", ["34", "0.1", "0.15"])
def test_a_shorter_sequence_chooses_the_same_chunks_in_a_batch(budget):
    """Where the longer one exceeds the budget before, and where a budget is a share of each."""
    ids, mask = tokens(2, 55), torch.ones(2, 55, dtype=torch.long)
    mask[1, :9] = 0
    method = Fasa(budget=budget, dense_layers=0, window=4)
    both = feed(shared("llama"), method, ids, 41, mask=mask).logits
    same(both[1], feed(shared("llama"), method, ids[1:, 9:], 32).logits[0])


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_the_products_of_chunks_sum_to_that_of_the_head(family):
    model = shared(family)
    Rotary.of(model)

    def attend(site):
        pairs = paired(site, "rope")
        assert pairs.flatten().sort().values.tolist() == list(range(site.k.shape[-1]))
        q, k = site.q, site.k.repeat_interleave(site.groups, 1)
        parts = sum(q[..., pair] @ k[..., pair].mT for pair in pairs)
        torch.testing.assert_close(parts, q @ k.mT, atol=1e-5, rtol=1e-5)
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        model(tokens(1, 12), use_cache=False)


def test_the_pairs_turn_together():
    """Moved by as many positions, two keys keep the product of every chunk; neighbours would not."""
    model, held = shared("llama"), {}
    Rotary.of(model)

    def attend(site):
        held.setdefault(site.layer, []).append((site.k, paired(site, "rope")))
        return site.dense()

    ids = torch.tensor([[5, 9]])
    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        for at in (0, 7):
            model(ids, position_ids=torch.tensor([[at, at + 3]]), use_cache=False)
    (near, pairs), (far, _) = held[0]
    for pair in pairs:
        a, b = (k[..., pair] @ k[..., pair].mT for k in (near, far))
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_small_cache_is_a_slice_of_the_large_one():
    def watch(site, state, rows):
        n = site.k.shape[2]
        expected = site.k.gather(3, state.channels.unsqueeze(2).expand(-1, -1, n, -1))
        assert torch.equal(state.near[:, :, :n], expected)
        assert state.near.shape[-1] == site.k.shape[-1] // 4

    watched(Fasa(budget=9, dense_layers=0, window=4), watch)


def test_a_chunk_that_is_the_head_agrees_and_noise_does_not():
    """Keys that differ in one chunk only: this chunk ranks like the head."""
    draw = torch.Generator().manual_seed(0)
    k = torch.randn(1, 64, 8, generator=draw) * 1e-3
    pairs = torch.tensor([[i, i + 4] for i in range(4)])
    k[..., pairs[2]] += torch.randn(1, 64, 2, generator=draw)
    found = agreement(torch.randn(2, 5, 8, generator=draw), k, torch.full((5,), 64), pairs, 8)
    assert found[0].argmax() == 2
    assert found[0, 2] > 0.9
    assert found[0, [0, 1, 3]].max() < 0.5
    assert channels_of(found, pairs, 1).tolist() == [[2, 6]]


def test_of_a_long_text_every_so_many_keys_are_ranked(monkeypatch):
    """As many as `SAMPLE`, and the chunk that is the head is found among them as well."""
    draw = torch.Generator().manual_seed(0)
    seen, one = [], frequencies.agreement
    monkeypatch.setattr(frequencies, "SAMPLE", 16)
    monkeypatch.setattr(
        frequencies, "agreement", lambda q, k, sees, *rest: seen.append(k.shape[1]) or one(q, k, sees, *rest)
    )
    watched(Fasa(budget=9, dense_layers=0, window=4), lambda *_: None)
    assert set(seen) == {14, 11}
    k = torch.randn(1, 1, 200, 8, generator=draw) * 1e-3
    pairs = torch.tensor([[i, i + 4] for i in range(4)])
    k[..., pairs[2]] += torch.randn(1, 1, 200, 2, generator=draw)
    site = Site(layer=0, q=k, k=k, v=k, scale=1.0, facts=None)
    found = frequencies.agreements(
        torch.randn(1, 2, 5, 8, generator=draw), torch.full((1, 5), 199), site, pairs, lambda _: 64
    )
    assert found[0, 0].argmax() == 2


def test_each_head_names_its_own_best():
    """Two heads of a group share the budget in turns."""
    products = torch.tensor([[[[9.0, 8, 1, 2, 0, 3], [0.0, 1, 9, 8, 2, 3]]]])
    for budget, expected in ((2, [0, 2]), (4, [0, 1, 2, 3])):
        votes = -best_place(products, budget)
        assert choose(Budget(tokens=budget, per="head"), votes, None, 6).tolist() == [[expected]]


def test_a_calibration_is_saved_and_serves(tmp_path):
    model = shared("llama")
    found = Frequencies.calibrate(model, [tokens(1, 60)[0], tokens(1, 50, seed=2)[0]], queries=8)
    assert found.agreement.min() >= 0
    assert found.agreement.max() <= 1
    found.save(tmp_path / "kept")
    method, chosen = Fasa(budget=9, dense_layers=0, calibration=str(tmp_path / "kept")), []

    def watch(site, state, rows):
        pairs = paired(site, "rope")
        assert torch.equal(state.channels, channels_of(found.agreement[site.layer], pairs, 2).expand(2, -1, -1))
        chosen.append(site.layer)

    watched(method, watch)
    assert chosen
    with pytest.raises(InvalidValue, match="pairing=rope"):
        replace(method, pairing="adjacent")(model).__enter__()


@pytest.mark.claim
@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_it_is_closer_to_dense_than_chance(smollm2, document, monkeypatch):
    """At 100 rows with a quarter of the channels: than random rows, and than the rows that random channels choose."""
    passage, budget = Passage(smollm2, document), Budget(tokens=100, sink=4, recent=32, per="head")
    method = Fasa(budget=budget, dense_layers=0)
    chosen, chance = passage.kl(method, watches_prompt=True), passage.kl(RandomRows(budget=budget))
    draw = torch.Generator().manual_seed(0)

    def by_chance(q, k, sees, pairs, top):
        return torch.rand(len(k), len(pairs), generator=draw)

    monkeypatch.setattr(frequencies, "agreement", by_chance)
    assert chosen < passage.kl(method, watches_prompt=True)
    assert chosen < chance
