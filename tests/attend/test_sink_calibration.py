"""Attention calibration: rows keep their sum, and the paper's map comes out of plain loops."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import tokens
from tests.tinies import shared
from tokenry.attend.calibrated.heads import Heads
from tokenry.attend.sink_calibration import SinkCalibration, calibrated
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import tiny

N = 30


def maps(model, ids):
    """Probabilities, values and dense outputs of the first layer."""
    found = {}

    def attend(site):
        if site.layer == 0:
            found["probs"], found["v"] = site.probs(), site.v.repeat_interleave(site.groups, 1)
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: attend):
        model(ids)
    return found["probs"], found["v"]


def output(method, model, ids):
    """What the method makes of the first layer."""
    found, attend = {}, method.attend

    def looking(site, state):
        out = attend(site, state)
        if site.layer == 0:
            found["out"] = out
        return out

    object.__setattr__(method, "attend", looking)
    with torch.no_grad(), method(model):
        model(ids)
    return found["out"]


def by_loops(probs, beta, threshold, so_far):
    """The paper's map for one head, one entry after the other."""
    n = probs.shape[-1]
    out = probs.clone()
    for i in range(n):
        last = i if so_far else n - 1
        received = {j: sum(probs[t, j] for t in range(j, last + 1)) / (last + 1 - j) for j in range(1, i + 1)}
        sinks = [j for j, mean in received.items() if mean > threshold]
        rest = [j for j in range(i + 1) if j not in sinks]
        freed = (1 - beta) * sum(probs[i, j] for j in sinks)
        for j in sinks:
            out[i, j] = beta * probs[i, j]
        for j in rest:
            out[i, j] = probs[i, j] + freed * probs[i, j] / sum(probs[i, u] for u in rest)
    return out


@pytest.mark.parametrize("judged", ["so_far", "pass"])
def test_it_is_the_map_of_the_paper(judged):
    model, ids = shared("llama"), tokens(1, N)
    probs, v = maps(model, ids)
    method = SinkCalibration(beta=0.3, threshold=0.06, heads=(0, 2), judged=judged)
    out = output(method, model, ids)
    for head in range(4):
        expected = probs[0, head]
        if head in (0, 2):
            expected = by_loops(expected, 0.3, 0.06, judged == "so_far")
            assert not torch.allclose(expected, probs[0, head])
            torch.testing.assert_close(expected.sum(-1), torch.ones(N))
        torch.testing.assert_close(out[0, head], expected @ v[0, head], atol=1e-5, rtol=1e-4)


def test_rows_keep_their_sum_ratios_and_first_token():
    draw = torch.Generator().manual_seed(0)
    probs = torch.randn(2, 3, 5, 9, generator=draw).softmax(-1)
    sinks = torch.rand(2, 3, 5, 9, generator=draw) < 0.3
    sinks[..., 0] = False
    found = calibrated(probs, sinks, 0.4)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, 5))
    factor = found / probs
    torch.testing.assert_close(factor[sinks], torch.full_like(factor[sinks], 0.4))
    assert (factor[..., 0] >= 1).all()
    torch.testing.assert_close(factor[~sinks], factor[..., :1].expand_as(factor)[~sinks])
    assert torch.equal(calibrated(probs, sinks, 1.0), probs)
    assert torch.equal(calibrated(probs, torch.ones_like(sinks), 0.4), probs)


def test_the_middle_layers_act_where_no_heads_are_named():
    model = shared("gemma3_text")
    method, seen = SinkCalibration(threshold=0.0), []
    acting = method._acting

    def looking(site):
        found = acting(site)
        seen.append((site.layer, bool(found.all())))
        return found

    object.__setattr__(method, "_acting", looking)
    with torch.no_grad(), method(model):
        model(tokens(1, 12))
    assert seen == [(0, False), (1, False), (2, True), (3, False)]


def test_heads_that_do_not_exist_are_refused():
    with pytest.raises(InvalidValue, match="heads must be below 12"):
        SinkCalibration(heads=(3, 12))(shared("llama")).__enter__()


def test_the_search_keeps_the_heads_that_help():
    model, ids = shared("llama"), tokens(1, N)

    def score():
        with torch.no_grad():
            return model(ids).logits[0, -1, 7].item()

    method = SinkCalibration(beta=0.0, threshold=0.03, heads=(0, 2, 4, 5, 6, 8, 10, 11))
    plain, found = score(), Heads.search(model, score, method=method)
    assert 0 < len(found.improving) < 8
    for head in method.heads:
        with SinkCalibration(beta=0.0, threshold=0.03, heads=(head,))(model):
            assert found.gain.flatten()[head] == score() - plain
    assert int(found.gain.isnan().sum()) == 12 - 8, "the others were not tried"


def test_a_search_on_texts_is_saved_and_serves(tmp_path):
    """By the loss of texts of any lengths; then exactly the heads act that made it smaller, none if none did."""
    model, method = shared("gemma3_text"), SinkCalibration(beta=0.2, threshold=0.03)
    samples = [tokens(1, N)[0], tokens(1, 17, seed=2)[0]]
    found = Heads.calibrate(model, samples, method=method)
    assert found.gain[2].isfinite().all(), "the middle layers are tried"
    assert found.gain[[0, 1, 3]].isnan().all()
    for gain, acts in ((found.gain.clone(), found.improving), (torch.full_like(found.gain, -1.0), ())):
        found.gain.copy_(gain)
        found.save(tmp_path / "heads")
        by_folder = SinkCalibration(beta=0.2, threshold=0.03, calibration=tmp_path / "heads")
        by_name = SinkCalibration(beta=0.2, threshold=0.03, heads=acts) if acts else SinkCalibration(beta=1.0)
        outs = []
        for one in (by_folder, by_name):
            with torch.no_grad(), one(model):
                outs.append(model(tokens(2, N)).logits)
        assert torch.equal(*outs)


def test_a_calibration_is_of_one_model_and_its_settings(tmp_path):
    model, method = shared("llama"), SinkCalibration(beta=0.2, threshold=0.03, heads=(0, 5))
    Heads.calibrate(model, [tokens(1, N)[0]], method=method).save(tmp_path / "heads")
    folder = str(tmp_path / "heads")
    other = tiny("llama")
    other.get_input_embeddings().weight.data.mul_(1.5)
    for another in (other, shared("qwen3")):
        with pytest.raises(Incompatible, match="sink_calibration: calibration must be of this model"):
            SinkCalibration(beta=0.2, threshold=0.03, calibration=folder)(another).__enter__()
    with pytest.raises(InvalidValue, match=r"beta must be that of the calibration, 0\.2; got 0\.4"):
        SinkCalibration(calibration=folder, threshold=0.03)(model).__enter__()
    with pytest.raises(InvalidValue, match="one of heads and calibration must be given"):
        SinkCalibration(heads=(1,), calibration=folder)
    with pytest.raises(InvalidValue, match="heads must name at least one"):
        Heads.search(model, lambda: 0.0, method=SinkCalibration())


def test_one_forward_is_steps():
    """What a pass gives to each of its tokens, it gives when they come one by one."""
    model, ids, method = shared("llama"), tokens(1, N), SinkCalibration(beta=0.2, threshold=0.03, heads=(0, 1, 4, 9))
    with torch.no_grad(), method(model):
        whole = model(ids).logits
        cache = cache_of(model(ids[:, :1], use_cache=True))
        steps = [model(ids[:, i : i + 1], **with_cache(cache)).logits for i in range(1, N)]
    torch.testing.assert_close(torch.cat(steps, 1), whole[:, 1:], atol=2e-5, rtol=1e-4)
