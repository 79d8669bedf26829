"""RVQ adds up levels: prefixes are coarser vectors, the gradient passes once, and the beam counts exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import mse_loss, normalize, pad

from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import load, parse
from tokenry.quantize.fsq import FSQ
from tokenry.quantize.parts.gradient import RotationTrick
from tokenry.quantize.parts.update import ByLoss
from tokenry.quantize.projected import Projected
from tokenry.quantize.rvq import RVQ
from tokenry.quantize.search.beam import ROWS, beam_search
from tokenry.quantize.vq import VQ


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(**fields):
    return RVQ(**{"of": VQ(codes=16), "levels": 3, **fields})


def tables(method):
    return [level.table for level in method.stack]


def test_one_level_is_the_quantizer_itself():
    rows, z = draw(300, 6), draw(2, 20, 6, seed=1)
    one, other = RVQ(of=VQ(codes=16), levels=1).fit(rows), VQ(codes=16).fit(rows)
    assert torch.equal(one.stack[0].table, other.table)
    for training in (False, True):
        grads = []
        for method in (one.train(training), other.train(training)):
            given = z.clone().requires_grad_()
            found = method.quantize(given)
            (found.values.square().sum() + found.loss).backward()
            grads.append((found.codes, found.values, found.loss, given.grad))
        for mine, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_levels_add_up_to_the_values():
    method = small().fit(draw(300, 6))
    found = method.quantize(draw(50, 6, seed=1))
    parts = [table[found.codes[:, m]] for m, table in enumerate(tables(method))]
    assert torch.equal(sum(parts), found.values)
    left = draw(50, 6, seed=1)
    for m, table in enumerate(tables(method)):
        assert torch.equal(torch.cdist(left, table).argmin(1), found.codes[:, m])
        left = left - parts[m]


def test_the_error_never_grows_where_tables_hold_zero():
    rows = draw(300, 6)
    method = small(levels=5).fit(rows)
    for level in method.stack:
        level.book.table[0] = 0
    codes = method.quantize(rows).codes
    errors = [(rows - method.dequantize(prefix(codes, n))).square().sum(1) for n in range(6)]
    for before, after in pairwise(errors):
        assert (after <= before + 1e-5).all()
    # Without zero it holds for the mean over the vectors it was fitted to.
    method = small(levels=5).fit(rows)
    codes = method.quantize(rows).codes
    means = [mse_loss(method.dequantize(prefix(codes, n)), rows) for n in range(6)]
    assert all(after < before for before, after in pairwise(means))


def prefix(codes, count):
    return pad(codes[..., :count], (0, codes.shape[-1] - count), value=-1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_prefix_is_what_the_first_levels_alone_give(count):
    rows = draw(300, 6)
    method, fewer = small().fit(rows), small(levels=count).fit(rows)
    codes = method.quantize(rows).codes
    found = fewer.quantize(rows)
    assert torch.equal(found.codes, codes[:, :count])
    assert torch.equal(method.dequantize(prefix(codes, count)), found.values)
    assert not method.dequantize(prefix(codes, 0)).any()


FACTORISED = "rvq:of=projected[of=vq[codes=16,metric=cosine],channels=4],levels=3"


def test_factorised_levels_have_maps_and_codes_of_their_own():
    method, z = parse(FACTORISED).fit(draw(300, 12), iterations=5), draw(50, 12, seed=1)
    found, left = method.quantize(z), z
    for m, level in enumerate(method.stack):
        inner = level.of.table[found.codes[:, m]]
        torch.testing.assert_close(inner.norm(dim=1), torch.ones(50))
        assert torch.equal((normalize(level.down(left)) @ level.of.table.T).argmax(1), found.codes[:, m])
        left = left - level.up(inner)
        torch.testing.assert_close(method.dequantize(prefix(found.codes, m + 1)), z - left)
    weights = [level.down.weight for level in method.stack]
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("line", [FACTORISED, "rvq:of=pq[of=vq[codes=8],blocks=2],levels=3",
                                  "rvq:of=fsq[levels=3+3,grid=clamped_grid],levels=3"])  # fmt: skip
def test_a_prefix_of_any_quantizer_adds_up_its_levels(line):
    method = parse(line).fit(draw(300, 12), iterations=5)
    codes, each = method.quantize(draw(50, 12, seed=1)).codes, len(method.codebook_sizes) // 3
    parts = [level.dequantize(some) for level, some in zip(method.stack, codes.chunk(3, 1), strict=True)]
    for count in range(4):
        expected = sum(parts[:count], torch.zeros(50, 12))
        torch.testing.assert_close(method.dequantize(prefix(codes, count * each)), expected)


def test_levels_with_one_table_draw_on_their_own():
    """As in RQ-VAE: one table for all levels, whose codes are drawn in training."""
    method = parse("rvq:of=vq[codes=16,choice=stochastic[temperature=1]],levels=3,shared=true").build(width=4)
    z = draw(300, 4)
    method.quantize(z)
    table = method.stack[0].table.clone()
    steps = int(method.stack[0].steps)
    found = method.eval().quantize(z)
    left = z
    for m in range(3):
        assert torch.equal(torch.cdist(left, table).argmin(1), found.codes[:, m])
        left = left - table[found.codes[:, m]]
    made = method.train().quantize(z)
    assert int(method.stack[0].steps) == steps + 3
    assert (made.codes != found.codes).float().mean() > 0.2


def test_beam_one_is_greedy():
    rows, z = draw(500, 8), draw(2000, 8, seed=1)
    method = RVQ(of=VQ(codes=32), levels=6).fit(rows)
    assert torch.equal(beam_search(z, tables(method), 1), method.quantize(z).codes)


def test_a_beam_that_follows_everything_finds_the_best_sum():
    rows, z = draw(200, 4), draw(100, 4, seed=1) + 30
    method = RVQ(of=VQ(codes=8), levels=2, beam=64).fit(rows + 30)
    first, second = tables(method)
    sums = (first.unsqueeze(1) + second).view(64, 4)
    best = torch.cdist(z.double(), sums.double()).argmin(1)
    found = method.quantize(z)
    assert torch.equal(found.codes, torch.stack((best // 8, best % 8), 1))
    assert torch.equal(method.dequantize(found.codes), found.values)
    # Nothing is nearer to a sum than the sum itself.
    assert torch.equal(method.quantize(found.values).codes, found.codes)


def test_a_beam_does_not_depend_on_how_many_vectors_there_are():
    method = small().fit(draw(300, 6))
    rows = draw(2 * ROWS + 3, 6, seed=1)
    whole = beam_search(rows, tables(method), 4)
    assert torch.equal(whole, torch.cat([beam_search(some, tables(method), 4) for some in rows.split(500)]))
    assert beam_search(rows[:0], tables(method), 4).shape == (0, 3)


def test_the_beam_keeps_the_nearest_partial_sums():
    rows = draw(300, 6)
    method = small(levels=3).fit(rows)
    found = beam_search(rows, tables(method), 4)
    for at, row in enumerate(rows[:20]):
        sums = {(): torch.zeros(6)}
        for table in tables(method):
            longer = {(*codes, c): total + v for codes, total in sums.items() for c, v in enumerate(table)}
            sums = dict(sorted(longer.items(), key=lambda item: float((row - item[1]).square().sum()))[:4])
        assert tuple(found[at].tolist()) == next(iter(sums))


def test_wider_beams_lose_less():
    rows = draw(2000, 8)
    method = RVQ(of=VQ(codes=16), levels=4).fit(rows)
    errors = [mse_loss(method.look_up(beam_search(rows, tables(method), width)), rows) for width in (1, 4, 16)]
    assert errors[0] > 1.02 * errors[1] > 1.02 * errors[2]


@pytest.mark.parametrize("line", ["vq[codes=16]", "fsq[levels=5+5+5+5]", "projected[of=vq[codes=16],channels=2]"])
def test_the_gradient_passes_once(line):
    method = RVQ(of=line, levels=3).fit(draw(200, 4))
    z = draw(4, seed=1)
    for training in (False, True):
        method.train(training)
        slope = torch.autograd.functional.jacobian(lambda v: method.quantize(v).values, z)
        assert torch.equal(slope, torch.eye(4))


def test_the_rotation_trick_turns_from_the_vector_to_the_sum():
    method = small(gradient=RotationTrick()).fit(draw(200, 4))
    z = draw(30, 4, seed=1).requires_grad_()
    found = method.quantize(z)
    expected = RotationTrick().through(z, found.values.detach())
    (grad,) = torch.autograd.grad(found.values.square().sum(), z, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected.square().sum(), z)
    torch.testing.assert_close(grad, wanted)


def test_losses_are_those_of_every_residual():
    z = draw(100, 6).requires_grad_()
    for update in (ByLoss(), VQ().update):
        method = small(of=VQ(codes=16, update=update)).fit(draw(300, 6, seed=1)).train()
        old = [table.detach().clone() for table in tables(method)]
        found = method.quantize(z)
        left, commitment = z.detach(), 0
        grad = torch.zeros_like(z)
        for m, table in enumerate(old):
            left = left - table[found.codes[:, m]]
            commitment += 0.25 * left.square().mean()
            grad += 0.5 * left / left.numel()
        torch.testing.assert_close(found.losses["commitment"], commitment)
        assert ("codebook" in found.losses) == isinstance(update, ByLoss)
        (slope,) = torch.autograd.grad(found.loss, z)
        torch.testing.assert_close(slope, grad)


def test_maps_and_tables_of_every_level_learn():
    of = Projected(of=VQ(codes=16, update=ByLoss()), channels=2)
    method = RVQ(of=of, levels=3).fit(draw(200, 6)).train()
    found = method.quantize(draw(50, 6, seed=1))
    found.values.square().sum().backward(retain_graph=True)
    for level in method.stack:
        assert level.up.weight.grad.any()
        assert level.down.weight.grad.any()
        assert level.of.book.table.grad is None
    found.loss.backward()
    assert all(level.of.book.table.grad.any() for level in method.stack)


@pytest.mark.parametrize("line", ["rvq:levels=3", "multi_scale:strides=2+1+1"])
def test_losses_do_not_reach_the_maps_of_earlier_levels_through_what_they_leave_over(line):
    method = parse(f"{line},of=projected[of=vq[codes=16],channels=2]").fit(draw(200, 6)).train()
    method.quantize(draw(50, 6, seed=1).requires_grad_()).loss.backward()
    for level in method.stack:
        assert level.down.weight.grad.any()
        assert level.up.weight.grad is None


def test_dropout_uses_the_first_levels_only():
    method = small(levels=4, dropout=0.5).build(width=6)
    assert (method.quantize(draw(100, 6)).codes >= 0).all(), "the first batch reaches all levels"
    depths = []
    for step in range(400):
        found = method.quantize(draw(20, 6, seed=step))
        used = (found.codes >= 0).all(0)
        assert torch.equal(used, (found.codes >= 0).any(0))
        depths.append(int(used.sum()))
        assert used[: depths[-1]].all()
        assert found.loss.isfinite()
    shares = torch.bincount(torch.tensor(depths), minlength=5) / 400
    torch.testing.assert_close(shares, torch.tensor([0, 0.125, 0.125, 0.125, 0.625]), atol=0.06, rtol=0)
    assert (method.eval().quantize(draw(20, 6)).codes >= 0).all()
    codes = torch.tensor([[3, 4, -1, -1], [-1, -1, -1, -1]])
    expected = method.stack[0].table[3] + method.stack[1].table[4]
    torch.testing.assert_close(method.dequantize(codes), torch.stack((expected, torch.zeros(6))))


@pytest.mark.parametrize("line", ["rvq:levels=3", "multi_scale:strides=1+1+1"])
def test_a_table_of_all_levels_is_fitted_again_and_again_to_what_all_see(line, monkeypatch):
    seen, learn = [], VQ.learn
    monkeypatch.setattr(VQ, "learn", lambda self, rows, *rest: seen.append(rows) or learn(self, rows, *rest))
    rows = draw(100, 4)
    method = parse(f"{line},of=vq[codes=8],shared=true").fit(rows)
    assert [len(some) for some in seen] == [100, 300, 300]
    assert all(torch.equal(some[:100], rows) for some in seen)
    assert not torch.equal(seen[1], seen[2])
    assert seen[2].square().mean() < rows.square().mean()
    assert len(method.stack) == 1


@pytest.mark.parametrize("line", ["vq", "rvq", "rvq:beam=2", "pq:blocks=2", "projected:channels=2", "multi_scale"])
def test_a_table_that_has_learned_nothing_is_not_read(line):
    method = parse(line).build(width=4)
    codes = torch.zeros(3, len(method.codebook_sizes), dtype=torch.long)
    for training in (True, False):
        method.train(training)
        with pytest.raises(Unbuilt, match="must be fitted or trained before 'table' is used; call fit"):
            method.dequantize(codes)
        assert not method.dequantize(codes - 1).any()
    with pytest.raises(Unbuilt, match="must be fitted or trained before 'table' is used; call fit"):
        method.quantize(draw(3, 4))


def test_levels_may_share_one_table():
    rows = draw(400, 4)
    method = small(shared=True).fit(rows)
    assert len(method.stack) == 1
    assert method.codebook_sizes == (16, 16, 16)
    found = method.quantize(rows)
    assert torch.equal(method.stack[0].table[found.codes].sum(1), found.values)
    own, single = small().fit(rows), small(levels=1).fit(rows)
    errors = [mse_loss(m.quantize(rows).values, rows) for m in (own, method, single)]
    assert errors[0] < errors[1] < errors[2]
    assert small(shared=True).build(width=4).quantize(rows).codes.shape == (400, 3)


def test_a_scaled_grid_gains_a_digit_with_every_level():
    line = "rvq:of=fsq[levels=5+3+4,grid=clamped_grid],levels=4,scaling=grid_steps"
    method = parse(line).build(width=3).eval()
    z = 2 * torch.rand(1000, 3, generator=torch.Generator().manual_seed(0)) - 1
    codes = method.quantize(z).codes
    for count in range(1, 5):
        bound = torch.tensor([5, 3, 4]).sub(1.0) ** -count
        assert ((z - method.dequantize(prefix(codes, count))).abs() <= bound + 1e-6).all()
    # Without scaling further levels find nothing that is large enough for them.
    plain = parse(line.removesuffix(",scaling=grid_steps")).build(width=3).eval()
    assert mse_loss(method.quantize(z).values, z) < 0.01 * mse_loss(plain.quantize(z).values, z)


def test_a_scaling_must_fit():
    for of, width in ((VQ(codes=4), 3), (FSQ(levels=(3, 3)), 3)):
        with pytest.raises(InvalidValue, match="grid_steps: needs fsq with as many levels as vectors are wide"):
            RVQ(of=of, scaling="grid_steps").build(width=width)


def test_a_beam_needs_one_codebook():
    with pytest.raises(InvalidValue, match="rvq: beam must be 1 over pq, which has 8 codebooks; got 2"):
        RVQ(of="pq", beam=2)
    with pytest.raises(InvalidValue, match="rvq: a beam must have a table of at most"):
        RVQ(of=FSQ(levels=(64,) * 8), beam=2).build(width=8)
    with pytest.raises(InvalidValue, match="rvq: must have at most 4096 codebooks; got 8000"):
        RVQ(of="pq", levels=1000)
    with pytest.raises(InvalidValue, match="must be built once"):
        RVQ(of=VQ(codes=4).fit(draw(10, 4))).build(width=4)


@pytest.mark.parametrize(
    "line",
    [
        "rvq:of=pq[of=vq[codes=8],blocks=2],levels=2",
        "rvq:of=rvq[of=vq[codes=8],levels=2],levels=2,dropout=0.5",
        "rvq:of=projected[of=vq[codes=8,metric=cosine],channels=3],levels=3,beam=3",
        "rvq:of=fsq[levels=3+3+3],levels=2,shared=true,beam=2",
        "pq:of=rvq[of=vq[codes=8],levels=3,beam=2],blocks=2,rotation=opq[rounds=2]",
        "projected:of=rvq[of=fsq[levels=3+3+3+3,grid=clamped_grid],levels=2,scaling=grid_steps],channels=4",
    ],
)
def test_quantizers_inside_each_other(line, tmp_path):
    rows = draw(100, 8)
    method = parse(line).fit(rows, iterations=3)
    for training in (True, False):
        found = method.train(training).quantize(rows)
        assert found.values.shape == rows.shape
        assert found.codes.shape == (100, len(method.codebook_sizes))
    assert torch.equal(method.dequantize(found.codes), found.values)
    assert mse_loss(found.values, rows) < rows.var()
    method.save(tmp_path / "q")
    again = load(method.name()).load(tmp_path / "q")
    assert torch.equal(again.quantize(rows).codes, found.codes)
    fresh = parse(line).build(width=8)
    z = rows.clone().requires_grad_()
    made = fresh.quantize(z)
    (made.values.square().sum() + made.loss).backward()
    assert z.grad.isfinite().all()
    assert fresh.eval().quantize(rows).values.isfinite().all()
