"""NAtS-L: its pure branches, what chunks may change, and what their gates learn."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tokenry.attend.layers.layer import memory_bytes
from tokenry.attend.layers.routed import chosen, linear_branch, softmax_branch
from tokenry.attend.nats_linear import NatsLinear
from tokenry.core.errors import InvalidValue

C = 8


def layer(width=16, **settings) -> NatsLinear:
    return NatsLinear(**{"heads": 2, "each": 2, "chunk": C, **settings}).build(width=width).eval()


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def linear_inputs(tokens=20):
    q, k = (torch.nn.functional.normalize(drawn(2, 2, tokens, 6, seed=s), dim=-1) for s in (1, 2))
    return q, k, drawn(2, 2, tokens, 4, seed=3), drawn(2, 2, tokens, seed=4).sigmoid(), -drawn(2, 2, tokens).exp() * 0.1


def test_all_chunks_kept_are_softmax_attention():
    q, k, v = drawn(2, 4, 21, 6, seed=1), drawn(2, 4, 21, 6, seed=2), drawn(2, 4, 21, 5, seed=3)
    found = softmax_branch(q, k, v, torch.ones(2, 4, 2, dtype=torch.double), C)
    torch.testing.assert_close(found, scaled_dot_product_attention(q, k, v, is_causal=True))


def test_all_chunks_learned_are_the_recurrence():
    q, k, v, b, g = linear_inputs()
    found, last = linear_branch(q, k, k, v, b, g, None, C)
    s = torch.zeros(2, 2, 4, 6, dtype=torch.double)
    for t in range(20):
        kt, vt, bt = k[:, :, t].unsqueeze(-1), v[:, :, t].unsqueeze(-1), b[:, :, t, None, None]
        s = g[:, :, t, None, None].exp() * s @ (torch.eye(6, dtype=torch.double) - bt * kt @ kt.mT) + bt * vt @ kt.mT
        torch.testing.assert_close(found[:, :, t], (s @ q[:, :, t].unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(last, s)


def test_through_a_kept_chunk_the_state_only_fades():
    q, k, v, b, g = linear_inputs(24)
    gates = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(C).view(1, 1, -1, 1).double()
    written = k * gates
    _, first = linear_branch(*(t[:, :, :C] for t in (q, k, written, v, b, g)), None, C)
    _, second = linear_branch(*(t[:, :, : 2 * C] for t in (q, k, written, v, b, g)), None, C)
    torch.testing.assert_close(second, first * g[:, :, C : 2 * C].sum(-1).exp()[..., None, None])


def test_the_gate_of_softmax_learns_the_sum_of_derivatives_by_its_products():
    """exp(l) t at t = 1 has the derivative of l + log t: the sum over later queries and the chunk's keys."""
    q, k, v = drawn(1, 1, 20, 6, seed=1), drawn(1, 1, 20, 6, seed=2), drawn(1, 1, 20, 5, seed=3)
    gates = torch.ones(1, 1, 2, dtype=torch.double, requires_grad=True)
    softmax_branch(q, k, v, gates, C).square().sum().backward()
    scores = ((q @ k.mT) * 6**-0.5).requires_grad_()
    seen = torch.ones(20, 20, dtype=torch.bool).tril()
    (scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v).square().sum().backward()
    for c in range(2):
        wanted = scores.grad[0, 0, (c + 1) * C :, c * C : (c + 1) * C].sum()
        torch.testing.assert_close(gates.grad[0, 0, c], wanted)


def test_the_gate_of_the_delta_rule_learns_k_times_the_derivative_by_k():
    q, k, v, b, g = linear_inputs()
    gates = torch.ones(2, 2, 20, 1, dtype=torch.double, requires_grad=True)
    linear_branch(q, k, k * gates, v, b, g, None, C)[0].square().sum().backward()
    written = k.clone().requires_grad_()
    linear_branch(q, k, written, v, b, g, None, C)[0].square().sum().backward()
    torch.testing.assert_close(gates.grad.squeeze(-1), (k * written.grad).sum(-1))
    assert not bool(gates.grad[:, :, 2 * C :].any())


@pytest.mark.parametrize("both", [False, True])
def test_gates_that_are_zero_learn_only_where_wanted(both):
    scores = drawn(50, 2).requires_grad_()
    gates = chosen(scores, drawn=False, both=both)
    assert gates.detach().sum(-1).tolist() == pytest.approx([1.0] * 50)
    weight = drawn(50, 2, seed=5) * (gates.detach() == 0)
    (gates * weight).sum().backward()
    assert bool(scores.grad.any()) == both


def test_drawn_choices_follow_the_scores():
    scores = torch.log(torch.tensor([0.2, 0.8])).expand(4000, 2)
    share = chosen(scores, drawn=True, both=False)[:, 1].mean()
    assert float(share) == pytest.approx(0.8, abs=0.03)


@torch.no_grad()
@pytest.mark.parametrize("route", ["learned", "softmax", "linear"])
@pytest.mark.parametrize("size", [1, 3, C, 3 * C])
def test_by_chunks_and_tokens_equals_whole(route, size):
    one, x = layer(route=route).double(), drawn(2, 61, 16)
    memory = one.begin(2)
    found = torch.cat([one.read(part, memory) for part in x.split(size, 1)], 1)
    torch.testing.assert_close(found, one(x), atol=1e-8, rtol=1e-6)


@torch.no_grad()
def test_a_choice_changes_nothing_in_its_own_chunk():
    one, x = layer(), drawn(1, 4 * C, 16).float()
    before = one(x)
    for route in ("softmax", "linear"):
        other = layer(route=route)
        other.load_state_dict(one.state_dict(), strict=False)
        assert torch.allclose(other(x)[:, :C], before[:, :C], atol=1e-6)
    changed = x.clone()
    changed[:, 3 * C - 1] += 9.0
    assert torch.allclose(one(changed)[:, : 3 * C - 1], before[:, : 3 * C - 1], atol=1e-6)


@torch.no_grad()
def test_memory_is_of_kept_chunks_only():
    x = drawn(1, 40 * C, 16).float()
    sizes = {}
    for route in ("softmax", "linear", "learned"):
        one = layer(route=route)
        memory = one.begin(1)
        for part in x.split(C, 1):
            one.read(part, memory)
        one(x)
        sizes[route] = memory.kept.lengths.tolist()
        assert float(one.share) == pytest.approx(sum(sizes[route]) / (2 * 40 * C))
    assert sizes["softmax"] == [40 * C] * 2
    assert sizes["linear"] == [0, 0]
    assert memory_bytes(memory.own) <= 2 * C * (12 + 24) * 4 * 2


def test_a_price_moves_chunks_away_from_softmax():
    one, x = layer().train(), drawn(4, 12 * C, 16).float()
    optimizer = torch.optim.Adam(one.router.parameters(), lr=0.05)
    shares = []
    for _ in range(30):
        optimizer.zero_grad()
        one(x)
        one.share.backward()
        optimizer.step()
        shares.append(float(one.share.detach()))
    assert shares[-1] < shares[0]
    assert shares[-1] < 0.1


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(InvalidValue, match="three quarters of the width must be a multiple of 4 heads"):
        layer(width=20)
