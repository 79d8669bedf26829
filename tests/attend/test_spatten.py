"""SpAtten: importance that adds up, cascades that nest, and bits that give the numbers back."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import feed, same, tokens
from tests.padded import padded
from tests.tinies import shared
from tokenry.attend.parts.precision import Exact, Planes, Progressive, joined, split
from tokenry.attend.spatten import SpAtten
from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.load import load_encoder

PROMPT = padded(41)


def watched(method, watch, model, **inputs):
    """Run a prompt; `watch(view, state)` sees every layer before its tokens go on."""
    reduce = method.reduce

    def looking(view, state):
        change = reduce(view, state)
        watch(view, state, change)
        return change

    object.__setattr__(method, "reduce", looking)
    with torch.no_grad(), method(model) as run:
        model(**inputs)
    return run


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_importance_is_all_that_was_given(family):
    """Every query gives 1 for each head and layer; what is asked counts the pairs."""
    model, ids = shared(family), tokens(1, 20)
    heads, seen = model.config.num_attention_heads, []

    def watch(view, state, _):
        rows = view.layer * heads * 20
        assert state.tokens.sum().item() == pytest.approx(rows, rel=1e-5)
        pairs = 20 * 21 / 2 if family == "llama" else 20 * 20
        assert state.asked.sum().item() == view.layer * heads * pairs
        seen.append(view.layer)

    watched(SpAtten(keep=0.999, unpruned=1.0, heads=0.999, unpruned_heads=1.0), watch, model, input_ids=ids)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("pad", [0, 5])
def test_who_is_behind_a_window_is_not_asked(pad):
    """A token is asked by the queries that see it, in windowed layers by those of the window alone."""
    model, ids, found = shared("gemma3_text"), tokens(1, 40), []
    mask = torch.ones_like(ids)
    mask[0, :pad] = 0
    watched(SpAtten(keep=0.999, unpruned=1.0), lambda _, state, __: found.append(state.asked[0]), model,
            input_ids=ids, attention_mask=mask)  # fmt: skip
    behind = torch.arange(40, 0, -1.0) * mask[0]
    assert torch.equal(found[1] / 4, behind.clamp_max(16))
    assert torch.equal((found[2] - found[1]) / 4, behind)


def test_sequences_with_other_heads_have_their_own_sinks():
    model, ids = shared("gpt_oss"), tokens(2, 30)
    method = SpAtten(keep=1.0, heads=0.5, unpruned_heads=0.0)
    both = feed(model, method, ids, 26).logits
    for row in range(2):
        same(both[row], feed(model, method, ids[row : row + 1], 26).logits[0])
    q, k, sinks = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 4)
    site = Site(layer=0, q=q, k=k, v=k, scale=1.0, facts=None, sinks=sinks)
    assert torch.equal(site.sequences(slice(1, 2)).probs(), site.probs()[1:])


def test_after_a_crop_into_the_prompt_steps_are_steps():
    """What comes by itself then is no prompt: the heads that were left stay those, and few values are read."""
    model, ids, method = shared("llama"), tokens(1, 45), SpAtten(keep=1.0, heads=0.5, unpruned_heads=0.0, values=0.5)
    with torch.no_grad(), method(model) as run:
        cache = cache_of(model(ids[:, :40]))
        for i in (40, 41, 42):
            model(ids[:, i : i + 1], **with_cache(cache))
        state = cache.layers[0].states[0]
        heads, before = state.active, run.reads.per_step
        cache.crop(-6)
        model(ids[:, 43:44], **with_cache(cache))
    assert torch.equal(state.active, heads)
    assert run.reads.per_step == [*before, 38.0]


def test_what_is_left_is_nested_and_the_most_important():
    model, before = shared("llama"), {}

    def watch(view, state, change):
        if change is None:
            before.setdefault("columns", view.columns)
            return
        held = [set(row[row >= 0].tolist()) for row in change.columns]
        for row, (now, then) in enumerate(zip(held, before["columns"], strict=True)):
            there = set(then[then >= 0].tolist())
            assert now < there
            real = [c for c in then.tolist() if c >= 0 and bool(PROMPT["attention_mask"][row, c])]
            assert {real[0], real[-1]} <= now
            mean = state.tokens[row] / state.asked[row].clamp_min(1)
            out = [c for c in real if c not in now]
            least = min(mean[c] for c in now - {real[0], real[-1]})
            assert all(mean[c] <= least for c in out)
        before["columns"] = change.columns

    run = watched(SpAtten(keep=0.4, unpruned=0.0), watch, model, **PROMPT)
    assert run.streams[0].counts == [41, 29, 17]


def test_fewer_pairs_are_read():
    """Every layer counts the causal pairs of the tokens that are left in it."""
    model = shared("llama")
    with torch.no_grad(), SpAtten(keep=0.4, unpruned=0.0)(model) as run:
        model(input_ids=tokens(1, 41))
    counts = run.streams[0].counts
    assert run.reads.pairs == sum(n * (n + 1) / 2 for n in counts)


def test_heads_fall_out_for_good_and_give_nothing():
    method, outs = SpAtten(keep=1.0, heads=0.25, unpruned_heads=0.0), {}
    attend = method.attend

    def looking(site, state):
        out = attend(site, state)
        outs[site.layer] = (state.active[:, site.layer].clone(), out)
        return out

    object.__setattr__(method, "attend", looking)
    with torch.no_grad(), method(shared("llama")):
        shared("llama")(**PROMPT)
    counts = [int(active.sum(1)[0]) for active, _ in outs.values()]
    assert counts == [4, 3, 1]
    for layer in (1, 2):
        assert (outs[layer][0] <= outs[layer - 1][0]).all()
        assert (outs[layer][1][~outs[layer][0]] == 0).all()
        assert (outs[layer][1][outs[layer][0]] != 0).any()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_high_and_low_bits_give_the_number_back(bits):
    keys = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)) * 7
    high, low, unit = split(keys, bits)
    whole = (keys / unit).round().int()
    assert torch.equal(joined(high, low), whole)
    assert whole.abs().max() == 2 ** (bits - 1) - 1
    assert high.dtype == (torch.int8 if bits <= 12 else torch.int16)
    assert low.numel() == keys.numel() // 2
    assert (whole * unit - keys).abs().max() <= unit.max() / 2 + 1e-6


def progressive_logits(precision, model, ids):
    """The reads of some steps and their logits."""
    with torch.no_grad(), SpAtten(keep=1.0, precision=precision)(model, prompt_tokens=30) as run:
        cache = cache_of(model(ids[:, :30]))
        logits = [model(ids[:, i : i + 1], **with_cache(cache)).logits for i in range(30, 36)]
        planes = next(s for s in cache.layers[0].states if isinstance(s, Planes)) if precision != Exact() else None
    return torch.cat(logits, 1), run.reads, planes


def test_low_bits_are_read_where_attention_is_flat():
    """With all bits nearest to exact, with none furthest; and what is read is counted."""
    model, ids = shared("llama"), tokens(1, 36)
    exact, *_ = progressive_logits(Exact(), model, ids)
    all_bits, most, planes = progressive_logits(Progressive(high="8", flat=1.0), model, ids)
    high_bits, least, _ = progressive_logits(Progressive(high="4", flat=0.0), model, ids)
    assert 10 * (all_bits - exact).abs().max() < (high_bits - exact).abs().max()
    assert planes.high.shape[2] == 36
    assert most.bytes > least.bytes
    assert most.per_step == least.per_step == [31, 32, 33, 34, 35, 36]


def test_a_crop_counts_the_rows_again():
    model, ids = shared("llama"), tokens(1, 36)
    expected, *_ = progressive_logits(Progressive(flat=0.2), model, ids)
    with torch.no_grad(), SpAtten(keep=1.0, precision=Progressive(flat=0.2))(model, prompt_tokens=30):
        cache = cache_of(model(ids[:, :30]))
        for token in (7, 8):
            model(torch.tensor([[token]]), **with_cache(cache))
        cache.crop(-2)
        logits = [model(ids[:, i : i + 1], **with_cache(cache)).logits for i in range(30, 36)]
    torch.testing.assert_close(torch.cat(logits, 1), expected, atol=1e-5, rtol=1e-4)


def test_only_the_values_with_the_largest_probabilities_are_added():
    model, ids, found = shared("llama"), tokens(1, 20), []
    method = SpAtten(keep=1.0, values=0.25)
    step = method._step

    def looking(site):
        out = step(site)
        probs = site.probs()[0, :, 0]
        best = probs.topk(5).values[:, -1:]
        values = site.v[0].repeat_interleave(site.groups, 0)
        expected = ((probs * (probs >= best)).unsqueeze(1) @ values)[:, 0]
        torch.testing.assert_close(out[0, :, 0], expected, atol=1e-6, rtol=1e-5)
        found.append(site.layer)
        return out

    object.__setattr__(method, "_step", looking)
    with torch.no_grad(), method(model):
        cache = cache_of(model(ids[:, :19]))
        model(ids[:, 19:], **with_cache(cache))
    assert found == [0, 1, 2]


def test_shares_of_nothing_are_refused():
    for name in ("keep", "heads", "values"):
        with pytest.raises(InvalidValue, match=f"{name} must be above 0"):
            SpAtten(**{name: 0.0})


@pytest.mark.claim
def test_sentences_keep_their_meaning_better_than_by_chance(monkeypatch):
    """Mean-pooled vectors of an encoder with half of the tokens in its last layer, and with random ones."""
    encoder = load_encoder("minilm")
    texts = [line for line in read("sotu_1975").split(". ") if 100 < len(line) < 400][:24]
    rows = [torch.tensor([encoder.tokenizer.encode(text)]) for text in texts]

    def vectors(method=None):
        found = []
        with torch.no_grad():
            for row in rows:
                attached = ModelAdapter.of(encoder.model).attached() if method is None else method(encoder.model)
                with attached:
                    found.append(encoder.model(input_ids=row).last_hidden_state[0].mean(0))
        return torch.stack(found)

    whole, method = vectors(), SpAtten(keep=0.5)
    best = SpAtten._best

    def by_chance(self, view, state):
        draw = torch.Generator().manual_seed(view.layer)
        state.tokens = torch.rand(state.tokens.shape, generator=draw)
        return best(self, view, state)

    chosen = torch.cosine_similarity(vectors(method), whole)
    monkeypatch.setattr(SpAtten, "_best", by_chance)
    chance = torch.cosine_similarity(vectors(method), whole)
    assert chosen.mean() > 0.9
    assert chosen.mean() > chance.mean()
