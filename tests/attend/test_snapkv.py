"""SnapKV's choice is that of its authors: the window's votes for what stands before it, pooled; the window stays."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool1d

from tests.attend.feeding import CACHE, feed, same, tokens
from tokenry.attend.rows.pool import pooled
from tokenry.attend.snapkv import SnapKV
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.files.tiny import tiny

N, WINDOW = 30, 4
IDS = tokens(1, N)


def authors_votes(attention, window, kernel):
    """`update_kv` of the published code: the window's own columns are cut off, then what is left is pooled."""
    votes = attention[:, :, -window:, :-window].sum(-2)
    return max_pool1d(votes, kernel, stride=1, padding=kernel // 2), votes


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_score_is_that_of_the_authors(kernel, dtype):
    model = tiny("llama").to(dtype)
    method = SnapKV(budget=10, window=WINDOW, kernel=kernel)
    found = {}

    def attend(site):
        state = method.State()
        method.observe(site, state)
        found[site.layer] = method.score(site, state), site.probs()
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        model(input_ids=IDS, use_cache=True)
    for scores, attention in found.values():
        expected, own = authors_votes(attention.view(1, 2, 2, N, N).sum(2), WINDOW, kernel)
        torch.testing.assert_close(scores[..., :-WINDOW], expected + 1e-4 * own)
        assert torch.isinf(scores[..., -WINDOW:]).all()
    assert len(found) == 3


def test_what_the_window_gives_itself_counts_for_nobody():
    """A window that looks at itself alone leaves its neighbours as they are."""
    votes = torch.zeros(1, 1, 10)
    votes[..., 6:] = 1.0
    before = torch.arange(10).lt(6).view(1, 1, 10)
    assert not pooled(votes * before, 5, before).any()


def test_a_pool_is_over_tokens_and_not_over_what_stands_between_them():
    votes = torch.rand(2, 3, 9)
    among = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 1, 0], [1] * 9], dtype=torch.bool).unsqueeze(1)
    found = pooled(votes, 3, among)
    torch.testing.assert_close(found[1:], pooled(votes[1:], 3))
    torch.testing.assert_close(found[:1][..., among[0, 0]], pooled(votes[:1][..., among[0, 0]], 3))
    assert not found[:1][..., ~among[0, 0]].any()


def test_what_stays_is_the_budget_and_the_window():
    model = tiny("llama")
    with torch.no_grad(), SnapKV(budget=10, window=WINDOW, kernel=3)(model, prompt_tokens=N):
        cache = model(input_ids=IDS, use_cache=True)[CACHE]
    for layer in cache.layers:
        assert layer.columns.shape == (1, 2, 10)
        assert layer.columns[..., -WINDOW:].tolist() == [[[26, 27, 28, 29]] * 2]
        assert layer.seen == N


def test_the_window_is_of_real_tokens():
    """Padding behind a prompt takes nobody's place among the last queries, nor among the neighbours."""
    model, method = tiny("llama"), SnapKV(budget=10, window=WINDOW, kernel=3)
    ids = tokens(1, N + 6)
    gaps = torch.cat((ids[:, :12], ids.new_zeros(1, 3), ids[:, 12:N], ids.new_zeros(1, 5), ids[:, N:]), 1)
    mask = torch.cat([torch.full((1, n), m) for n, m in ((12, 1), (3, 0), (N - 12, 1), (5, 0), (6, 1))], 1)
    same(feed(model, method, gaps, N + 8, mask=mask).logits[:, 1:], feed(model, method, ids, N).logits[:, 1:])
