"""What every learned layer of attention must do: whole = in pieces = token by token, whatever stands beside it."""

from __future__ import annotations

import json

import pytest
import torch

from tests.contract.cases import cases
from tokenry.attend.layers.language_model import LayerModel
from tokenry.attend.layers.layer import CausalLayer, Layer
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import parse

WIDTH, TOKENS = 16, 37
METHODS = [c for c in cases("attend") if issubclass(c.method, Layer)]
CAUSAL = [c for c in METHODS if issubclass(c.method, CausalLayer)]


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


@pytest.fixture(params=CAUSAL, ids=[c.name for c in CAUSAL])
def causal(request):
    return request.param


def built(case, seed=0):
    return case.trial().build(width=WIDTH, generator=torch.Generator().manual_seed(seed)).eval()


def states(tokens=TOKENS, rows=2, seed=0):
    return torch.randn(rows, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def padded():
    """Two rows, of which the second is shorter, with padding at both ends and one within."""
    real = torch.ones(2, TOKENS, dtype=torch.bool)
    real[1, :9] = real[1, 20] = real[1, -3:] = False
    return states(), real


def in_pieces(layer, x, sizes, real=None):
    memory, parts = layer.begin(len(x)), []
    for part, there in zip(x.split(sizes, 1), (x if real is None else real).split(sizes, 1), strict=True):
        parts.append(layer.read(part, memory, None if real is None else there))
    return torch.cat(parts, 1)


def test_use_before_build_is_refused(case):
    with pytest.raises(Unbuilt, match="must be built before"):
        case.trial()(states(4))


def test_the_same_seed_gives_the_same_layer_and_the_global_state_stays(case):
    state = torch.get_rng_state()
    first, again, other = (built(case, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


@torch.no_grad()
def test_saved_and_loaded_are_equal(case, tmp_path):
    layer = built(case)
    layer.save(tmp_path / "layer")
    again = parse(str(tmp_path / "layer"))
    assert type(again) is case.method
    assert torch.equal(layer(states(16)), again(states(16)))


def test_a_damaged_folder_is_refused(case, tmp_path):
    built(case).save(tmp_path / "layer")
    file = tmp_path / "layer" / "method.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"sizes": {"width": 2 * WIDTH}}))
    with pytest.raises((StorageError, InvalidValue), match="must be"):
        case.method.load(tmp_path / "layer")


def test_other_states_are_refused(case):
    for wrong in (states(4)[..., 1:], states(4)[0], states(4).long()):
        with pytest.raises(InvalidValue, match="states must be floats of shape"):
            built(case)(wrong)


def test_all_parameters_get_finite_gradients(case):
    layer = built(case).train()
    x = states(36).requires_grad_()
    layer(x).square().sum().backward()
    for name, p in layer.named_parameters():
        assert p.grad is not None, name
        assert bool(p.grad.isfinite().all()), name
        assert bool(p.grad.any()), name
    assert bool(x.grad.isfinite().all())


@torch.no_grad()
def test_bfloat16(case):
    layer, half = built(case), built(case).to(torch.bfloat16)
    layer.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in half.state_dict().items()})
    x = states(36).to(torch.bfloat16)
    out = half(x)
    assert out.dtype == torch.bfloat16
    wanted = layer(x.float())
    assert float((out.float() - wanted).norm() / wanted.norm()) < 0.1


@torch.no_grad()
def test_rows_do_not_see_each_other(case):
    layer, x = built(case), states(16, rows=3)
    torch.testing.assert_close(layer(x)[1], layer(x[1:2])[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [1, 5, 13, [8, 1, 1, 16, 11]], ids=str)
def test_in_pieces_equals_whole(causal, sizes):
    layer, x = built(causal), states()
    torch.testing.assert_close(in_pieces(layer, x, sizes), layer(x), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_later_tokens_do_not_matter(causal):
    layer, x = built(causal), states()
    before = layer(x)
    for at in (TOKENS - 1, 17, 8, 1):
        changed = x.clone()
        changed[:, at] += 1.0
        after = layer(changed)
        assert torch.allclose(after[:, :at], before[:, :at], atol=1e-6)
        assert not torch.allclose(after[:, at], before[:, at], atol=1e-4)


@torch.no_grad()
def test_earlier_tokens_matter(causal):
    layer, x = built(causal), states()
    changed = x.clone()
    changed[:, 20] *= -2.0
    assert not torch.allclose(layer(changed)[:, 21:], layer(x)[:, 21:], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [1, 7, TOKENS])
def test_padding_does_not_matter(causal, sizes):
    layer, (x, real) = built(causal), padded()
    for out in (layer(x, real), in_pieces(layer, x, sizes, real)):
        for i in range(2):
            alone = layer(x[i : i + 1, real[i]])[0]
            torch.testing.assert_close(out[i, real[i]], alone, atol=2e-5, rtol=1e-4)
            assert not bool(out[i, ~real[i]].any())
    x[~real] = float("nan")
    assert bool(layer(x, real)[real].isfinite().all())


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_short_rows(causal, tokens):
    layer, x = built(causal), states(tokens)
    torch.testing.assert_close(in_pieces(layer, x, 1), layer(x), atol=2e-5, rtol=1e-4)
    assert in_pieces(layer, states(0), 1).shape == (2, 0, WIDTH)


@torch.no_grad()
def test_two_interleaved_uses_do_not_see_each_other(causal):
    layer, x, other = built(causal), states(), states(seed=1)
    one, two = layer.begin(2), layer.begin(2)
    found = []
    for a, b in zip(x.split(5, 1), other.split(5, 1), strict=True):
        found.append(layer.read(a, one))
        layer.read(b, two)
    torch.testing.assert_close(torch.cat(found, 1), layer(x), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_model_of_it_generates_what_it_predicts(causal, tmp_path):
    model = LayerModel(layers=(causal.trial(), causal.trial())).build(vocabulary=20, width=WIDTH).eval()
    model.embed.weight.mul_(20)
    ids = torch.randint(20, (2, 11), generator=torch.Generator().manual_seed(0))
    real = torch.ones_like(ids, dtype=torch.bool)
    real[1, :4] = False
    said = model.generate(ids, 9, real)
    model.save(tmp_path / "model")
    again = LayerModel.load(tmp_path / "model")
    for i in range(2):
        whole = torch.cat((ids[i, real[i]], said[i])).unsqueeze(0)
        logits = again(whole)[0, -10:-1]
        assert torch.equal(logits.argmax(-1), said[i])
        reading = again.begin(1)
        parts = torch.cat([again.read(part, reading) for part in whole.split(3, 1)], 1)
        torch.testing.assert_close(parts[0, -10:-1], logits, atol=1e-4, rtol=1e-3)
