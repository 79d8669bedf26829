"""MultiScale: windows of neighbours have codes together, and rates count each of these once."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool1d, conv1d, mse_loss, normalize, pad

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import load, parse
from tokenry.quantize.multi_scale import MultiScale
from tokenry.quantize.parts.metric import Direction
from tokenry.quantize.parts.revival import Never
from tokenry.quantize.parts.update import ByLoss
from tokenry.quantize.parts.windows import Blocks, cut, first_of, means
from tokenry.quantize.projected import Projected
from tokenry.quantize.rvq import RVQ
from tokenry.quantize.usage.monitor import CodebookMonitor
from tokenry.quantize.vq import VQ


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def smooth(count, width=8, seed=0):
    """Vectors that change slowly, with a little that changes quickly."""
    slow = draw(count // 8 + 1, width, seed=seed).repeat_interleave(8, 0)[:count]
    return slow + 0.3 * draw(count, width, seed=seed + 1)


def small(**fields):
    return MultiScale(**{"of": VQ(codes=16), "strides": (4, 2, 1), **fields})


def ragged():
    """Two rows of 16 places: all real, and eleven real ones behind five of padding."""
    x, mask = draw(2, 16, 8), torch.ones(2, 16, dtype=torch.bool)
    mask[1, :5] = False
    return x, mask


@pytest.mark.parametrize("fields", [{}, {"shared": True}, {"of": Projected(of=VQ(codes=16), channels=3)},
                                    {"gradient": "rotation_trick"}])  # fmt: skip
def test_with_strides_of_one_it_is_rvq(fields):
    rows, (x, mask) = draw(300, 8), ragged()
    of = fields.pop("of", VQ(codes=16))
    one, other = MultiScale(of=of, strides=(1, 1, 1), **fields), RVQ(of=of, levels=3, **fields)
    for fitted in (True, False):
        one, other = one.from_dict(one.to_dict()), other.from_dict(other.to_dict())
        for method in (one, other):
            method.fit(rows, iterations=4) if fitted else method.build(width=8)
            method.train()
        for seed in range(3):
            found = []
            for method in (one, other):
                given = (x + seed).requires_grad_()
                made = method.quantize(given, mask)
                (made.values.square().sum() + made.loss).backward()
                found.append((made.values, made.codes, made.loss, given.grad))
            for mine, theirs in zip(*found, strict=True):
                assert torch.equal(mine, theirs)
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_every_level_quantizes_the_mean_of_what_is_left_over():
    method, x = small().fit(draw(400, 8)), draw(3, 16, 8, seed=1)
    found, left = method.quantize(x), x
    for m, (level, stride) in enumerate(zip(method.stack, (4, 2, 1), strict=True)):
        pooled = avg_pool1d(left.transpose(1, 2), stride, stride).transpose(1, 2)
        codes = torch.cdist(pooled, level.table).argmin(-1)
        assert torch.equal(codes.repeat_interleave(stride, 1), found.codes[..., m])
        left = left - level.table[codes].repeat_interleave(stride, 1)
    torch.testing.assert_close(x - left, found.values)


def test_windows_begin_at_the_first_real_vector_of_each_row():
    method, (x, mask) = small().fit(draw(400, 8)), ragged()
    found = method.quantize(x, mask)
    alone = method.quantize(x[1:, 5:])
    assert torch.equal(found.codes[1:, 5:], alone.codes)
    assert torch.equal(found.values[1:, 5:], alone.values)
    behind = method.quantize(x[1:].roll(-5, 1), mask[1:].roll(-5, 1))
    assert torch.equal(behind.codes[:, :11], alone.codes)
    # Eleven vectors are windows of 4, 4 and 3.
    assert [len(found.codes[1, a:b, 0].unique()) for a, b in ((5, 9), (9, 13), (13, 16))] == [1, 1, 1]


def test_windows_and_their_means():
    _, mask = ragged()
    window = cut(mask, small().windows, 4)
    assert window.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6]
    assert first_of(window).tolist() == [0, 4, 8, 12, 16, 20, 24]
    rows = draw(27, 3)
    torch.testing.assert_close(means(rows, window)[6], rows[24:].mean(0))
    assert cut(torch.tensor(True), small().windows, 4).tolist() == [0]
    assert cut(torch.ones(2, 0, dtype=torch.bool), small().windows, 4).tolist() == []


@pytest.mark.parametrize("columns", [1, 5, 6])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_blocks_are_squares(columns, stride):
    places = torch.arange(4 * columns)
    window = Blocks(columns=columns).of(places, stride)
    assert (window <= places).all()
    y, x = places // columns // stride, places % columns // stride
    together = (y.unsqueeze(1) == y) & (x.unsqueeze(1) == x)
    assert torch.equal(window.unsqueeze(1) == window, together)
    assert int(torch.bincount(window).max()) == Blocks(columns=columns).size(stride)


def test_blocks_take_the_mean_of_a_picture():
    method = small(strides=(4, 2, 1), windows=Blocks(columns=8)).fit(draw(640, 8))
    x = draw(2, 64, 8, seed=1)
    picture = x.transpose(1, 2).unflatten(2, (8, 8))
    pooled = torch.nn.functional.avg_pool2d(picture, 4).flatten(2).transpose(1, 2)
    codes = torch.cdist(pooled, method.stack[0].table).argmin(-1).unflatten(1, (2, 2))
    expected = codes.repeat_interleave(4, 1).repeat_interleave(4, 2).flatten(1)
    assert torch.equal(method.quantize(x).codes[..., 0], expected)
    assert method.repeats == (16, 4, 1)


def test_rates_are_those_of_the_published_codec():
    """24,000 samples a second, a vector for each 512, 4,096 codes: 82 tokens and 0.98 kbit a second, not 141 tokens."""
    method = MultiScale(of=VQ(codes=4096), strides=(4, 2, 1))
    vectors = 24_000 / 512
    assert vectors * method.tokens == pytest.approx(82.03, abs=0.01)
    assert vectors * method.bits == pytest.approx(984.4, abs=0.1)
    assert method.tokens < len(method.codebook_sizes) == 3
    assert RVQ(of=VQ(codes=4096), levels=3).tokens == 3


def test_what_is_sent_has_each_code_once():
    method, (x, mask) = small().fit(draw(400, 8)), ragged()
    codes = method.quantize(x, mask).codes
    sent = method.sent(codes)
    # 16 and 11 vectors: 4 + 3, 8 + 6 and 16 + 11 windows.
    assert (sent >= 0).sum((0, 1)).tolist() == [7, 14, 27]
    assert torch.equal(sent[sent >= 0], codes[sent >= 0])
    assert torch.equal(method.received(sent), codes)
    # Of a prefix only who knows the mask can tell padding from vectors without a code.
    prefix = codes.clone()
    prefix[..., 1:] = -1
    assert torch.equal(method.received(method.sent(prefix), mask), prefix)
    assert torch.equal(method.sent(sent[..., :0].new_full(codes.shape, -1)), torch.full_like(codes, -1))
    plain = RVQ(of=VQ(codes=16), levels=2)
    some = torch.tensor([[1, 2], [-1, -1]])
    assert torch.equal(plain.sent(some), some)
    with pytest.raises(InvalidValue, match="mask must be of shape"):
        method.received(sent, mask[:1])
    with pytest.raises(InvalidValue, match="codes must be in"):
        method.sent(codes + 16)


def test_the_monitor_counts_each_code_once():
    method, (x, mask) = small().fit(draw(400, 8)), ragged()
    monitor = CodebookMonitor(method)
    monitor.add(x, mask)
    found = monitor.report()
    assert found["vectors"] == 27
    assert [c["tokens"] for c in found["codebooks"]] == [7, 14, 27]
    assert found["tokens_per_vector"] == pytest.approx(48 / 27)
    assert found["bits_per_vector"] == 4 * 1.75
    first = method.quantize(x, mask)
    sent, again = method.sent(first.codes), method.quantize(first.values, mask).codes
    stays = [float((again == sent)[mask & (sent[..., m] >= 0)][:, m].float().mean()) for m in range(3)]
    assert [c["idempotence"] for c in found["codebooks"]] == pytest.approx(stays)
    assert min(stays) < 1
    entropies = [c["tokens"] * c["entropy_bits"] for c in found["codebooks"]]
    assert found["entropy_coded_bits_per_vector"] == pytest.approx(sum(entropies) / 27)


def test_a_prefix_is_a_coarser_vector():
    method = small().fit(smooth(800))
    x = smooth(160, seed=5)
    codes = method.quantize(x).codes
    errors = [mse_loss(method.dequantize(pad(codes[:, :n], (0, 3 - n), value=-1)), x) for n in range(4)]
    assert errors[0] > errors[1] > errors[2] > errors[3]


def test_neighbours_that_are_alike_are_worth_a_code_together():
    """At fewer bits it loses less than `rvq`, and more where the same vectors stand in any order."""
    rows, others = smooth(4000), smooth(800, seed=7)
    method = MultiScale(of=VQ(codes=32), strides=(8, 1)).fit(rows, iterations=10)
    plain = RVQ(of=VQ(codes=8), levels=2).fit(rows, iterations=10)
    assert method.bits == 5 * 1.125 < plain.bits == 6
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))
    mine, theirs, shuffled = (
        mse_loss(m.quantize(x).values, x) for m, x in ((method, others), (plain, others), (method, others[order]))
    )
    assert mine < 0.8 * theirs
    assert shuffled > 2 * mine


def test_the_gradient_passes_once_and_losses_go_through_the_means():
    method = small().fit(draw(300, 8))
    z = draw(6, 8, seed=1)
    for training in (False, True):
        method.train(training)
        slope = torch.autograd.functional.jacobian(lambda v: method.quantize(v).values, z)
        assert torch.equal(slope.view(48, 48), torch.eye(48))
    tables = [level.table.clone() for level in method.stack]
    given = z.clone().requires_grad_()
    found = method.quantize(given)
    (mine,) = torch.autograd.grad(found.loss, given)
    again, left, loss = z.clone().requires_grad_(), 0, 0
    for m, (table, stride) in enumerate(zip(tables, (4, 2, 1), strict=True)):
        seen = torch.stack([part.mean(0) for part in (again - left).split(stride)])
        values = table[found.codes[::stride, m]]
        loss = loss + 0.25 * mse_loss(seen, values)
        left = left + values.repeat_interleave(stride, 0)[:6]
    torch.testing.assert_close(found.loss, loss)
    torch.testing.assert_close(mine, torch.autograd.grad(loss, again)[0])


@pytest.mark.parametrize("strides", [(4, 2, 1), (1, 1, 1)])
def test_levels_of_few_numbers_are_those_of_audio_codecs(strides):
    """SNAC, and DAC with strides of one: maps around each level, codes by direction, and rows with their lengths."""
    of = Projected(of=VQ(codes=16, metric=Direction(), update=ByLoss(), revive=Never()), channels=3)
    method = small(of=of, strides=strides).fit(draw(300, 8)).train()
    x = draw(2, 16, 8, seed=1).requires_grad_()
    tables = [level.of.book.table.detach().clone() for level in method.stack]
    assert not torch.allclose(tables[0].norm(dim=1), torch.ones(16), atol=0.1)
    made = method.quantize(x)
    left, total, losses = x.detach().transpose(1, 2), 0, 0
    for m, (level, table, stride) in enumerate(zip(method.stack, tables, strides, strict=True)):
        low = conv1d(avg_pool1d(left, stride, stride), level.down.weight.unsqueeze(-1), level.down.bias)
        near = torch.einsum("bdt,cd->btc", normalize(low, dim=1), normalize(table, dim=1)).argmax(2)
        rows = table[near].transpose(1, 2)
        assert torch.equal(near.repeat_interleave(stride, 1), made.codes[..., m])
        losses = losses + 1.25 * mse_loss(low, rows)
        high = conv1d(rows, level.up.weight.unsqueeze(-1), level.up.bias).repeat_interleave(stride, 2)
        left, total = left - high, total + high
    torch.testing.assert_close(made.values, total.transpose(1, 2))
    torch.testing.assert_close(made.loss, losses)
    (made.values.square().sum() + made.loss).backward()
    for level in method.stack:
        assert all(p.grad.any() for p in (level.up.weight, level.down.weight, level.of.book.table))


def test_one_table_for_all_scales(tmp_path):
    method = small(shared=True, windows="blocks[columns=4]").fit(draw(320, 8), iterations=4)
    assert len(method.stack) == 1
    found = method.quantize(draw(2, 16, 8, seed=1))
    torch.testing.assert_close(method.stack[0].table[found.codes].sum(-2), found.values)
    method.save(tmp_path / "q")
    assert torch.equal(load("multi_scale").load(tmp_path / "q").dequantize(found.codes), found.values)


@pytest.mark.parametrize("strides", [(4, 2), (1, 2, 1), (2,)])
def test_strides_must_fall_to_one(strides):
    with pytest.raises(InvalidValue, match="multi_scale: strides must not grow, and end with 1; got"):
        MultiScale(strides=strides)


def test_it_stands_in_no_other_quantizer():
    for owner in ("rvq", "pq", "projected", "multi_scale"):
        with pytest.raises(InvalidValue, match=r"fsq, pq, projected, qinco, rvq, vq; got quantize/multi_scale\."):
            parse(f"{owner}:of=multi_scale")
    with pytest.raises(InvalidValue, match="multi_scale: must have at most 4096 codebooks"):
        MultiScale(of=RVQ(levels=4096), strides=(2, 1))
    line = "quantize/multi_scale:strides=4+1,windows=blocks[columns=3]"
    assert str(parse(line)) == line
