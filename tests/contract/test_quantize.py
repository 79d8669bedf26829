"""Every quantizer: what any of them must hold to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from tests.contract.cases import cases
from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import load, parse
from tokenry.quantize.base import Quantizer

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
    repeats = torch.tensor(method.repeats)
    assert method.tokens == pytest.approx(float((1 / repeats).sum()))
    assert method.bits == pytest.approx(float((sizes.float().log2() / repeats).sum()), rel=1e-6)
    assert torch.equal(method.sent(found.codes) >= 0, (found.codes >= 0) & (method.sent(found.codes) == found.codes))


def test_what_is_on_the_grid_stays(case):
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
    # Without the padding, and with it behind the vectors.
    method = fitted(case)
    found, alone = method.quantize(x, mask), method.quantize(x[1:, 4:])
    assert torch.equal(alone.codes, found.codes[1:, 4:])
    assert torch.equal(alone.values, found.values[1:, 4:])
    behind = method.quantize(x[1:].roll(-4, 1), mask[1:].roll(-4, 1))
    assert torch.equal(behind.codes[:, :9], alone.codes)


def test_vectors_are_quantized_one_by_one(case):
    x, mask = padded()
    one, other = (trained(case).quantize(*given) for given in ((x, mask), (x[mask],)))
    assert torch.equal(other.codes, one.codes[mask])
    assert torch.equal(other.values, one.values[mask])
    method = fitted(case)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    assert torch.equal(method.quantize(x[:, order]).codes, method.quantize(x).codes[:, order])


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


def test_a_fit_begins_anew_whoever_built_it(case):
    fit, rows = fitted(case), vectors(200, seed=1)
    built = case.trial().build(width=WIDTH)
    for method in (built, built, fit):
        method.fit(rows, iterations=5)
        for name, value in fitted(case).state_dict().items():
            assert torch.equal(value, method.state_dict()[name]), name


def test_a_fit_shows_how_far_it_is_where_somebody_looks(case, monkeypatch, capsys):
    rows = vectors(200, seed=1)
    for terminal, progress, shown in (("0", True, False), ("1", False, False), ("1", True, True)):
        monkeypatch.setenv("TTY_COMPATIBLE", terminal)
        method = case.trial().fit(rows, iterations=2, progress=progress)
        said = capsys.readouterr()
        assert not said.out
        assert ("100%" in said.err or "0%" in said.err) == (shown and case.name != "quantize/fsq")
        assert bool(said.err) == shown
        again = case.trial().fit(rows, iterations=2, progress=False)
        assert torch.equal(method.quantize(rows).codes, again.quantize(rows).codes)


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
    refitted = case.trial().fit(vectors(200, seed=1).bfloat16(), iterations=5)
    again = case.trial().fit(vectors(200, seed=1).bfloat16().float(), iterations=5)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in refitted.state_dict().items())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method.quantize(x.float()).codes, whole.codes)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_it_trains_in_any_type_of_numbers(case, kind, tmp_path):
    method, whole = case.trial().build(width=WIDTH).to(kind), case.trial().build(width=WIDTH)
    for step in range(20):
        x = vectors(2, 30, seed=step).to(kind).requires_grad_()
        found = method.quantize(x)
        (found.values.square().sum() + found.loss).backward()
        assert found.values.dtype == kind
        assert x.grad.isfinite().all()
        whole.quantize(x.detach().float())
    x = vectors(500, seed=99).to(kind).float()
    mine, theirs = (float((m.eval().quantize(x).values - x).square().mean().detach()) for m in (method, whole))
    assert mine == pytest.approx(theirs, rel=0.02)
    method.save(tmp_path / "q")
    loaded = load(case.name).load(tmp_path / "q").train()
    assert loaded.quantize(x).loss.isfinite()
    refitted = case.trial().build(width=WIDTH).to(kind).fit(x, iterations=2)
    assert refitted.quantize(x).values.isfinite().all()


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


@pytest.mark.parametrize("rows", [vectors(1), torch.zeros(5, WIDTH), torch.full((5, WIDTH), 3.0)],
                         ids=["one", "zeros", "same"])  # fmt: skip
def test_little_to_learn_from(case, rows):
    method = case.trial().fit(rows)
    found = method.quantize(rows)
    assert found.values.isfinite().all()
    assert method.quantize(vectors(2, 13)).values.isfinite().all()
    made = case.trial().build(width=WIDTH)
    for _ in range(3):
        found = made.quantize(rows)
        assert found.values.isfinite().all()
        assert found.loss.isfinite()


def test_a_batch_of_padding_comes_first(case):
    """Before anything was learnt, too, nothing happens."""
    method, (x, mask) = case.trial().build(width=WIDTH), padded()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    for given in ((x, torch.zeros_like(mask)), (x[:0], mask[:0])):
        found = method.quantize(*given)
        assert (found.codes == -1).all()
        assert not found.values.any()
        assert not found.losses
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    assert (method.quantize(x, mask).codes[mask] >= 0).all()


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
        (torch.full((2, 3, WIDTH), 1e300, dtype=torch.double), None, "vectors must be finite"),
        (torch.full((2, 3, WIDTH), 1e30), None, "and so must their squared lengths"),
        (torch.tensor(1.0), None, "vectors must be floats of width 8"),
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
    with pytest.raises(InvalidValue, match="codes must be whole numbers"):
        method.dequantize(codes.float())
    assert not method.dequantize(torch.full_like(codes, -1)).any()


def test_nothing_to_learn_from_and_nothing_learnt(case):
    with pytest.raises(InvalidValue, match="vectors must be of shape"):
        case.trial().fit(torch.zeros(0, WIDTH))
    with pytest.raises(InvalidValue, match=r"vectors must be of shape \(T, E\), T at least 1; got \(2, 3, 8\)"):
        case.trial().fit(vectors(2, 3))
    for wrong in (float("nan"), float("inf"), 1e30):
        with pytest.raises(InvalidValue, match="vectors must be finite"):
            case.trial().fit(torch.full((3, WIDTH), wrong))
    with pytest.raises(InvalidValue, match="vectors must be floats of width 8"):
        fitted(case).fit(torch.zeros(3, WIDTH + 1))
    with pytest.raises(Unbuilt):
        case.trial().quantize(vectors(2, 3))


@dataclass(eq=False, repr=False, kw_only=True)
class Twice(Quantizer):
    """Two codes for each vector, which say nothing alone."""

    @property
    def codebook_sizes(self):
        return (4, 4)

    def assign(self, rows):
        raise AssertionError

    def look_up(self, codes):
        return codes.sum(1, keepdim=True).expand(-1, self.width).float()


def test_missing_codes_are_refused_where_none_may_lack():
    method = Twice().build(width=2)
    assert method.dequantize(torch.tensor([[1, 2], [-1, -1]])).tolist() == [[3, 3], [0, 0]]
    with pytest.raises(InvalidValue, match="codes of a vector must all be there or all be -1; some are missing"):
        method.dequantize(torch.tensor([[1, 2], [1, -1]]))
