"""FSQ rounds numbers to levels: every code exists, none is lost, and the gradient is that of the bound."""

from __future__ import annotations

import math

import pytest
import torch

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import load_part, parse
from tokenry.quantize.fsq import FSQ
from tokenry.quantize.parts.balance import BatchMoments, MomentLoss
from tokenry.quantize.parts.grid import ClampedGrid, LogisticGrid, NormalGrid, SymmetricGrid

LEVELS = [(3,), (8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (4, 3, 16)]
GRIDS = ["tanh_grid", "symmetric_grid", "clamped_grid", "logistic_grid", "normal_grid"]


def plain(levels, **fields):
    """Without maps: vectors have as many numbers as there are levels."""
    return FSQ(levels=levels, **fields).build(width=len(levels)).eval()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def centres(grid, levels):
    """Numbers in the middle of every level, for the outermost ones far out: (L) for each of D."""
    found = []
    for count in levels:
        level = torch.arange(count, dtype=torch.double)
        if grid == "tanh_grid":
            half, offset = (count - 1) * 1.001 / 2, 0.5 * (count % 2 == 0)
            z = torch.atanh((level - count // 2 + offset) / half) - math.atanh(offset / half)
        elif grid == "symmetric_grid":
            z = torch.atanh((2 * level / (count - 1) - 1) * 0.999)
        elif grid == "clamped_grid":
            z = 2 * level / (count - 1) - 1
        else:
            share = (level + 0.5) / count
            z = torch.atanh(2 * share - 1) if grid == "logistic_grid" else torch.special.ndtri(share)
        found.append(z.float())
    return found


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_code_is_reached_and_names_a_point_of_its_own(levels, grid):
    method = plain(levels, grid=grid)
    size = math.prod(levels)
    assert method.codebook_sizes == (size,)
    codes = torch.arange(size).unsqueeze(1)
    values = method.dequantize(codes)
    assert len(values.unique(dim=0)) == size
    assert len(values[:, 0].unique()) == levels[0]
    # The first number counts fastest.
    z = torch.cartesian_prod(*centres(grid, levels)[::-1]).view(size, -1).flip(1)
    for given in (z, z.bfloat16(), z.double()):
        found = method.quantize(given)
        assert torch.equal(found.codes, codes)
        assert torch.equal(found.values, values.to(given.dtype))


@pytest.mark.parametrize("grid", GRIDS)
def test_levels_are_evenly_spaced_and_monotone(grid):
    method = plain((7,), grid=grid)
    points = method.dequantize(torch.arange(7).unsqueeze(1))[:, 0]
    torch.testing.assert_close(points.diff(), points.diff()[:1].expand(6))
    values = method.quantize(torch.linspace(-5, 5, 1001).unsqueeze(1)).values[:, 0]
    assert (values.diff() >= 0).all()
    assert torch.equal(values.unique(), points)


@pytest.mark.parametrize("grid", GRIDS)
def test_numbers_far_away_have_the_outermost_levels(grid):
    method = plain((8, 5), grid=grid)
    far = torch.tensor([[-1e4, -1e4], [1e4, 1e4]])
    assert method.quantize(far).codes[:, 0].tolist() == [0, 39]


def test_the_values_of_the_paper():
    values = plain((8, 5)).dequantize(torch.arange(40).unsqueeze(1))
    assert values[:8, 0].tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]
    assert values[::8, 1].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert not plain((8, 5, 4)).quantize(torch.zeros(1, 3)).values.any()


@pytest.mark.parametrize("levels", [(8, 5, 4, 3), (6, 7, 9, 16)])
def test_the_gradient_is_that_of_the_bound_and_nothing_else(levels):
    z = (1.5 * draw(50, 4)).requires_grad_()
    weights = draw(50, 4, seed=1)
    (plain(levels).quantize(z).values * weights).sum().backward()
    count = torch.tensor(levels).double()
    half, offset = (count - 1) * 1.001 / 2, 0.5 * (count % 2 == 0)
    slope = (1 - torch.tanh(z.detach() + torch.atanh(offset / half)) ** 2) * half / (count // 2)
    torch.testing.assert_close(z.grad, (weights * slope).float(), atol=1e-6, rtol=1e-4)


def test_three_levels_are_the_sign_with_a_middle():
    z = 2 * draw(1000, 3)
    values = plain((3, 3, 3)).quantize(z).values
    assert torch.equal(values, z.sign() * (z.abs() > math.atanh(0.5 / 1.001)))


def test_half_precision_loses_no_code_above_256():
    # In 16-bit arithmetic codes above 256 would all be even.
    codes = plain((8, 8, 8, 6, 5)).quantize(3 * draw(100_000, 5).bfloat16()).codes
    assert codes.dtype == torch.long
    assert len(codes[codes % 2 == 1].unique()) > 4000


def test_codebooks_larger_than_floats_count():
    method = plain((4,) * 24, grid="symmetric_grid")
    z = 2 * draw(100, 24)
    found = method.quantize(z)
    assert method.codebook_sizes == (4**24,)
    assert found.codes.max() > 1 << 40
    assert torch.equal(method.dequantize(found.codes), found.values)


def test_only_on_the_clamped_grid_values_stay():
    z = draw(500, 4)
    for grid, stays in (("clamped_grid", True), ("tanh_grid", False), ("symmetric_grid", False)):
        method = plain((8, 5, 5, 5), grid=grid)
        first = method.quantize(z)
        assert torch.equal(method.quantize(first.values).codes, first.codes) == stays


def test_the_clamped_grid_is_the_nearest_point():
    method = plain((5, 4), grid=ClampedGrid())
    z = 1.5 * draw(300, 2)
    points = method.dequantize(torch.arange(20).unsqueeze(1))
    assert torch.equal(method.quantize(z).codes[:, 0], torch.cdist(z, points).argmin(1))


def test_numbers_of_its_distribution_use_a_grid_evenly():
    uniform = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    for grid, z in ((NormalGrid(), torch.special.ndtri(uniform)), (LogisticGrid(), torch.atanh(2 * uniform - 1))):
        found = plain((8,), grid=grid).quantize(z.float())
        shares = torch.bincount(found.codes[:, 0], minlength=8) / len(z)
        assert (shares - 1 / 8).abs().max() < 0.01
        assert found.values.std() == pytest.approx(math.sqrt(1 - 1 / 64), abs=0.01)


def test_noise_takes_the_place_of_rounding_in_training_only():
    z = draw(4000, 2)
    method = FSQ(levels=(8, 5), grid=LogisticGrid(), noise=0.5).build(width=2)
    codes = method.eval().quantize(z).codes
    assert torch.equal(method.quantize(z).values, method.dequantize(codes))
    noisy = method.train().quantize(z)
    assert torch.equal(noisy.codes, codes)
    smooth = method.grid.value(method.grid.position(z, method.sizes), method.sizes)
    step = math.sqrt(12) / method.sizes
    rounded = noisy.values == method.dequantize(codes)
    assert rounded.float().mean() == pytest.approx(0.5, abs=0.03)
    assert ((noisy.values - smooth).abs() <= step / 2 + 1e-5).all()
    # Nothing leaves the outermost bins.
    assert noisy.values.abs().max() < math.sqrt(12) / 2
    assert (noisy.values - smooth)[~rounded].mean().abs() < 0.01
    assert not torch.equal(method.quantize(z).values, noisy.values)


def test_noise_passes_the_gradient_of_the_bound():
    grads = []
    for noise in (0.0, 1.0):
        z = draw(50, 2).requires_grad_()
        FSQ(levels=(8, 5), noise=noise).build(width=2).quantize(z).values.sum().backward()
        grads.append(z.grad)
    torch.testing.assert_close(*grads)


def test_batch_moments_take_scale_and_offset_away():
    method = FSQ(levels=(8, 5), balance=BatchMoments(decay=0.0)).build(width=2)
    z = draw(200, 2)
    codes = method.quantize(z).codes
    assert (method.quantize(7 * z + 100).codes == codes).float().mean() > 0.99
    torch.testing.assert_close(method.layer.mean, (7 * z + 100).mean(0))
    torch.testing.assert_close(method.layer.variance, (7 * z + 100).var(0, correction=0))
    # Evaluation uses what training saw, also for one vector.
    assert (method.eval().quantize(7 * z + 100).codes == codes).float().mean() > 0.99
    state = method.layer.mean.clone()
    method.train().quantize(z[:1])
    assert torch.equal(method.layer.mean, state)
    fitted = FSQ(levels=(8, 5), balance="batch_moments").fit(7 * z + 100)
    torch.testing.assert_close(fitted.layer.mean, (7 * z + 100).mean(0))


def test_the_gradient_of_batch_moments_is_that_of_batch_normalisation():
    z, weights = draw(30, 3), draw(30, 3, seed=1)
    grads = []
    for layer in (BatchMoments().layer(3), torch.nn.BatchNorm1d(3, affine=False)):
        given = z.clone().requires_grad_()
        (layer(given) * weights).sum().backward()
        grads.append(given.grad)
    torch.testing.assert_close(*grads)


def test_the_loss_of_moments_is_the_equation():
    method = FSQ(levels=(8, 5), grid=LogisticGrid(), balance=MomentLoss()).build(width=2)
    z = 2 * draw(100, 2) + 1
    expected = 0.1 * z.mean(0).square().mean() + 0.07 * (z.var(0) - 0.8225).square().mean()
    torch.testing.assert_close(method.quantize(z).loss, expected)
    assert not method.quantize(z[:1]).losses
    assert not method.eval().quantize(z).losses


def test_fit_begins_maps_with_principal_directions_and_the_best_way_back():
    rows = draw(400, 3) @ draw(3, 6, seed=1) + 5
    method = FSQ(levels=(16, 16, 16)).fit(rows)
    down = method.down(rows)
    torch.testing.assert_close(down.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(down.std(0, correction=0), torch.full((3,), 0.907), atol=1e-3, rtol=0)
    covariance = down.T @ down / len(down)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3
    found = method.quantize(rows)
    numbers = method.grid.value(found.codes // method.radix % method.sizes, method.sizes)
    # What is left over of a least squares solution is orthogonal to what it was given.
    left = rows - found.values
    assert (numbers.T @ left / len(rows)).abs().max() < 1e-3
    assert left.var() / rows.var() < 0.1


def test_fit_with_more_levels_than_numbers_and_with_constant_vectors():
    rows = draw(200, 2)
    assert FSQ(levels=(8, 8, 8)).fit(rows).quantize(rows).values.isfinite().all()
    same = torch.full((5, 6), 3.0)
    torch.testing.assert_close(FSQ(levels=(5, 5)).fit(same).quantize(same).values, same)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("fsq:levels=8+1", "FSQ: levels must be one or more whole numbers in [2, 65536]"),
        ("fsq:levels=", "FSQ: levels must be one or more whole numbers in [2, 65536]"),
        ("fsq:levels=8+x", "FSQ: levels must be a whole number; got 'x'."),
        ("fsq:levels=65536+65536+65536+65536", "whose product is at most 4611686018427387904"),
        ("fsq:levels=8+2", "fsq: levels must be at least 3 on tanh_grid; got (8, 2); use symmetric_grid for fewer."),
        ("fsq:grid=euclidean", "FSQ: grid must be one of"),
        ("fsq:noise=1.5", "FSQ: noise must be in [0.0, 1.0]; got 1.5."),
    ],
)
def test_bad_fields_are_refused(line, sentence):
    with pytest.raises(InvalidValue) as error:
        parse(line)
    assert sentence in str(error.value)


def test_the_one_line_form():
    method = parse("fsq:levels=8+5+5,grid=symmetric_grid,balance=batch_moments[decay=0.5],noise=0.25")
    assert method.levels == (8, 5, 5)
    assert isinstance(method.grid, SymmetricGrid)
    assert method.balance == BatchMoments(decay=0.5)
    assert parse(str(method)).to_dict() == method.to_dict()
    assert load_part("quantize/tanh_grid")() == FSQ().grid
