"""Attention by softplus: its weights against the equations, one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention, softplus

from tokenry.attend.layers.headed import rotated
from tokenry.attend.layers.layer import memory_bytes
from tokenry.attend.softplus import Softplus
from tokenry.core.errors import InvalidValue

D = 8


def layer(width=16, **settings) -> Softplus:
    return Softplus(heads=2, **settings).build(width=width).eval()


def products(tokens=12, size=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return size * (2 * torch.rand(1, 2, tokens, tokens, generator=g) - 1)


def places(tokens):
    return torch.arange(tokens).unsqueeze(0)


def by_equations(s, power, offset, kernel=softplus, scale=None):
    """Row by row in double precision, as the paper writes it."""
    out = torch.zeros_like(s, dtype=torch.double)
    for i in range(s.shape[-2]):
        n = i + 1
        row = kernel((math.log(D) * math.log(n) if scale is None else scale) * s[..., i, :n].double())
        row = row / row.sum(-1, keepdim=True).clamp_min(1e-300)
        row = (row * n - (0 if i < 3 else offset)).clamp_min(0) ** power
        out[..., i, :n] = row / (row.sum(-1, keepdim=True) + 1e-300)
    return out


@pytest.mark.parametrize(("power", "offset"), [(1, 0), (1, 1), (3, 1), (15, 1), (15, 0.5)])
@pytest.mark.parametrize("kernel", ["softplus", "relu", "sigmoid", "exp"])
def test_weights_follow_the_equations(power, offset, kernel):
    found = layer(power=power, offset=offset, kernel=kernel).weights(products(), places(12))
    made = {"softplus": softplus, "relu": torch.relu, "sigmoid": torch.sigmoid, "exp": torch.exp}[kernel]
    wanted = by_equations(products(), power, offset, kernel=made)
    torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("power", [1, 3, 15, 200])
def test_rows_sum_to_one(power):
    sums = layer(power=power).weights(products(400), places(400)).sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_a_row_without_differences_reads_nothing():
    """All weights are the mean; in the first rows nothing is taken off it."""
    weights = layer().weights(torch.zeros(1, 1, 6, 6), places(6))
    assert weights.sum(-1)[0, 0].tolist() == pytest.approx([1, 1, 1, 0, 0, 0])
    assert bool(weights.isfinite().all())


def test_a_large_power_reads_the_nearest():
    s = products(64)
    weights = layer(power=1000).weights(s, places(64))
    best = s.masked_fill(torch.ones(64, 64, dtype=torch.bool).triu(1), -9).argmax(-1)
    assert torch.equal(weights.argmax(-1), best)
    assert float(weights.amax(-1)[..., 1:].median()) > 0.99


def test_lssa_is_power_one_without_offset():
    weights = layer(power=1, offset=0).weights(products(), places(12))
    torch.testing.assert_close(weights.double(), by_equations(products(), 1, 0), atol=1e-6, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rotary", [True, False])
def test_exp_by_the_root_of_the_width_is_softmax_attention(rotary):
    same = layer(kernel="exp", scale="root", unit=False, power=1, offset=0, rotary=rotary)
    x = torch.randn(2, 20, 16)
    q, k, v = same.split(x)
    if rotary:
        q, k = rotated(q, torch.arange(20)), rotated(k, torch.arange(20))
    wanted = same.joined(scaled_dot_product_attention(q, k, v, is_causal=True), x)
    torch.testing.assert_close(same(x), wanted, atol=1e-6, rtol=1e-5)


def test_masked_tokens_do_not_change_a_row():
    s = products(30)
    weights = layer().weights(s[..., :10, :], places(10))
    torch.testing.assert_close(weights[..., :10], layer().weights(s[..., :10, :10], places(10)))
    assert not bool(weights[..., 10:].any())


def test_the_count_is_of_own_tokens():
    """The scale and the mean follow the place of a token, not its column in the batch."""
    s = products(12)
    later = layer().weights(s[..., 5:6, :], torch.tensor([[5]]))
    torch.testing.assert_close(later, layer().weights(s, places(12))[..., 5:6, :])


@torch.no_grad()
def test_half_precision_neither_overflows_nor_dies():
    half = layer(power=15).to(torch.bfloat16)
    x = torch.randn(1, 300, 16, dtype=torch.bfloat16)
    out = half(x).float()
    assert bool(out.isfinite().all())
    assert float(out.norm(dim=-1).min()) > 0


def test_sharpened_for_reading_only():
    x = torch.randn(1, 40, 16)
    both, flat = layer(sharpen="reading"), layer(power=1, offset=0)
    flat.load_state_dict(both.state_dict())
    torch.testing.assert_close(both.train()(x), flat(x))
    assert not torch.allclose(both.eval()(x), flat(x), atol=1e-3)


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(InvalidValue, match="choose a multiple of 4"):
        layer(width=18)


@torch.no_grad()
def test_memory_is_of_real_tokens():
    one = layer()
    memory = one.begin(1)
    for part in torch.randn(1, 64, 16).split(8, 1):
        one.read(part, memory)
    assert memory.lengths.tolist() == [64]
    assert memory_bytes(memory) <= 2 * 64 * 16 * 4 * 1.4
