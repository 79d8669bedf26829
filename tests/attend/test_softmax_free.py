"""SOFT: its kernel, its inverse and its gradient, and what a small encoder of pictures learns with it."""

from __future__ import annotations

import pytest
import torch

from tokenry.attend.layers.gaussian import RIDGE, exact, gaussian, inverse, supported
from tokenry.attend.layers.vision_model import VisionModel, train
from tokenry.attend.softmax_free import SoftmaxFree, kernel_error
from tokenry.core.errors import InvalidValue
from tokenry.core.schooling import Schooling
from tokenry.data.tasks.shapes import SHAPES, Shapes


def layer(**settings) -> SoftmaxFree:
    return SoftmaxFree(**{"heads": 2, **settings}).build(width=16).eval()


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_the_kernel_is_of_distances_and_symmetric():
    q = points(3, 10, 4)
    found = gaussian(q, q)
    wanted = (-0.5 * (q.unsqueeze(2) - q.unsqueeze(1)).square().sum(-1)).exp()
    torch.testing.assert_close(found, wanted)
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-9


@pytest.mark.parametrize("normed", [False, True])
def test_with_all_tokens_as_points_it_is_the_exact_kernel_but_for_the_ridge(normed):
    q, v = 3 * points(2, 30, 8), points(2, 30, 5, seed=1)
    k = gaussian(q, q)
    inner = torch.linalg.inv(k + RIDGE * torch.eye(30, dtype=torch.double))
    if normed:
        root = k.sum(-1).rsqrt()
        inner = root.unsqueeze(-1) * inner * root.unsqueeze(-2)
    torch.testing.assert_close(supported(q, q, v, normed=normed, steps=40), k @ inner @ k @ v, atol=1e-6, rtol=1e-6)
    if not normed:
        # Of a kernel that is near the identity the ridge takes a hundredth.
        far = 20 * q
        torch.testing.assert_close(supported(far, far, v) * (1 + RIDGE), exact(far, v), atol=1e-3, rtol=1e-3)


def test_the_inverse_is_that_of_linear_algebra():
    a = gaussian(*[2 * points(4, 12, 6)] * 2)
    wanted = torch.linalg.inv(a + RIDGE * torch.eye(12, dtype=torch.double))
    torch.testing.assert_close(inverse(a, steps=30), wanted, atol=1e-6, rtol=1e-6)


def test_no_matrix_diverges_because_of_another():
    """One with large sums beside one that is small: each has a first guess of its own."""
    large, small = torch.ones(40, 40) + torch.eye(40), 0.01 * torch.eye(40)
    together = inverse(torch.stack((large, small)), steps=30)
    assert bool(together.isfinite().all())
    torch.testing.assert_close(together[1], inverse(small, steps=30))


def test_the_gradient_is_that_through_an_exact_inverse():
    a = gaussian(*[2 * points(2, 8, 6)] * 2).requires_grad_()
    weight = points(2, 8, 8, seed=3)
    (inverse(a, steps=30) * weight).sum().backward()
    exactly = a.detach().clone().requires_grad_()
    (torch.linalg.inv(exactly + RIDGE * torch.eye(8, dtype=torch.double)) * weight).sum().backward()
    torch.testing.assert_close(a.grad, exactly.grad, atol=1e-6, rtol=1e-5)


def test_the_order_of_tokens_does_not_matter_to_the_kernels():
    q, v, support = points(20, 4), points(20, 3, seed=1), points(5, 4, seed=2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(4))
    for normed in (False, True):
        torch.testing.assert_close(exact(q, v, normed=normed)[order], exact(q[order], v[order], normed=normed))
        found = supported(q, support, v, normed=normed)
        torch.testing.assert_close(found[order], supported(q[order], support, v[order], normed=normed))


def test_the_error_of_the_kernel_falls_with_the_points():
    """Patches of a smooth picture, pooled in eighths, quarters and halves of a side."""
    at = torch.linspace(0, 6, 16)
    waves = torch.stack([(a * at.view(-1, 1) + b * at.view(1, -1)).sin() for a in range(4) for b in range(4)], -1)
    x = waves.view(1, 256, 16)
    errors = [kernel_error(layer(ratio=ratio, points="mean"), x) for ratio in (8, 4, 2)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.5 * errors[0]


@torch.no_grad()
def test_without_norms_outputs_grow_with_the_patches():
    """The same picture in more patches; the norm of the journal version takes the growth away."""
    sizes = {}
    for normed in (False, True):
        one = layer(ratio=1, normed=normed)
        one.near.weight.zero_()
        x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
        few, many = one(x), one(x.repeat_interleave(16, 1))
        sizes[normed] = float((many - one.out.bias).norm(dim=-1).mean() / (few - one.out.bias).norm(dim=-1).mean())
    assert sizes[False] > 4 * sizes[True]


@torch.no_grad()
def test_grids_need_not_be_square():
    x = torch.randn(2, 32, 16)
    assert layer()(x, (4, 8)).shape == (2, 32, 16)
    with pytest.raises(InvalidValue, match="must be a square"):
        layer()(x)
    with pytest.raises(InvalidValue, match="as many places as patches"):
        layer()(x, (4, 4))
    with pytest.raises(InvalidValue, match="multiples of ratio=3"):
        layer(ratio=3)(x, (4, 8))


def test_pictures_depend_on_the_generator_alone():
    first, again = (Shapes().sample(9, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.pixels, again.pixels)
    assert first.pixels.shape == (9, 1, 32, 32)
    assert int(Shapes().sample(200, torch.Generator().manual_seed(2)).labels.max()) == len(SHAPES) - 1


def test_an_encoder_is_trained_and_goes_on_where_it_stopped(tmp_path):
    task = Shapes(side=16, noise=0.1)
    stages = ("softmax_free:ratio=4", "softmax_free:ratio=1")

    def fresh():
        return VisionModel(stages=stages).build(classes=len(SHAPES), width=16)

    how = Schooling(rate=3e-3, batch=16, every=10)
    whole, _ = train(fresh(), task, 30, how=how)
    for steps in (10, 30):
        again, _ = train(fresh(), task, steps, tmp_path / "run", how)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    whole.save(tmp_path / "model")
    pixels = task.sample(4, torch.Generator().manual_seed(0)).pixels
    assert torch.equal(VisionModel.load(tmp_path / "model")(pixels), whole(pixels))
    with pytest.raises(InvalidValue, match="softmax_free layers that are not built"):
        VisionModel(stages=("softplus",))
