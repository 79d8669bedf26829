"""H2O's sums are those of full attention maps, and what stays is the heavy and the recent."""

from __future__ import annotations

import pytest
import torch

from tests.attend.attend_kl import DOCUMENTS, Passage
from tokenry.attend.h2o import H2O
from tokenry.core.budget import Budget
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.models.attention import site as sites
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import tiny

PROMPT, STEPS = 30, 12
IDS = torch.randint(3, 128, (2, PROMPT + STEPS), generator=torch.Generator().manual_seed(5))
PAD = 7


def mask(n):
    ones = torch.ones(2, n, dtype=torch.long)
    ones[1, :PAD] = 0
    return ones


def feed(model, method, watch=None, chunk=PROMPT):
    """Prompt and steps of two rows, one left-padded; `watch(site, state)` runs after every layer's attention."""
    attend = method.attend

    def watched(site, state):
        out = attend(site, state)
        if watch is not None:
            watch(site, state)
        return out

    object.__setattr__(method, "attend", watched)
    with torch.no_grad(), method(model):
        cache = None
        for low in range(0, PROMPT, chunk):
            high = min(low + chunk, PROMPT)
            positions = (mask(high).cumsum(1) - 1).clamp_min(0)[:, low:high]
            cache = cache_of(model(
                input_ids=IDS[:, low:high], attention_mask=mask(high), position_ids=positions, **with_cache(cache),
                use_cache=True,
            ))  # fmt: skip
        for i in range(PROMPT, PROMPT + STEPS):
            positions = mask(i + 1).sum(1, keepdim=True) - 1
            model(input_ids=IDS[:, i : i + 1], attention_mask=mask(i + 1), position_ids=positions, **with_cache(cache))
    return cache


def by_hand(site, k, columns):
    """(B, G, Q, K) probabilities by the definition: a softmax over the keys a query may see, in double precision."""
    b, h, n, d = site.q.shape
    g = k.shape[1]
    first = site.buffer.seen - n
    out = torch.zeros(b, g, n, k.shape[2], dtype=torch.float64)
    for row in range(b):
        for head in range(h):
            for i in range(n):
                if row == 1 and first + i < PAD:
                    continue
                at = columns[row, head // (h // g)]
                seen = (at >= 0) & (at <= first + i) & ((at >= PAD) if row == 1 else True)
                logits = k[row, head // (h // g)][seen].double() @ site.q[row, head, i].double() / d**0.5
                out[row, head // (h // g), i, seen] += logits.softmax(0)
    return out


@pytest.mark.parametrize("chunk", [PROMPT, 8])
def test_sums_and_choices_equal_those_of_full_maps(chunk):
    """A plain H2O beside ours: dictionaries of sums by column, greedy eviction, both rows and all heads."""
    model = tiny("llama")
    method = H2O(budget=Budget(tokens=10, recent=5, per="head"))
    sums, checked = {}, []

    def watch(site, state):
        now = sums.setdefault(site.layer, [[{} for _ in range(2)] for _ in range(2)])
        buffer, n = site.buffer, site.q.shape[2]
        columns = buffer._all_columns()
        if site.decoding:
            for row in range(2):
                for head in range(2):
                    held = now[row][head]
                    held[buffer.seen - 1] = 0.0
                    heavy = sorted(held)[:-5]
                    heavy = sorted(heavy, key=lambda c, held=held: -held[c])[:5]
                    now[row][head] = {c: held[c] for c in sorted(heavy) + sorted(held)[-5:]}
        given = by_hand(site, buffer.keys, columns).sum(2)
        for row in range(2):
            for head in range(2):
                at = columns[row, head]
                held = now[row][head]
                for c, p in zip(at.tolist(), given[row, head].tolist(), strict=True):
                    if c >= (PAD if row == 1 else 0):
                        held[c] = held.get(c, 0.0) + p
                kept = [c for c in at.tolist() if c >= (PAD if row == 1 else 0)]
                assert sorted(held) == kept
                mass = dict(zip(state.columns[row, head].tolist(), state.mass[row, head].tolist(), strict=True))
                for c in kept:
                    assert mass[c] == pytest.approx(held[c], rel=1e-4, abs=1e-6)
                checked.append(n)

    feed(model, method, watch, chunk)
    assert len(checked) == (-(-PROMPT // chunk) + STEPS) * 3 * 4


def test_streamed_sums_do_not_depend_on_the_slices(monkeypatch):
    model = tiny("qwen3")
    found = []

    def attend(site):
        whole = site.probs().view(2, 2, 2, PROMPT, PROMPT) * mask(PROMPT)[:, None, None, :, None]
        for elements in (1, 2 * 4 * PROMPT * 7, 1 << 22):
            monkeypatch.setattr(sites, "PROBABILITIES", elements)
            _, ours = site.dense_and_received()
            torch.testing.assert_close(ours, whole.sum(3).sum(2), atol=1e-5, rtol=1e-5)
            assert ours.sum((1, 2)).tolist() == pytest.approx([4 * PROMPT, 4 * (PROMPT - PAD)], rel=1e-5)
        found.append(site.layer)
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        model(input_ids=IDS[:, :PROMPT], attention_mask=mask(PROMPT), use_cache=True)
    assert found == [0, 1, 2]


def test_sums_follow_beams():
    """A row that another beam takes over brings its sums with it."""
    model = tiny("llama")
    method = H2O(budget=Budget(tokens=10, recent=5, per="head"))
    cache = feed(model, method)
    for layer in cache.layers:
        (state,) = layer.states
        before = state.mass.clone()
        layer.reorder_cache(torch.tensor([1, 1]))
        assert torch.equal(state.mass, before[[1, 1]])


def test_a_crop_forgets_the_sums_of_what_was_cropped():
    """Another token in the place of a cropped one starts from zero."""
    model = tiny("llama")
    method = H2O(budget=100)
    with torch.no_grad(), method(model):
        cache = cache_of(model(input_ids=IDS[:1, :PROMPT], use_cache=True))
        before = [layer.states[0].mass.clone() for layer in cache.layers]
        cache.crop(-6)
        model(input_ids=IDS[:1, -6:], **with_cache(cache))
    with torch.no_grad(), method(model):
        fresh = cache_of(model(input_ids=torch.cat((IDS[:1, : PROMPT - 6], IDS[:1, -6:]), 1), use_cache=True))
    for old, layer, other in zip(before, cache.layers, fresh.layers, strict=True):
        mass, expected = layer.states[0].mass, other.states[0].mass
        torch.testing.assert_close(mass[..., -6:], expected[..., -6:], atol=1e-5, rtol=1e-5)
        assert (mass[..., : PROMPT - 6] > old[..., : PROMPT - 6]).all()


def test_the_cache_never_exceeds_the_budget_and_the_recent_stay():
    model = tiny("llama")
    seen = []

    def watch(site, state):
        if site.decoding:
            seen.append(site.buffer.columns[..., -5:].tolist())
            assert site.buffer.held == 10
            assert state.mass.shape[-1] == 10

    feed(model, H2O(budget=Budget(tokens=10, recent=5, per="head")), watch)
    last = [list(range(i - 4, i + 1)) for i in range(PROMPT, PROMPT + STEPS) for _ in range(3)]
    assert seen == [[[columns] * 2] * 2 for columns in last]


def test_half_is_recent_by_default():
    assert H2O(budget=100).budget == Budget(tokens=100, recent=50, per="head")


def test_recent_tokens_and_the_prompt_are_required():
    with pytest.raises(InvalidValue, match="at least 1 recent token"):
        H2O(budget=Budget(tokens=10, per="head"))
    model = tiny("llama")
    with torch.no_grad():
        cache = cache_of(model(input_ids=IDS[:1, :PROMPT], use_cache=True))
        with H2O(budget=10)(model), pytest.raises(Incompatible, match="must see the prompt"):
            model(input_ids=IDS[:1, -1:], **with_cache(cache))


@pytest.mark.claim
@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_it_is_closer_to_dense_than_a_window_or_random_rows(smollm2, document):
    """At 100 rows, against a window with sinks and against random rows beside as many recent ones."""
    from tokenry.attend.random import RandomRows
    from tokenry.attend.window import Window

    passage = Passage(smollm2, document)
    ours = passage.kl(H2O(budget=100), watches_prompt=True)
    assert ours < passage.kl(Window(budget=Budget(tokens=100, sink=4, per="layer")))
    assert ours < passage.kl(RandomRows(budget=Budget(tokens=100, sink=4, recent=50, per="head")))
