"""SnapKV's score is the attention of the last queries, pooled; its window always stays."""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool1d

from tokenry.attend.snapkv import SnapKV
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of
from tokenry.models.files.tiny import tiny


def test_the_score_is_the_equation():
    model = tiny("llama")
    ids = torch.randint(3, 128, (1, 30), generator=torch.Generator().manual_seed(0))
    method = SnapKV(budget=10, window=4, kernel=3)
    found = {}

    def attend(site):
        state = method.State()
        method.observe(site, state)
        scores = method.score(site, state)
        probs = site.probs()[:, :, -4:].sum(2).view(1, 2, 2, 30).sum(2)
        expected = max_pool1d(probs, 3, stride=1, padding=1) + 1e-4 * probs
        torch.testing.assert_close(scores[..., :26], expected[..., :26])
        assert torch.isinf(scores[..., 26:]).all()
        found[site.layer] = True
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        model(input_ids=ids, use_cache=True)
    assert len(found) == 3


def test_what_stays_is_the_budget_and_the_window():
    model = tiny("llama")
    ids = torch.randint(3, 128, (1, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), SnapKV(budget=10, window=4, kernel=3)(model, prompt_tokens=30):
        cache = cache_of(model(input_ids=ids, use_cache=True))
    for layer in cache.layers:
        assert layer.columns.shape == (1, 2, 10)
        assert layer.columns[..., -4:].tolist() == [[[26, 27, 28, 29]] * 2]
        assert layer.seen == 30
