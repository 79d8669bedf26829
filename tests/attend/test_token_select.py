"""TokenSelect's exact invariants."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.attend.feeding import CACHE, feed, same, tokens
from tests.padded import padded
from tokenry.attend.token_select import LastChoice, TokenSelect
from tokenry.core.budget import Budget
from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.mask import note_facts
from tokenry.models.attention.rotary import turned
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.cache.reads import Reads
from tokenry.models.files.tiny import tiny

B, H, G, D, K = 1, 6, 3, 8, 60
SMALL = Budget(tokens=16, sink=2, recent=6, per="layer")


def site(seed=0, keys=K):
    g = torch.Generator().manual_seed(seed)
    buffer = KVBuffer()
    k, v = buffer.update(torch.randn(B, G, keys, D, generator=g), torch.randn(B, G, keys, D, generator=g))
    facts = note_facts(B, 1, keys, q_offset=keys - 1, mask_function=lambda b, h, q, k: k <= q)
    return Site(
        layer=0, q=torch.randn(B, H, 1, D, generator=g), k=k, v=v, scale=D**-0.5, facts=facts, buffer=buffer,
        decoding=True,
    )  # fmt: skip


def test_the_vote_is_the_equation():
    """s = sum over heads of softmax over the candidates of q k, without 1/sqrt(D)."""
    s = site()
    votes = TokenSelect(budget=SMALL)._vote(s)
    expected = torch.zeros(B, G, K)
    for h in range(H):
        products = s.k[0, h // (H // G), 2:-6] @ s.q[0, h, 0]
        expected[0, h // (H // G), 2:-6] += products.softmax(-1)
    torch.testing.assert_close(votes, expected)
    assert votes.sum().item() == pytest.approx(H, abs=1e-5)


def test_a_permutation_of_the_heads_leaves_the_choice():
    s = site()
    method = TokenSelect(budget=SMALL)
    order = torch.tensor([2, 0, 1])
    wide = torch.cat([torch.arange(2) + 2 * int(g) for g in order])
    other = replace(s, q=s.q[:, wide], k=s.k[:, order], v=s.v[:, order])
    assert torch.equal(method.select(s, LastChoice()), method.select(other, LastChoice()))


def test_the_choice_is_sinks_recent_and_the_most_voted():
    s = site()
    chosen = TokenSelect(budget=SMALL).select(s, LastChoice())[0, 0]
    votes = TokenSelect(budget=SMALL)._vote(s).sum(1)[0]
    best = votes.topk(8).indices
    expected = torch.cat((torch.arange(2), best, torch.arange(K - 6, K))).sort().values
    assert torch.equal(chosen, expected)


def test_reading_the_chosen_is_attention_restricted_to_them():
    s = site()
    method = TokenSelect(budget=SMALL)
    chosen = method.select(s, LastChoice())[0, 0]
    out = method.attend(s, LastChoice())
    for h in range(H):
        k, v = s.k[0, h // 2, chosen], s.v[0, h // 2, chosen]
        expected = (k @ s.q[0, h, 0] * D**-0.5).softmax(-1) @ v
        torch.testing.assert_close(out[0, h, 0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("reuse", "selections"), [(1.01, 12), (-1.0, 1)])
def test_reuse_decides_how_often_it_selects(reuse, selections):
    """Above 1 it selects at every step, at -1 once."""
    model = tiny("llama")
    method = TokenSelect(budget=SMALL, reuse=reuse, chunk=0)
    states = []
    with method(model) as run, torch.no_grad():
        made = run.method.State
        object.__setattr__(method, "State", lambda: states.append(made()) or states[-1])
        model.generate(torch.arange(3, 63)[None], max_new_tokens=13, do_sample=False)
    assert [s.selections.tolist() for s in states] == [[selections]] * model.config.num_hidden_layers


def test_a_sequence_chooses_for_itself():
    """Another one that moved makes it neither choose nor be scored again."""
    model = tiny("gemma3_text")
    method = TokenSelect(budget="24:sink=2:recent=8", chunk=0)
    ids = tokens(2, 70)
    ids[0, 48:] = 9
    both = feed(model, method, ids, 48)
    alone = [feed(model, method, ids[i : i + 1], 48) for i in range(2)]
    for i, one in enumerate(alone):
        same(both.logits[i], one.logits[0])
    assert both.run.reads.bytes == sum(one.run.reads.bytes for one in alone)
    chosen = [[layer.states[0].selections for layer in fed.cache.layers if hasattr(layer, "columns")] for fed in alone]
    assert [int(s) for s in chosen[0]] != [int(s) for s in chosen[1]]


def test_only_who_moved_is_scored():
    s = site()
    two = replace(s, **{n: torch.cat([getattr(s, n)] * 2) for n in ("q", "k", "v")}, reads=Reads())
    method, state = TokenSelect(budget=SMALL, reuse=0.9), LastChoice()
    method.select(two, state)
    assert two.reads.bytes == two.k[:, :, 2:-6].nbytes
    method.select(replace(two, q=torch.cat((s.q * 2, -s.q))), state)
    assert two.reads.bytes == 1.5 * two.k[:, :, 2:-6].nbytes
    assert state.selections.tolist() == [1, 2]


def test_who_read_everything_has_chosen_nothing():
    """A sequence that outgrows the budget beside a longer one chooses then, as it does alone."""
    model, pad = tiny("llama"), 30
    method = TokenSelect(budget="24:sink=2:recent=8", chunk=0, reuse=-1.0)
    ids = tokens(2, 70)
    mask = torch.ones_like(ids)
    mask[1, :pad] = 0
    both = feed(model, method, ids, 48, mask=mask)
    same(both.logits[1], feed(model, method, ids[1:, pad:], 48 - pad).logits[0])


@pytest.mark.parametrize("per", ["layer", "head"])
def test_a_choice_that_is_kept_keeps_its_size(per):
    """A share of what was seen when it was made, padded or not."""
    model, pad = tiny("llama"), 11
    method = TokenSelect(budget=f"0.4:sink=1:recent=4:per={per}", chunk=0, reuse=-1.0)
    ids = tokens(2, 80)
    mask = torch.ones_like(ids)
    mask[1, :pad] = 0
    both = feed(model, method, ids, 50, mask=mask)
    for i, cut in enumerate((0, pad)):
        alone = feed(model, method, ids[i : i + 1, cut:], 50 - cut)
        same(both.logits[i], alone.logits[0])
        assert set(alone.run.reads.per_step) == {method.budget.count(51 - cut)}


def test_a_reused_choice_slides_its_recent_tokens():
    s = site()
    method, state = TokenSelect(budget=SMALL, reuse=-1.0), LastChoice()
    first = method.select(s, state)
    k, v = s.buffer.update(torch.zeros(B, G, 1, D), torch.zeros(B, G, 1, D))
    facts = note_facts(B, 1, K + 1, q_offset=K, mask_function=lambda b, h, q, k: k <= q)
    second = method.select(replace(s, k=k, v=v, facts=facts), state)
    assert torch.equal(second[..., :-6], first[..., :-6])
    assert second[0, 0, -6:].tolist() == list(range(K - 5, K + 1))


def test_a_prompt_in_multiples_of_the_block_is_one_shot():
    model = tiny("qwen3")
    ids = torch.randint(3, 128, (1, 64), generator=torch.Generator().manual_seed(2))
    method = TokenSelect(budget=SMALL, chunk=8, reuse=1.01)
    options = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with method(model):
        whole = model.generate(ids, **options)
    with method(model):
        parts = model.generate(ids, prefill_chunk_size=16, **options)
    torch.testing.assert_close(torch.stack(whole.logits), torch.stack(parts.logits), atol=2e-5, rtol=1e-4)


def test_per_head_votes_are_each_heads_own():
    s = site()
    method = TokenSelect(budget=replace(SMALL, per="head"))
    chosen = method.select(s, LastChoice())
    assert chosen.shape == (B, G, 16)
    votes = method._vote(s)
    for g in range(G):
        assert set(votes[0, g].topk(8).indices.tolist()) <= set(chosen[0, g].tolist())


def test_reads_are_the_rows_that_were_gathered():
    """`read_per_step` is what a counting attention saw."""
    model = tiny("llama")
    layers = len(ModelAdapter.of(model).sites)
    seen = []
    original = Site.dense

    def counting(site):
        if site.decoding:
            seen.append(site.k.shape[2])
        return original(site)

    Site.dense = counting
    try:
        with TokenSelect(budget=SMALL, chunk=0)(model) as run:
            model.generate(torch.arange(3, 63)[None], max_new_tokens=5, do_sample=False)
    finally:
        Site.dense = original
    assert run.reads.per_step == [sum(seen[i : i + layers]) / layers for i in range(0, len(seen), layers)] == [16.0] * 4


@pytest.mark.claim
@pytest.mark.slow
def test_it_is_much_closer_to_dense_than_a_window(smollm2):
    """At equal rows on one text: KL at most 0.10 and far below the window's; benchmarks/attend/fidelity has twelve."""
    from tokenry.attend.window import Window
    from tokenry.data import read
    from tokenry.models.generate.answer import divergence

    ids = smollm2.tokenizer(read("moby_dick"), return_tensors="pt", verbose=False)["input_ids"][:, :864]

    def logits(method):
        from contextlib import nullcontext

        rows = []
        with torch.no_grad(), method(smollm2.model) if method else nullcontext():
            out = smollm2.model(input_ids=ids[:, :800], use_cache=True)
            for i in range(800, 864):
                out = smollm2.model(input_ids=ids[:, i : i + 1], **with_cache(cache_of(out)))
                rows.append(out.logits[0, -1].float())
        return torch.stack(rows)

    dense = logits(None)
    budget = Budget(tokens=100, sink=4, recent=32, per="head")
    ours = divergence(dense, logits(TokenSelect(budget=budget, chunk=0, reuse=1.01)))[0].mean()
    window = divergence(dense, logits(Window(budget=Budget(tokens=100, sink=4, per="layer"))))[0].mean()
    assert ours <= 0.10
    assert window >= 2.5 * ours


def test_slots_are_the_positions_of_a_shorter_text():
    """A step that reads the chosen keys with slots equals attention over these keys as one short sequence."""
    model = tiny("llama")
    method = TokenSelect(budget=SMALL, chunk=0, reuse=1.01, slots=True)
    inputs, seen = padded(40, 0), {}

    class Watch(TokenSelect):
        def attend(self, site, state):
            out = super().attend(site, state)
            if site.decoding:
                seen[site.layer] = (site, state.chosen, out)
            return out

    with Watch(**{f: getattr(method, f) for f in ("budget", "chunk", "reuse", "slots")})(model), torch.no_grad():
        cache = cache_of(model(**inputs, use_cache=True))
        model(input_ids=torch.full((2, 1), 9), **with_cache(cache))
        for layer, (site, chosen, out) in seen.items():
            k = site.k.gather(2, chosen.expand(2, 2, -1).unsqueeze(-1).expand(-1, -1, -1, 16))
            v = site.v.gather(2, chosen.expand(2, 2, -1).unsqueeze(-1).expand(-1, -1, -1, 16))
            bare = turned(site, k, -chosen)
            short = turned(site, bare, torch.arange(16).expand(2, 1, -1))
            q = turned(site, site.q, torch.full((2, 1, 1), 15 - 40))
            wide_k, wide_v = (x.repeat_interleave(2, 1) for x in (short, v))
            expected = ((q * 16**-0.5) @ wide_k.mT).softmax(-1) @ wide_v
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
            from_near = turned(site, site.q, torch.full((2, 1, 1), SMALL.recent - 40))
            unplaced = turned(site, site.k, -torch.arange(41).expand(2, 1, -1)).repeat_interleave(2, 1)
            products = (from_near @ unplaced.mT)[:, :, 0, 2:-6]
            votes = products.softmax(-1).view(2, 2, 2, -1).sum(2)
            torch.testing.assert_close(method._vote(site)[..., 2:-6], votes, atol=1e-5, rtol=1e-4)
            assert layer in (0, 1, 2)


def test_slots_judge_a_block_as_its_authors_do(monkeypatch):
    """Bare keys, and queries that stand `recent`, `recent` + 1, … behind them, of which the mean votes."""
    model, method = tiny("llama"), TokenSelect(budget=SMALL, chunk=8, slots=True)
    whole, votes = {}, {}
    attend, vote = TokenSelect.attend, TokenSelect._vote

    def watch(self, site, state):
        whole[site.layer] = site
        return attend(self, site, state)

    def listen(self, site):
        votes[site.layer, site.k.shape[2]] = vote(self, site)
        return votes[site.layer, site.k.shape[2]]

    monkeypatch.setattr(TokenSelect, "attend", watch)
    monkeypatch.setattr(TokenSelect, "_vote", listen)
    with torch.no_grad(), method(model):
        model(input_ids=tokens(1, 40), use_cache=True)
        for (layer, past), found in votes.items():
            site, places = whole[layer], torch.arange(40)
            bare = turned(site, site.k, -places.view(1, 1, -1))[:, :, 2 : past - 6].repeat_interleave(2, 1)
            block = turned(site, site.q, -places.view(1, 1, -1))[:, :, past : past + 8]
            block = turned(site, block, (SMALL.recent + torch.arange(8)).view(1, 1, -1))
            expected = (block.mean(2, keepdim=True) @ bare.mT).softmax(-1).view(1, 2, 2, -1).sum(2)
            torch.testing.assert_close(found[..., 2 : past - 6], expected, atol=1e-5, rtol=1e-4)
    assert sorted(votes) == [(layer, past) for layer in range(3) for past in (24, 32)]


def test_slots_refuse_padding_between_tokens():
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[1, 5:8] = 0
    with pytest.raises(Incompatible, match="no padding between"):
        feed(tiny("llama"), TokenSelect(budget=SMALL, slots=True), tokens(2, 30), 28, mask=mask)


def test_a_fixed_cache_reads_a_prompt_in_blocks_as_well():
    """Its rows have columns although nothing was evicted."""
    model, method, ids = tiny("llama"), TokenSelect(budget=SMALL, chunk=8), tokens(1, 44)
    with torch.no_grad(), ModelAdapter.of(model).attached():
        found = []
        for capacity in (None, 60):
            cache = method.cache(model, capacity=capacity)
            model(input_ids=ids[:, :40], **{CACHE: cache})
            found.append(model(input_ids=ids[:, 40:41], **{CACHE: cache}).logits)
    same(*found)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_slots_padding_does_not_matter_and_a_covering_budget_is_dense(family):
    model = tiny(family)
    options = {"max_new_tokens": 8, "do_sample": False}
    inputs = padded(60, 13)
    with TokenSelect(budget="1000:sink=2:recent=6", slots=True)(model):
        assert torch.equal(model.generate(**inputs, **options), model.generate(**inputs, **options))
    dense = model.generate(**inputs, **options)
    with TokenSelect(budget="1000:sink=2:recent=6", slots=True)(model):
        assert torch.equal(model.generate(**inputs, **options), dense)
    with TokenSelect(budget=SMALL, chunk=8, reuse=1.01, slots=True)(model):
        both = model.generate(**inputs, **options)[:, 60:]
        alone = model.generate(input_ids=inputs["input_ids"][1:, 13:], **options)[:, 47:]
    assert torch.equal(both[1:], alone)


def test_slots_refuse_learned_positions():
    with pytest.raises(UnsupportedModel, match="must rotate its keys"):
        TokenSelect(slots=True)(tiny("gpt2")).__enter__()
