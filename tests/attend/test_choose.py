"""The even and the uneven way of choosing rows agree, and budgets are exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry.attend.rows.choose import choose, highest
from tokenry.core.budget import Budget

budgets = st.builds(
    lambda sink, recent, extra, per: Budget(tokens=max(1, sink + recent + extra), sink=sink, recent=recent, per=per),
    st.integers(0, 4), st.integers(0, 5), st.integers(0, 30), st.sampled_from(["layer", "head"]),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(budgets, st.integers(1, 40), st.integers(0, 2**31), st.sampled_from([1, 4, 1000]))
def test_no_padding_is_all_real(budget, k, seed, levels):
    """Also where scores are equal, as votes that are all 0."""
    scores = torch.rand(2, 3, k, generator=torch.Generator().manual_seed(seed)).mul(levels).floor()
    even = choose(budget, scores, None, k)
    uneven = choose(budget, scores, torch.ones(2, 3, k, dtype=torch.bool), k)
    assert torch.equal(even, uneven)
    assert even.shape == (2, 1 if budget.per == "layer" else 3, budget.count(k))
    assert (even.diff(dim=-1) > 0).all()


@settings(max_examples=100, deadline=None)
@given(budgets, st.integers(2, 40), st.integers(0, 2**31), st.sampled_from([1, 4, 1000]))
def test_padding_neither_counts_nor_stays(budget, k, seed, levels):
    g = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, 3, k, generator=g).mul(levels).floor()
    pads = int(torch.randint(0, k, (1,), generator=g))
    real = torch.ones(2, 1, k, dtype=torch.bool)
    real[1, :, :pads] = False
    index = choose(budget, scores, real, torch.tensor([k, k - pads]).view(2, 1, 1))
    alone = choose(budget, scores[1:, :, pads:], None, k - pads)
    kept = [row[row >= 0].tolist() for row in index[1]]
    assert kept == [(row + pads).tolist() for row in alone[0]]


def test_a_share_is_of_what_was_seen():
    scores = torch.arange(10.0).view(1, 1, 10)
    index = choose(Budget(share=0.5, per="head"), scores, None, 16)
    assert index[0, 0].tolist() == list(range(2, 10))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_of_equal_scores_the_older_are_highest_whatever_stands_beside_them(dtype):
    scores = torch.tensor([[1.0, 3, 2, 3, 1, 2, 2, 3, 0, 2]], dtype=dtype).repeat(3, 1)
    padded = torch.nn.functional.pad(scores, (7, 5), value=float("-inf"))
    for count in range(1, 11):
        expected = scores.argsort(dim=-1, descending=True, stable=True)[:, :count]
        assert torch.equal(highest(scores, count), expected)
        assert torch.equal(highest(padded, count) - 7, expected)
