"""Projected quantizes a few numbers of each vector: principal ones first, learned ones later."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import mse_loss, normalize

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse
from tokenry.quantize.parts.metric import Cosine
from tokenry.quantize.projected import Projected
from tokenry.quantize.vq import VQ


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flat(count=300, width=10, channels=3):
    """Vectors in a plane of few directions."""
    return draw(count, channels) @ draw(channels, width, seed=1) + draw(width, seed=2)


def test_fit_begins_with_principal_directions():
    rows = draw(300, 10) * torch.arange(1, 11) + 5
    method = Projected(of=VQ(codes=300), channels=3).fit(rows)
    mean = rows.mean(0)
    _, _, right = torch.linalg.svd(rows - mean, full_matrices=False)
    expected = (rows - mean) @ right[:3].T @ right[:3] + mean
    # With a code for every vector nothing else is lost.
    torch.testing.assert_close(method.quantize(rows).values, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(method.down.weight @ method.up.weight, torch.eye(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("of", ["fsq[levels=9+9+9,grid=clamped_grid]",
                                "rvq[of=fsq[levels=9+9+9,grid=clamped_grid],levels=2,scaling=grid_steps]",
                                "pq[of=fsq[levels=9,grid=clamped_grid],blocks=3]"])  # fmt: skip
def test_a_grid_within_gets_numbers_that_suit_it(of):
    rows = 100 * flat()
    method = Projected(of=of, channels=3).fit(rows)
    torch.testing.assert_close(method.down(rows).std(0, correction=0), torch.full((3,), 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(method.down.weight @ method.up.weight, torch.eye(3), atol=1e-5, rtol=0)
    assert mse_loss(method.quantize(rows).values, rows) < 0.05 * rows.var()


def test_vectors_that_are_all_alike_come_back():
    same = torch.full((5, 6), 3.0)
    for of in ("fsq[levels=5+5]", "vq[codes=4]"):
        method = Projected(of=of, channels=2).fit(same)
        torch.testing.assert_close(method.quantize(same).values, same)


def test_what_is_not_in_the_plane_has_no_influence():
    rows = flat()
    method = Projected(of=VQ(codes=16), channels=3).fit(rows)
    _, _, right = torch.linalg.svd(method.down.weight.detach())
    away = 10 * draw(300, 7, seed=3) @ right[3:]
    assert (method.quantize(rows + away).codes == method.quantize(rows).codes).float().mean() > 0.99


def test_factorised_codes_have_length_one():
    method = Projected(of=VQ(codes=16, metric=Cosine()), channels=3).fit(flat())
    found = method.quantize(flat())
    inner = method.of.table[found.codes[:, 0]]
    torch.testing.assert_close(inner.norm(dim=1), torch.ones(300))
    assert torch.equal(method.up(inner), found.values)
    assert torch.equal((normalize(method.down(flat())) @ method.of.table.T).argmax(1), found.codes[:, 0])


def test_a_gradient_reaches_both_maps():
    method = Projected(of=VQ(codes=16), channels=3).build(width=6)
    z = draw(50, 6).requires_grad_()
    method.quantize(z).values.square().sum().backward()
    for given in (method.down.weight, method.down.bias, method.up.weight, method.up.bias, z):
        assert given.grad.any()
    slope = torch.autograd.functional.jacobian(lambda v: method.eval().quantize(v).values, draw(6))
    torch.testing.assert_close(slope, method.up.weight @ method.down.weight, atol=1e-5, rtol=0)


def test_training_beats_principal_directions_where_they_do_not_matter():
    """Only one small number matters to the task, which principal directions leave out."""
    rows = draw(2000, 6) * torch.tensor([4.0, 4, 4, 4, 4, 1])

    def error(method, head):
        return mse_loss(head(method.quantize(rows).values)[:, 0], rows[:, 5])

    method, head = Projected(of=VQ(codes=16), channels=2).fit(rows), torch.nn.Linear(6, 1)
    torch.nn.init.eye_(head.weight[:, 5:])
    torch.nn.init.zeros_(head.bias)
    before = error(method, head)
    method.train()
    optimiser = torch.optim.Adam([*method.parameters(), *head.parameters()], 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        error(method, head).backward()
        optimiser.step()
    assert error(method.eval(), head) < 0.3 * before


def test_half_precision_weights_are_used_in_whole():
    method = Projected(of=VQ(codes=16), channels=3).fit(flat())
    codes = method.quantize(flat().bfloat16()).codes
    assert (method.bfloat16().quantize(flat().bfloat16()).codes == codes).float().mean() > 0.9


def test_bad_fields_are_refused():
    with pytest.raises(InvalidValue, match="projected: channels must be at most the width of vectors, 4; got 8"):
        Projected().build(width=4)
    with pytest.raises(InvalidValue, match="projected: a map must have at most"):
        Projected(channels=1 << 20).build(width=1 << 20)
    with pytest.raises(InvalidValue, match="Projected: channels must be at least 1"):
        parse("projected:channels=0")
    with pytest.raises(InvalidValue, match="Projected: of must be one of"):
        parse("projected:of=cosine")
