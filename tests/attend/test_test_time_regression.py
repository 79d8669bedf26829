"""Regressors that learn while they read, against closed forms and against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize, scaled_dot_product_attention

from tokenry.attend.parts.network import TttMlp
from tokenry.attend.parts.regressor import (
    DeltaRule,
    Examples,
    GatedDelta,
    GatedLinear,
    LinearAttention,
    LocalConstant,
    LocalLinear,
    Longhorn,
    RecursiveLeastSquares,
)  # fmt: skip
from tokenry.attend.test_time_regression import TestTimeRegression

REGRESSORS = [
    "linear_attention", "gated_linear", "delta_rule", "gated_delta", "longhorn", "recursive_least_squares",
    "recursive_least_squares[forgets=true]", "recursive_least_squares[forgets=true,fades=true]", "local_constant",
    "local_constant[kernel=distance]", "local_linear", "local_linear[kernel=distance]", "ttt_mlp",
    "ttt_mlp[chunk=5,momentum=0.5,decay=0.1]",
]  # fmt: skip


def examples(tokens=20, d=8, dv=6, seed=0, unit=True) -> Examples:
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(2, 2, *shape, generator=g, dtype=torch.double)

    k = drawn(tokens, d)
    return Examples(
        drawn(tokens, d), normalize(k, dim=-1) if unit else k, drawn(tokens, dv), drawn(tokens).sigmoid(),
        -drawn(tokens).exp() * 0.1, torch.tensor([0.7, 1.3], dtype=torch.double),
    )  # fmt: skip


def one_by_one(regressor, e):
    memory, real = regressor.begin(2), torch.ones(2, 1, dtype=torch.bool)
    parts = []
    for t in range(e.k.shape[2]):
        now = replace(e, **{n: getattr(e, n)[:, :, t : t + 1] for n in ("q", "k", "v", "rate", "decay")})
        parts.append(regressor.append(now, memory, real))
    return torch.cat(parts, 2)


def as_recursion(e, update):
    """M q after each example, by an update written as the table of the paper has it."""
    m, outs = torch.zeros(2, 2, e.v.shape[-1], e.k.shape[-1], dtype=torch.double), []
    for t in range(e.k.shape[2]):
        k, v = e.k[:, :, t].unsqueeze(-1), e.v[:, :, t].unsqueeze(-1)
        m = update(m, k, v, e.rate[:, :, t, None, None], e.decay[:, :, t, None, None].exp())
        outs.append((m @ e.q[:, :, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(outs, 2)


TABLE = {
    LinearAttention: lambda m, k, v, b, g: m + v @ k.mT,
    GatedLinear: lambda m, k, v, b, g: g * m + v @ k.mT,
    DeltaRule: lambda m, k, v, b, g: m + b * (v - m @ k) @ k.mT,
    GatedDelta: lambda m, k, v, b, g: g * m @ (torch.eye(8, dtype=torch.double) - b * k @ k.mT) + b * v @ k.mT,
    Longhorn: lambda m, k, v, b, g: m + b / (1 + b * (k.mT @ k)) * (v - m @ k) @ k.mT,
}


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("tokens", [20, 150])
def test_linear_ones_follow_the_table(kind, tokens):
    e = examples(tokens, unit=kind is not Longhorn)
    wanted = as_recursion(e, TABLE[kind])
    torch.testing.assert_close(kind().whole(e), wanted)
    torch.testing.assert_close(one_by_one(kind(), e), wanted)


@torch.no_grad()
@pytest.mark.parametrize("given", REGRESSORS)
@pytest.mark.parametrize("size", [1, 5, 13])
def test_recurrent_equals_chunked_equals_whole(given, size):
    layer = TestTimeRegression(heads=2, regressor=given).build(width=16).double().eval()
    x = torch.randn(2, 37, 16, dtype=torch.double)
    memory = layer.begin(2)
    found = torch.cat([layer.read(part, memory) for part in x.split(size, 1)], 1)
    torch.testing.assert_close(found, layer(x), atol=1e-7, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("given", REGRESSORS)
def test_padding_is_no_example(given):
    layer = TestTimeRegression(heads=2, regressor=given).build(width=16).eval()
    x, real = torch.randn(2, 30, 16), torch.ones(2, 30, dtype=torch.bool)
    real[1, :7] = real[1, 15] = False
    for size in (1, 8):
        memory = layer.begin(2)
        parts = [layer.read(p, memory, r) for p, r in zip(x.split(size, 1), real.split(size, 1), strict=True)]
        alone = layer(x[1:, real[1]])[0]
        torch.testing.assert_close(torch.cat(parts, 1)[1, real[1]], alone, atol=2e-4, rtol=1e-3)


def least_squares(e, penalty, t, fades=False):
    """The batch closed form over the examples up to t."""
    g = (e.decay[:, :, : t + 1].flip(-1).cumsum(-1).flip(-1) - e.decay[:, :, : t + 1]).exp().unsqueeze(-1)
    k, v = e.k[:, :, : t + 1], e.v[:, :, : t + 1]
    if fades:
        penalty = penalty * e.decay[:, :, : t + 1].sum(-1).exp()[..., None, None]
    m = (g * v).mT @ k @ torch.linalg.inv((g * k).mT @ k + penalty * torch.eye(k.shape[-1], dtype=torch.double))
    return (m @ e.q[:, :, t].unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("fades", [False, True])
def test_least_squares_is_the_closed_form(fades):
    e = examples()
    found = RecursiveLeastSquares(penalty=0.1, forgets=True, fades=fades).whole(e)
    for t in range(20):
        torch.testing.assert_close(found[:, :, t], least_squares(e, 0.1, t, fades))


@pytest.mark.parametrize("forgets", [False, True])
def test_least_squares_is_the_recursion_of_sherman_and_morrison(forgets):
    e = examples()
    found = RecursiveLeastSquares(penalty=0.1, forgets=forgets, fades=forgets).whole(e)
    inverse = torch.eye(8, dtype=torch.double).expand(2, 2, -1, -1) / 0.1
    m = torch.zeros(2, 2, 6, 8, dtype=torch.double)
    for t in range(20):
        k, v, q = (p[:, :, t].unsqueeze(-1) for p in (e.k, e.v, e.q))
        inverse = inverse / e.decay[:, :, t, None, None].exp() if forgets else inverse
        gain = inverse @ k / (1 + k.mT @ inverse @ k)
        inverse = inverse - gain @ (k.mT @ inverse)
        m = m + (v - m @ k) @ gain.mT
        torch.testing.assert_close(found[:, :, t], (m @ q).squeeze(-1))


def test_with_orthonormal_keys_the_delta_rule_is_least_squares():
    e = examples(8)
    k = torch.linalg.qr(torch.randn(2, 2, 8, 8, dtype=torch.double)).Q
    e = replace(e, k=k, rate=torch.ones_like(e.rate))
    torch.testing.assert_close(DeltaRule().whole(e), RecursiveLeastSquares(penalty=1e-8).whole(e), atol=1e-6, rtol=1e-6)


def test_linear_attention_is_one_step_of_gradient_descent_from_zero():
    e = examples()
    m = torch.zeros(2, 2, 6, 8, dtype=torch.double, requires_grad=True)
    (0.5 * (e.v - e.k @ m.mT).square().sum()).backward()
    torch.testing.assert_close(LinearAttention().whole(e)[:, :, -1], (e.q[:, :, -1:] @ -m.grad.mT).squeeze(2))


def test_local_constant_is_softmax_attention():
    e = replace(examples(dv=8), temperature=torch.full((2,), 8**0.5, dtype=torch.double))
    torch.testing.assert_close(LocalConstant().whole(e), scaled_dot_product_attention(e.q, e.k, e.v, is_causal=True))


def test_with_keys_of_one_length_products_are_distances():
    e = examples()
    products, distances = (LocalConstant(kernel=kernel).whole(e) for kernel in ("product", "distance"))
    torch.testing.assert_close(products, distances)
    e = examples(unit=False)
    products, distances = (LocalConstant(kernel=kernel).whole(e) for kernel in ("product", "distance"))
    assert not torch.allclose(products, distances, atol=1e-2)


def test_local_linear_meets_affine_data_and_local_constant_does_not():
    e = examples(40, unit=False)
    a, b = torch.randn(6, 8, dtype=torch.double), torch.randn(6, dtype=torch.double)
    e = replace(e, v=e.k @ a.T + b)
    wanted = (e.q @ a.T + b)[:, :, 20:]
    torch.testing.assert_close(LocalLinear(penalty=1e-8).whole(e)[:, :, 20:], wanted, atol=1e-3, rtol=1e-3)
    assert float((LocalConstant().whole(e)[:, :, 20:] - wanted).abs().mean()) > 0.1


def test_local_linear_with_a_large_penalty_is_local_constant():
    e = examples()
    torch.testing.assert_close(LocalLinear(penalty=1e12).whole(e), LocalConstant().whole(e))


def test_local_linear_is_the_minimum():
    e = examples(30)
    found, t = LocalLinear(penalty=0.3).whole(e)[0, 0, -1], 29
    q, k, v = e.q[0, 0, t], e.k[0, 0], e.v[0, 0]
    w = (k @ q / e.temperature[0]).softmax(0).unsqueeze(-1)
    x = torch.cat((torch.ones(30, 1, dtype=torch.double), k - q), 1)
    ridge = 0.3 * torch.diag(torch.tensor([0.0] + [1.0] * 8, dtype=torch.double))
    torch.testing.assert_close(found, torch.linalg.solve((w * x).T @ x + ridge, (w * x).T @ v)[0])


def test_a_network_learns_by_the_gradient_at_its_chunk():
    """Momentum, decay and chunks against autograd, example by example."""
    part = TttMlp(chunk=4, momentum=0.6, decay=0.05, speed=0.3).build(heads=2, width=8).double()
    e = examples(11, dv=8)
    found = part.whole(e)
    for b, h in ((0, 0), (1, 1)):
        w = [p[h].detach().double().clone() for p in (part.first, part.second)]
        s, at = [torch.zeros_like(p) for p in w], w
        for t in range(11):
            at = [p.clone() for p in w] if t % 4 == 0 else at
            leaves = [p.clone().requires_grad_() for p in at]
            said = leaves[1] @ torch.nn.functional.silu(leaves[0] @ e.k[b, h, t])
            (0.5 * (e.v[b, h, t] - said).square().sum()).backward()
            s = [0.6 * one - 0.3 * e.rate[b, h, t] * p.grad for one, p in zip(s, leaves, strict=True)]
            w = [0.95 * p + one for p, one in zip(w, s, strict=True)]
            wanted = w[1] @ torch.nn.functional.silu(w[0] @ e.q[b, h, t])
            torch.testing.assert_close(found[b, h, t].detach(), wanted, atol=1e-5, rtol=1e-4)


def recall_error(regressor, pairs, d=32, seed=0):
    """How far the value of a key is from what is said to it, when it comes again; random keys of unit length."""
    g = torch.Generator().manual_seed(seed)
    k = normalize(torch.randn(16, 1, pairs, d, generator=g, dtype=torch.double), dim=-1)
    v = torch.randn(16, 1, pairs, d, generator=g, dtype=torch.double)
    ones = torch.ones(16, 1, pairs, dtype=torch.double)
    warm = torch.full((1,), 0.02, dtype=torch.double)
    e = Examples(k, k, v, ones, 0 * ones, warm)
    memory, real = regressor.begin(16), torch.ones(16, pairs, dtype=torch.bool)
    regressor.append(e, memory, real)
    nothing = Examples(k, 0 * k, 0 * v, 0 * ones, 0 * ones, warm)
    if isinstance(regressor, LocalConstant):
        said = ((k @ k.mT) / 0.02).softmax(-1) @ v
    else:
        said = regressor.append(nothing, memory, real)
    return float((said - v).square().sum() / v.square().sum()) ** 0.5


def test_recall_without_training():
    """Least squares is right up to D pairs; linear attention is off by the root of (n - 1) / D."""
    exact, linear, delta = RecursiveLeastSquares(penalty=1e-8), LinearAttention(), DeltaRule()
    assert recall_error(exact, 24) < 1e-3
    assert recall_error(exact, 64) > 0.3
    for n in (9, 17, 33):
        assert recall_error(linear, n) == pytest.approx(((n - 1) / 32) ** 0.5, rel=0.15)
        assert recall_error(exact, n) <= recall_error(delta, n) < recall_error(linear, n)
    assert recall_error(LocalConstant(), 64) < 0.01
