"""CodebookMonitor: counts over a corpus, not over batches."""

from __future__ import annotations

import json
import math

import pytest
import torch
from rich.console import Console

from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.quantize.usage.distortion import Distortion
from tokenry.quantize.usage.monitor import CodebookMonitor
from tokenry.quantize.usage.tally import Tally
from tokenry.quantize.vq import VQ

WIDTH = 4


def vectors(*shape, seed=0):
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def quantizer():
    return VQ(codes=16).fit(vectors(300, seed=1))


def coded(codes, size=8):
    monitor = CodebookMonitor(VQ(codes=size))
    monitor.add_codes(torch.as_tensor(codes).unsqueeze(-1))
    return monitor


def same(one, other):
    return one == other or one == pytest.approx(other, rel=1e-9, nan_ok=True)


def test_counts_are_those_of_bincount(quantizer):
    monitor, x = CodebookMonitor(quantizer), vectors(5, 40)
    for row in x:
        monitor.add(row)
    codes = quantizer.quantize(x).codes.flatten()
    assert torch.equal(monitor.tallies[0].dense(), codes.bincount(minlength=16))
    assert torch.equal(monitor.dead(), (codes.bincount(minlength=16) == 0).nonzero()[:, 0])


def test_batches_are_as_one(quantizer):
    x = vectors(8, 25)
    whole, parts, mine, yours = (CodebookMonitor(quantizer) for _ in range(4))
    whole.add(x)
    for row in x:
        parts.add(row.unsqueeze(0))
    mine.add(x[:3])
    yours.add(x[3:])
    mine.merge(yours)
    for other in (parts, mine):
        for key, value in whole.report().items():
            assert same(value, other.report()[key]), key


def test_one_batch_at_a_time_understates_usage(quantizer):
    x = vectors(50, 4)
    alone = []
    whole = CodebookMonitor(quantizer)
    for row in x:
        monitor = CodebookMonitor(quantizer)
        monitor.add(row)
        whole.add(row)
        alone.append(monitor.report()["codebooks"][0])
    all_of_it = whole.report()["codebooks"][0]
    assert all_of_it["usage"] > 3 * max(c["usage"] for c in alone)
    assert all_of_it["perplexity"] > 4.0 >= max(c["perplexity"] for c in alone)


def test_padding_is_not_counted(quantizer):
    x, mask = vectors(2, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[1, :4] = False
    padded, alone = CodebookMonitor(quantizer), CodebookMonitor(quantizer)
    padded.add(x.masked_fill(~mask.unsqueeze(-1), float("nan")), mask)
    alone.add(x[mask])
    assert padded.report() == alone.report()
    assert padded.report()["vectors"] == 14
    padded.add(x, torch.zeros_like(mask))
    padded.add(x[:0])
    assert padded.report() == alone.report()


@pytest.mark.parametrize("used", [1, 2, 5, 8])
def test_equal_shares_of_n_codes_have_perplexity_n(used):
    found = coded(torch.arange(used).repeat(7)).report()
    book = found["codebooks"][0]
    assert book["perplexity"] == pytest.approx(used)
    assert book["entropy_bits"] == pytest.approx(math.log2(used))
    assert found["entropy_coded_bits_per_vector"] == pytest.approx(math.log2(used))
    assert (book["used"], book["dead"], book["usage"], book["tokens"]) == (used, 8 - used, used / 8, 7 * used)
    assert found["bits_per_vector"] == 3.0


def test_a_known_distribution():
    book = coded([0] * 4 + [1] * 2 + [2, 3]).report()["codebooks"][0]
    assert book["entropy_bits"] == pytest.approx(1.75)
    assert book["perplexity"] == pytest.approx(2**1.75)


def test_distortion_is_that_of_all_vectors_at_once(quantizer):
    x = 1000 + vectors(6, 30)
    x[:, :15] += 3
    quantizer = VQ(codes=16).fit(x.flatten(0, 1))
    monitor = CodebookMonitor(quantizer)
    for row in x:
        monitor.add(row)
    rows = x.flatten(0, 1).double()
    mse = (rows - quantizer.quantize(x).values.flatten(0, 1).double()).square().mean().item()
    variance = (rows - rows.mean(0)).square().mean().item()
    found = monitor.report()
    assert found["mse"] == pytest.approx(mse, rel=1e-9)
    assert found["variance"] == pytest.approx(variance, rel=1e-9)
    assert found["sqnr_db"] == pytest.approx(10 * math.log10(variance / mse), rel=1e-9)
    assert found["measured_vectors"] == 180


def test_vectors_on_the_grid_have_no_error_and_stay():
    x = vectors(16)
    monitor = CodebookMonitor(VQ(codes=16).fit(x))
    monitor.add(x)
    found = monitor.report()
    assert found["mse"] == 0
    assert found["sqnr_db"] is None
    assert monitor.distortion.sqnr == math.inf
    assert found["idempotence"] == 1.0
    assert Distortion().sqnr != Distortion().sqnr


def test_the_second_round_goes_through_what_is_given(quantizer):
    x = vectors(60)
    codes = quantizer.quantize(x).codes
    stays = (quantizer.quantize(-quantizer.dequantize(codes)).codes == codes).float().mean().item()
    monitor = CodebookMonitor(quantizer)
    monitor.add(x, again=lambda values: -values)
    assert monitor.report()["idempotence"] == pytest.approx(stays)
    assert stays < 0.5
    with pytest.raises(InvalidValue, match="again must give vectors of shape"):
        monitor.add(x, again=lambda values: values[:1])
    assert monitor.report()["vectors"] == 60


def test_a_quantizer_in_training_stays_as_it_is():
    quantizer = VQ(codes=16).build(width=WIDTH)
    with pytest.raises(Unbuilt):
        CodebookMonitor(quantizer).add(vectors(3))
    quantizer.quantize(vectors(50))
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    x = vectors(20).requires_grad_()
    CodebookMonitor(quantizer).add(x)
    assert quantizer.training
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())


def test_half_precision_counts_the_same(quantizer):
    x = vectors(2, 40).bfloat16()
    half, whole = CodebookMonitor(quantizer), CodebookMonitor(quantizer)
    half.add(x)
    whole.add(x.float())
    assert torch.equal(half.tallies[0].dense(), whole.tallies[0].dense())


def test_codebooks_of_any_size_hold_only_what_came():
    tally = Tally(1 << 36)
    for seed in range(3):
        tally.add(torch.randint(1 << 36, (50,), generator=torch.Generator().manual_seed(seed)))
    assert tally.tokens == tally.used == len(tally.counts) == 150
    assert tally.perplexity == pytest.approx(150)
    with pytest.raises(InvalidValue, match="to be listed"):
        tally.dense()


def test_bad_codes_are_refused_and_not_counted():
    monitor = coded([1, -1])
    for wrong in ([[8]], [[-2]], [[1, 1]]):
        with pytest.raises(InvalidValue, match="codes must"):
            monitor.add_codes(torch.tensor(wrong))
    assert monitor.vectors == monitor.tallies[0].tokens == 1
    with pytest.raises(InvalidValue, match="other must have codebooks of"):
        monitor.merge(coded([1], size=4))


def test_a_report_is_json_and_is_shown(quantizer, tmp_path):
    for monitor in (CodebookMonitor(quantizer), coded([1, 1, 2]), CodebookMonitor(quantizer)):
        found = monitor.report()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["schema"] == "tokenry.codebooks/0"
        console = Console(width=120, record=True)
        with console.capture():
            console.print(monitor.table())
    monitor.add(vectors(200))
    console = Console(width=120)
    with console.capture() as said:
        console.print(monitor.table())
    assert "SQNR" in said.get()
    assert f"{monitor.report()['codebooks'][0]['perplexity']:.1f}" in said.get()


def test_a_picture_is_drawn(quantizer, tmp_path):
    monitor = CodebookMonitor(quantizer)
    monitor.plot(tmp_path / "empty.svg")
    monitor.add(vectors(200))
    monitor.plot(tmp_path / "use.png")
    assert (tmp_path / "use.png").stat().st_size > 5000
    with pytest.raises(InvalidValue, match="must end in"):
        monitor.plot(tmp_path / "use.gif")
    assert not (tmp_path / "use.gif").exists()
