"""Every quantizer: what any of them must hold to."""

from __future__ import annotations

import pytest
import torch

from tests.contract.cases import cases, exempt
from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import load, parse

METHODS = cases("quantize")
WIDTH = 8


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


def vectors(*shape, seed=0):
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def fitted(case):
    return case.trial().fit(vectors(200, seed=1), iterations=5)


def trained(case, steps=3):
    method = case.trial().build(width=WIDTH)
    for step in range(steps):
        method.quantize(vectors(2, 30, seed=step))
    return method


def padded():
    x, mask = vectors(2, 13), torch.ones(2, 13, dtype=torch.bool)
    mask[1, :4] = False
    return x, mask


def test_codes_and_values_name_each_other(case):
    method = fitted(case)
    x, mask = padded()
    found = method.quantize(x, mask)
    sizes = torch.tensor(method.codebook_sizes)
    assert found.codes.shape == (2, 13, len(sizes))
    assert found.codes.dtype == torch.long
    assert ((found.codes[mask] >= 0) & (found.codes[mask] < sizes)).all()
    assert torch.equal(method.dequantize(found.codes), found.values)
    assert method.bits == pytest.approx(float(sizes.float().log2().sum()), rel=1e-6)


def test_what_is_on_the_grid_stays(case, request):
    exempt(case, request.node.originalname, request)
    method = fitted(case)
    first = method.quantize(vectors(2, 50))
    again = method.quantize(first.values)
    torch.testing.assert_close(again.values, first.values, atol=1e-5, rtol=1e-5)
    assert (again.codes == first.codes).float().mean() > 0.999


def test_padding_touches_nothing(case):
    x, mask = padded()
    garbage = x.masked_fill(~mask.unsqueeze(-1), float("nan"))
    made = []
    for given, real in ((x, mask), (garbage, mask)):
        method = trained(case)
        made.append((method.quantize(given, real), method.state_dict()))
    (one, state), (other, same) = made
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.codes, other.codes)
    assert (one.codes[~mask] == -1).all()
    assert not one.values[~mask].any()
    assert all(torch.equal(state[k], same[k]) for k in state)
    # Without the padding: the same vectors in one row.
    method = trained(case)
    alone = method.quantize(x[mask])
    assert torch.equal(alone.codes, one.codes[mask])
    assert torch.equal(alone.values, one.values[mask])


def test_rows_do_not_see_each_other(case):
    method = fitted(case)
    x = vectors(3, 7)
    whole = method.quantize(x)
    for row in range(3):
        assert torch.equal(method.quantize(x[row : row + 1]).codes, whole.codes[row : row + 1])


def test_evaluation_changes_nothing_and_training_counts(case):
    method = trained(case)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.eval().quantize(vectors(2, 9))
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    assert not method.quantize(vectors(2, 9)).losses
    method.train().quantize(vectors(2, 9))
    assert int(method.steps) == int(before["steps"]) + 1


def test_the_same_seed_gives_the_same_and_the_global_state_stays(case):
    state = torch.get_rng_state()
    one, other = trained(case), trained(case)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
    fit, refit = fitted(case), fitted(case)
    assert all(torch.equal(v, refit.state_dict()[k]) for k, v in fit.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_saved_quantizer_goes_on_as_it_was(case, tmp_path):
    method = trained(case)
    method.save(tmp_path / "q")
    loaded = load(case.name).load(tmp_path / "q")
    assert not loaded.training
    assert parse(str(tmp_path / "q")).to_dict() == method.to_dict()
    x = vectors(2, 30, seed=9)
    one, other = method.quantize(x), loaded.train().quantize(x)
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.values, other.values)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in method.state_dict().items())


def test_a_gradient_reaches_the_vectors(case):
    method = trained(case)
    x, mask = padded()
    x.requires_grad_()
    found = method.quantize(x, mask)
    (found.values.square().sum() + found.loss).backward()
    assert x.grad.isfinite().all()
    assert x.grad[mask].any()
    assert not x.grad[~mask].any()
    for name, loss in found.losses.items():
        assert loss.ndim == 0, name
        assert loss >= 0, name


def test_half_precision_gives_the_codes_of_the_same_numbers(case):
    method = fitted(case)
    x = vectors(4, 250).bfloat16()
    half, whole = method.quantize(x), method.quantize(x.float())
    assert half.values.dtype == torch.bfloat16
    assert torch.equal(half.codes, whole.codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method.quantize(x.float()).codes, whole.codes)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (1,), (1, 1), (3, 2, 2)])
def test_any_leading_axes_and_nothing_at_all(case, shape):
    for method in (fitted(case), trained(case)):
        found = method.quantize(vectors(*shape))
        assert found.values.shape == (*shape, WIDTH)
        assert found.codes.shape == (*shape, len(method.codebook_sizes))
        assert found.loss.isfinite()
    x, mask = padded()
    method = trained(case)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    found = method.quantize(x, torch.zeros_like(mask))
    assert (found.codes == -1).all()
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())


def test_inputs_are_not_changed(case):
    method = trained(case)
    x, mask = padded()
    given, real = x.clone(), mask.clone()
    method.quantize(x, mask)
    assert torch.equal(x, given)
    assert torch.equal(mask, real)


@pytest.mark.parametrize(
    ("x", "mask", "words"),
    [
        (torch.zeros(2, 3, WIDTH + 1), None, "vectors must be floats of width 8"),
        (torch.zeros(2, 3, WIDTH, dtype=torch.long), None, "vectors must be floats of width 8"),
        (torch.full((2, 3, WIDTH), float("nan")), None, "vectors must be finite"),
        (torch.full((2, 3, WIDTH), float("inf")), None, "vectors must be finite"),
        (torch.zeros(2, 3, WIDTH), torch.ones(2, 4, dtype=torch.bool), r"mask must be of shape \(2, 3\)"),
    ],
)
def test_bad_vectors_are_refused(case, x, mask, words):
    method = trained(case)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with pytest.raises(InvalidValue, match=words):
        method.quantize(x, mask)
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())


def test_bad_codes_are_refused(case):
    method = fitted(case)
    codes = method.quantize(vectors(2, 3)).codes
    with pytest.raises(InvalidValue, match="codes must end with"):
        method.dequantize(codes[..., :0])
    for wrong in (-2, max(method.codebook_sizes)):
        with pytest.raises(InvalidValue, match="codes must be in"):
            method.dequantize(torch.full_like(codes, wrong))
    assert not method.dequantize(torch.full_like(codes, -1)).any()


def test_nothing_to_learn_from_and_nothing_learnt(case):
    with pytest.raises(InvalidValue, match="vectors must be of shape"):
        case.trial().fit(torch.zeros(0, WIDTH))
    with pytest.raises(InvalidValue, match="vectors must be finite"):
        case.trial().fit(torch.full((3, WIDTH), float("nan")))
    with pytest.raises(Unbuilt):
        case.trial().quantize(vectors(2, 3))
