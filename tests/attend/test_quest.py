"""Quest's bounds are bounds, its pages stand still, and a step costs what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.attend.attend_kl import DOCUMENTS, Passage
from tokenry.attend.quest import Quest
from tokenry.attend.rows.pages import PageExtremes, columns_by_rank
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.models.attention.mask import note_facts
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.reads import Reads
from tokenry.models.files.tiny import tiny

B, H, G, D = 2, 6, 3, 8


def causal(b, h, q, k):
    return k <= q


class Sequence:
    """A cache that grows pass by pass with random tokens, under any padding mask."""

    def __init__(self, method, mask=None, seed=0):
        self.method, self.mask = method, mask
        self.buffer, self.state = KVBuffer(), PageExtremes()
        self.random = torch.Generator().manual_seed(seed)
        self.reads = Reads()

    def read(self, tokens):
        """One pass of `tokens` new columns; the site as its attention sees it."""
        new = torch.randn(3, B, G, tokens, D, generator=self.random)
        q = torch.randn(B, H, tokens, D, generator=self.random)
        k, v = self.buffer.update(new[0], new[1])
        n = self.buffer.seen
        padding = None if self.mask is None else self.mask[:, :n]
        facts = note_facts(B, tokens, n, q_offset=n - tokens, mask_function=causal, attention_mask=padding)
        site = Site(
            layer=5, q=q, k=k, v=v, scale=D**-0.5, facts=facts, buffer=self.buffer, decoding=tokens == 1 < n,
            reads=self.reads,
        )  # fmt: skip
        self.out = self.method.attend(site, self.state)
        return site


def plain(method, site):
    """Columns per sequence and KV head, with loops over pages and by the definition of the bound."""
    page, budget, found = method.page, method.budget, []
    for row in range(B):
        real = torch.arange(site.k.shape[2])
        if site.facts.padding is not None:
            real = real[site.facts.padding[row]]
        n = len(real)
        m = budget.count(n)
        before = (n - 1) // page
        newest = min(n - before * page, m)
        bound = torch.zeros(G, before)
        for p in range(before):
            keys = site.k[row][:, real[p * page : (p + 1) * page]]
            for head in range(H):
                q = site.q[row, head, 0]
                g = head // (H // G)
                bound[g, p] += torch.maximum(q * keys[g].amin(0), q * keys[g].amax(0)).sum()
        if budget.per == "layer":
            bound = bound.sum(0, keepdim=True)
        heads = []
        for g in range(len(bound)):
            pinned = set(range(-(-budget.sink // page))) | set(range((n - budget.recent) // page, before))
            order = sorted(range(before), key=lambda p, g=g, pinned=pinned: (p not in pinned, -bound[g, p].item()))
            pages = sorted(order[: (m - newest) // page])
            ranks = [r for p in pages for r in range(p * page, (p + 1) * page)] + list(range(n - newest, n))
            heads.append(real[torch.tensor(ranks)].tolist())
        found.append(heads)
    return found


def columns(index):
    return [[row[row >= 0].tolist() for row in heads] for heads in index]


def every_head(chosen):
    """The same for all KV heads where one choice serves them."""
    return [heads * (G // len(heads)) for heads in chosen]


def padded(left=(0, 11), n=200):
    mask = torch.ones(B, n, dtype=torch.bool)
    for row, count in enumerate(left):
        mask[row, :count] = False
    return mask


BUDGETS = (
    Budget(tokens=24, per="head"), Budget(tokens=40, sink=3, recent=9, per="head"), Budget(share=0.4, per="layer"),
    Budget(share=0.1, per="head"),
)  # fmt: skip
HOLES = torch.rand(B, 200, generator=torch.Generator().manual_seed(1)) < 0.7
HOLES[:, -90:] = True


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("mask", [None, padded(), HOLES], ids=["even", "left", "holes"])
def test_the_choice_is_that_of_loops_over_pages(budget, mask):
    """The fast step, at every length from a chunked prompt on, against the plain definition."""
    method = Quest(budget=budget, page=8)
    sequence = Sequence(method, mask)
    for tokens in (50, 33, 30):
        sequence.read(tokens)
    for _ in range(20):
        site = sequence.read(1)
        index = method.select(site, sequence.state)
        if index is None:
            assert budget.count(site.k.shape[2]) == site.k.shape[2]
        else:
            assert every_head(columns(index)) == every_head(plain(method, site))


def test_sequences_shorter_than_a_page():
    """Before a page is complete the newest tokens are all there is, as far as the budget goes."""
    method = Quest(budget=Budget(share=0.5, per="head"), page=8)
    sequence = Sequence(method, padded((0, 2)))
    sequence.read(4)
    for _ in range(3):
        site = sequence.read(1)
        assert every_head(columns(method.select(site, sequence.state))) == every_head(plain(method, site))


def test_all_real_is_no_padding():
    """The even and the uneven way agree."""
    method = Quest(budget=Budget(tokens=40, sink=3, recent=9, per="head"), page=8)
    sequence = Sequence(method)
    sequence.read(90)
    for _ in range(20):
        site = sequence.read(1)
        facts = replace(site.facts, padding=torch.ones(B, site.k.shape[2], dtype=torch.bool))
        even = method.select(site, sequence.state)
        assert torch.equal(even, method.select(replace(site, facts=facts), sequence.state))


def test_no_key_exceeds_the_bound_of_its_page():
    method = Quest(budget=24, page=8)
    sequence = Sequence(method)
    sequence.read(85)
    for _ in range(12):
        site = sequence.read(1)
        pages = (site.k.shape[2] - 1) // 8
        bound = sequence.state.bounds(site, pages)
        products = (site.q.view(B, G, H // G, D) @ site.k.mT).sum(2)[..., : pages * 8].unflatten(-1, (pages, 8))
        assert (products <= bound.unsqueeze(-1) + 1e-4).all()


def test_pages_of_one_token_are_exact():
    """page=1 reads the keys with the largest products per KV head, and the newest."""
    method = Quest(budget=20, page=1)
    sequence = Sequence(method)
    sequence.read(90)
    site = sequence.read(1)
    products = (site.q.view(B, G, H // G, D) @ site.k.mT).sum(2)[..., :-1]
    best = products.topk(19).indices.sort(-1).values
    index = method.select(site, sequence.state)
    assert torch.equal(index, torch.cat((best, torch.full((B, G, 1), 90)), -1))


def test_reading_the_chosen_is_attention_restricted_to_them():
    method = Quest(budget=24, page=8)
    sequence = Sequence(method, padded())
    sequence.read(90)
    site = sequence.read(1)
    chosen = columns(method.select(site, sequence.state))
    for row in range(B):
        for head in range(H):
            at = torch.tensor(chosen[row][head // (H // G)])
            k, v = site.k[row, head // (H // G), at], site.v[row, head // (H // G), at]
            expected = (k @ site.q[row, head, 0] * D**-0.5).softmax(-1) @ v
            torch.testing.assert_close(sequence.out[row, head, 0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mask", [None, padded(), HOLES], ids=["even", "left", "holes"])
def test_pages_kept_are_pages_computed_anew(mask):
    """Chunks, steps, a crop, beams: what is kept equals what a fresh reading finds."""
    sequence = Sequence(Quest(budget=24, page=8), mask)
    for tokens in (50, 33, 1, 1, 9):
        sequence.read(tokens)
    sequence.buffer.crop(-21)
    for tokens in (4, 1, 1, 1, 20, 1):
        site = sequence.read(tokens)
        fresh = PageExtremes()
        fresh.extend(site, 8)
        for row in range(B):
            n = site.k.shape[2] if mask is None else int(mask[row, : site.k.shape[2]].sum())
            assert torch.equal(sequence.state.extremes[row, :, : n // 8], fresh.extremes[row, :, : n // 8])
    before = sequence.state.extremes.clone()
    sequence.buffer.states.append(sequence.state)
    sequence.buffer.reorder_cache(torch.tensor([1, 1]))
    assert torch.equal(sequence.state.extremes, before[[1, 1]])


def test_a_step_looks_at_pages_not_at_keys():
    """Bytes of a step: 2 rows a page, the chosen keys and values, and once in `page` steps the keys of a page."""
    sequence = Sequence(Quest(budget=24, page=8))
    sequence.read(800)
    row = B * G * D * 4
    for n in range(801, 833):
        before = sequence.reads.bytes
        sequence.read(1)
        pages, newest = (n - 1) // 8, (n - 1) % 8 + 1
        chosen = newest + (24 - newest) // 8 * 8
        assert sequence.reads.bytes - before == row * (2 * pages + 2 * chosen + (8 if n % 8 == 0 else 0))


def test_the_first_layers_read_everything():
    model = tiny("llama")
    with Quest(budget=16, dense_layers=2)(model) as run, torch.no_grad():
        model.generate(torch.arange(3, 63)[None], max_new_tokens=4, do_sample=False)
    for step, rows in enumerate(run.reads._steps):
        assert [rows[0], rows[1]] == [61 + step] * 2
        assert rows[2] <= 16


def test_columns_by_rank():
    real = torch.tensor([[False, True, True, False, True], [True] * 5])
    assert columns_by_rank(real).tolist() == [[1, 2, 4, 5, 5], [0, 1, 2, 3, 4]]


def test_a_budget_holds_whole_pages():
    with pytest.raises(InvalidValue, match="at least 16 tokens"):
        Quest(budget=15)
    with pytest.raises(InvalidValue, match="at least 63 tokens"):
        Quest(budget="62:sink=4:recent=32:per=head")
    Quest(budget="63:sink=4:recent=32:per=head")


@pytest.mark.claim
@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_it_is_closer_to_dense_than_random_rows(smollm2, document):
    """At 100 rows in all layers, sinks and recent tokens included by both."""
    from tokenry.attend.random import RandomRows

    budget = Budget(tokens=100, sink=4, recent=32, per="head")
    passage = Passage(smollm2, document)
    assert passage.kl(Quest(budget=budget, dense_layers=0)) < passage.kl(RandomRows(budget=budget))
