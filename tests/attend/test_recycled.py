"""Recycled Attention against a plain one, and its steps against their schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.attend.attend_kl import DOCUMENTS, Passage
from tests.padded import padded
from tests.tinies import shared
from tokenry.attend.parts.refresh import Moved, Never, Refreshed, Stride
from tokenry.attend.random import RandomRows
from tokenry.attend.recycled import Recycled
from tokenry.core.budget import Budget
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache

PROMPT, STEPS = padded(41), 12


def generate(model, **options):
    return model.generate(
        **{**PROMPT, **options}, max_new_tokens=STEPS, do_sample=False, output_logits=True, return_dict_in_generate=True
    )


def logits(out):
    return torch.stack(out.logits)


def watched(method, watch, model=None, **options):
    """Generate; `watch(site, state, rows)` sees every decoding step and the rows that it read."""
    attend = method.attend

    def looking(site, state):
        before = None if state.rows is None or not site.decoding else (state.rows.clone(), state.given.clone())
        out = attend(site, state)
        if site.decoding:
            watch(site, state, before)
        return out

    object.__setattr__(method, "attend", looking)
    model = model or shared("llama")
    with method(model) as run:
        return generate(model, **options), run


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_a_full_step_holds_exactly_the_most_attended_rows(merge):
    found = []

    def watch(site, state, _):
        if state.step % 3 == 0:
            probs = site.probs()[:, :, 0].view(2, 2, 2, -1)
            given = probs.mean(2) if merge == "mean" else probs.amax(2)
            best = given.topk(7, -1).indices.sort(-1).values
            assert torch.equal(state.rows, best)
            torch.testing.assert_close(state.given, given.gather(-1, best))
            found.append(site.layer)

    watched(Recycled(budget=7, refresh=Stride(steps=3), merge=merge), watch)
    assert len(found) == 3 * ((STEPS - 1) // 3)


def test_a_recycling_step_adds_its_token_and_leaves_out_the_least_attended():
    def watch(site, state, before):
        rows, given = before
        best = given.topk(6, -1).indices
        stays = rows.gather(-1, best).sort(-1).values
        assert torch.equal(state.rows[..., :-1], stays)
        assert (state.rows[..., -1] == site.k.shape[2] - 1).all()

    watched(Recycled(budget=7, refresh=Never()), watch)


def test_recycling_steps_read_the_budget_and_full_ones_everything():
    for refresh, full in ((Stride(steps=4), (3, 7)), (Never(), ()), (Moved(check=3, similarity=1.01), (2, 5, 8))):
        method = Recycled(budget="7:sink=2:recent=2", refresh=refresh)
        _, run = watched(method, lambda *_: None)
        for step, read in enumerate(run.reads.per_step):
            held = (41 + 1 + step + 32 + 1 + step) / 2
            assert read == (held if step in full else 7)
            assert method.reads_all(step) == (step in full)


def test_sinks_and_recent_tokens_stay():
    def watch(site, state, _):
        last = site.k.shape[2]
        assert state.rows[0, :, :2].tolist() == [[0, 1]] * 2
        assert state.rows[1, :, :2].tolist() == [[9, 10]] * 2
        assert state.rows[..., -3:].tolist() == [[list(range(last - 3, last))] * 2] * 2

    watched(Recycled(budget="8:sink=2:recent=3", refresh=Stride(steps=5)), watch)


def test_a_budget_of_a_layer_is_one_choice():
    def watch(site, state, _):
        assert state.rows.shape[1] == 1

    _, run = watched(Recycled(budget="8:per=layer", refresh=Never()), watch)
    assert set(run.reads.per_step) == {8}


@pytest.mark.parametrize("refresh", [Stride(steps=1), Moved(check=1, similarity=1.01)])
def test_full_steps_alone_are_dense(refresh):
    model = shared("llama")
    out, _ = watched(Recycled(budget=4, refresh=refresh), lambda *_: None)
    torch.testing.assert_close(logits(out), logits(generate(model)), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [Recycled(budget=7), RandomRows(budget=7)], ids=lambda m: m.name())
def test_sequences_move_on_by_themselves(method):
    """Some sequences read everything in a step in which others do not, and no one's choice depends on the others."""
    model = shared("llama")
    counted = []

    class Counting(Moved):
        def due(self, site, state):
            due = super().due(site, state)
            counted.append(int(due.sum()))
            return due

    with replace(method, refresh=Counting(check=1, similarity=0.6))(model):
        both = logits(generate(model))
    assert 1 in counted
    for row, low in ((0, 0), (1, 9)):
        alone = {name: values[row : row + 1, low:] for name, values in PROMPT.items()}
        with replace(method, refresh=Moved(check=1, similarity=0.6))(model):
            out = logits(generate(model, **alone))
        torch.testing.assert_close(out[:, 0], both[:, row], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("refresh", [Stride(steps=3), Moved(check=2, similarity=0.9)])
def test_a_fixed_capacity_gives_the_same(refresh):
    method, model, found = Recycled(budget=9, refresh=refresh), shared("llama"), []
    with torch.no_grad(), ModelAdapter.of(model).attached():
        for cache in (method.cache(model), method.cache(model, capacity=60)):
            ids, steps = PROMPT["input_ids"][:1], []
            for low, high in ((0, 30), *((i, i + 1) for i in range(30, 41))):
                steps.append(model(input_ids=ids[:, low:high], **with_cache(cache)).logits[:, -1])
            found.append(torch.stack(steps))
    torch.testing.assert_close(*found, atol=2e-5, rtol=1e-4)


def test_after_a_crop_everything_is_read_once():
    method, model = Recycled(budget=7, refresh=Never()), shared("llama")
    with torch.no_grad(), method(model) as run:
        cache = cache_of(model(input_ids=PROMPT["input_ids"][:1]))
        for _ in range(2):
            model(input_ids=torch.tensor([[7]]), **with_cache(cache))
        cache.crop(-2)
        for _ in range(2):
            model(input_ids=torch.tensor([[9]]), **with_cache(cache))
    assert run.reads.per_step == [7, 7, 42, 7]


def test_the_query_decides_where_moved_is_asked():
    state, moved = Refreshed(query=torch.tensor([[1.0, 0.0], [1.0, 0.0]])), Moved(check=1, similarity=0.5)
    query = torch.tensor([[0.0, 1.0], [1.0, 0.1]])
    assert moved.moved(query, state.query).tolist() == [True, False]


@pytest.mark.claim
@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_it_is_closer_to_dense_than_random_rows_with_the_same_full_steps(smollm2, document):
    """At 100 rows and one full step in 16; and with one in 4 closer still."""
    passage, budget = Passage(smollm2, document), Budget(tokens=100, sink=4, recent=32, per="head")
    rare, often, chance = (
        passage.kl(method(budget=budget, refresh=Stride(steps=steps)), watches_prompt=True)
        for method, steps in ((Recycled, 16), (Recycled, 4), (RandomRows, 16))
    )
    assert often < rare < chance
