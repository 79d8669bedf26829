"""PQ cuts vectors into blocks: errors add up, distances come from tables, and rotations are orthogonal."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import mse_loss

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.rotation import OPQ, RandomRotation, dealt, one_round
from tokenry.quantize.pq import PQ
from tokenry.quantize.rvq import RVQ
from tokenry.quantize.search.means import drawn
from tokenry.quantize.vq import VQ


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(count, width=8, seed=0):
    """Vectors of which a few directions hold most, mixed over all numbers."""
    return (draw(count, width, seed=seed) * 0.5 ** torch.arange(width)) @ draw(width, width, seed=100)


def small(**fields):
    return PQ(**{"of": VQ(codes=16), "blocks": 4, **fields})


def orthogonal(turn):
    torch.testing.assert_close(turn @ turn.T, torch.eye(len(turn)), atol=1e-5, rtol=0)


def test_one_block_is_the_quantizer_itself():
    rows, z = draw(300, 6), draw(2, 20, 6, seed=1)
    one, other = small(blocks=1).fit(rows), VQ(codes=16).fit(rows)
    for training in (False, True):
        mine, theirs = one.train(training).quantize(z), other.train(training).quantize(z)
        assert torch.equal(mine.codes, theirs.codes)
        assert torch.equal(mine.values, theirs.values)
        torch.testing.assert_close(mine.loss, theirs.loss)


@pytest.mark.parametrize("rotation", ["unrotated", "opq[rounds=3]", "random_rotation"])
def test_the_error_is_the_sum_of_the_errors_of_the_blocks(rotation):
    rows, z = draw(300, 8), draw(40, 8, seed=1)
    method = small(rotation=rotation).fit(rows)
    found = method.quantize(z)
    turned = z if method.turn is None else z @ method.turn
    errors = 0
    for block, cut, codes in zip(method.stack, turned.chunk(4, 1), found.codes.T, strict=True):
        distances = torch.cdist(cut, block.table)
        assert torch.equal(distances.argmin(1), codes)
        errors = errors + distances.amin(1) ** 2
    torch.testing.assert_close((z - found.values).square().sum(1), errors, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("line", ["pq:of=vq[codes=16],blocks=4", "pq:of=vq[codes=16],blocks=2,rotation=opq[rounds=2]",
                                  "pq:of=vq[codes=16],blocks=2,shared=true",
                                  "pq:of=fsq[levels=3+3+3],blocks=2"])  # fmt: skip
def test_distances_come_from_tables(line):
    rows = draw(300, 8)
    method = parse(line).fit(rows)
    queries, codes = 3 * draw(20, 8, seed=1), method.quantize(rows).codes
    expected = (queries.unsqueeze(1) - method.dequantize(codes)).square().sum(-1)
    torch.testing.assert_close(method.distances(queries, codes), expected, atol=1e-4, rtol=1e-5)
    assert method.distances(queries.bfloat16(), codes).dtype == torch.float32
    codes[3] = -1
    assert torch.isinf(method.distances(queries, codes)).nonzero()[:, 1].unique().tolist() == [3]


def test_distances_refuse():
    method = small().fit(draw(50, 8))
    codes = method.quantize(draw(5, 8)).codes
    with pytest.raises(InvalidValue, match="vectors must be floats of width 8"):
        method.distances(draw(3, 7), codes)
    with pytest.raises(InvalidValue, match="codes must be in"):
        method.distances(draw(3, 8), codes + 16)
    grouped = small(of=RVQ(of=VQ(codes=4), levels=2)).fit(draw(50, 8))
    with pytest.raises(InvalidValue, match="pq: distances must be over blocks of one codebook; use dequantize"):
        grouped.distances(draw(3, 8), grouped.quantize(draw(5, 8)).codes)


def test_a_rotation_is_learnt_without_ever_losing_more():
    rows = correlated(1000)
    turn, generator = dealt(rows, 4), torch.Generator().manual_seed(0)
    tables = [drawn(part, 16, generator) for part in (rows @ turn).chunk(4, 1)]
    errors = []
    for _ in range(20):
        turn, tables, error = one_round(rows, turn, tables)
        orthogonal(turn)
        errors.append(float(error))
    assert all(after <= before + 1e-7 for before, after in pairwise(errors))
    assert errors[-1] < 0.8 * errors[0]


def test_opq_loses_less_where_numbers_are_correlated():
    rows, others = correlated(2000), correlated(500, seed=1)
    errors = {
        rotation: mse_loss(small(rotation=rotation).fit(rows).quantize(others).values, others)
        for rotation in ("unrotated", "random_rotation", "opq")
    }
    assert errors["opq"] < 0.8 * min(errors["unrotated"], errors["random_rotation"])
    # The order of the numbers has no influence on it.
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    shuffled = mse_loss(small(rotation="opq").fit(rows[:, order]).quantize(others[:, order]).values, others[:, order])
    assert shuffled == pytest.approx(float(errors["opq"]), rel=0.1)


def test_a_rotation_is_learnt_with_few_codes_whatever_the_blocks_have():
    turn = OPQ(rounds=2).learn(draw(50, 8), torch.eye(8), 2, 1 << 40, torch.Generator().manual_seed(0), Passes(1))
    orthogonal(turn)


def test_directions_are_dealt_to_blocks_of_alike_products():
    rows = draw(5000, 6) * torch.tensor([32.0, 16, 8, 4, 2, 1])
    turn = dealt(rows, 2)
    orthogonal(turn)
    logs = (rows @ turn).var(0).log().view(2, 3).sum(1)
    assert (logs[0] - logs[1]).abs() < 1.5


def test_rotations_before_and_after_learning():
    rows = draw(100, 8)
    assert torch.equal(small(rotation=OPQ()).build(width=8).turn, torch.eye(8))
    learnt = small(rotation=OPQ(rounds=0)).fit(rows)
    orthogonal(learnt.turn)
    assert not torch.equal(learnt.turn, torch.eye(8))
    method = small(rotation=RandomRotation()).build(width=8)
    turn = method.turn.clone()
    orthogonal(turn)
    method.quantize(rows)
    method.fit(rows)
    assert torch.equal(method.turn, turn)
    assert small().build(width=8).turn is None


def test_rotations_come_back_in_every_direction():
    """All rotations are equally likely: numbers of the matrix have mean zero and variance 1/E."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    turns = torch.stack([RandomRotation().begin(4) for _ in range(3000)])
    torch.set_rng_state(state)
    torch.testing.assert_close(turns.mean(0), torch.zeros(4, 4), atol=0.04, rtol=0)
    torch.testing.assert_close(turns.square().mean(0), torch.full((4, 4), 0.25), atol=0.02, rtol=0)


def test_groups_of_residual_levels():
    rows = draw(500, 8)
    method = PQ(of=RVQ(of=VQ(codes=16), levels=3), blocks=2).fit(rows)
    found = method.quantize(rows)
    assert method.codebook_sizes == (16,) * 6
    for at, (block, cut) in enumerate(zip(method.stack, rows.chunk(2, 1), strict=True)):
        alone = block.quantize(cut)
        assert torch.equal(alone.codes, found.codes[:, 3 * at : 3 * at + 3])
        assert torch.equal(alone.values, found.values[:, 4 * at : 4 * at + 4])
    coarse = found.codes.clone()
    coarse[:, [2, 4, 5]] = -1
    first, second = method.stack
    expected = torch.cat((
        first.dequantize(coarse[:, :3]), second.stack[0].table[found.codes[:, 3]],
    ), 1)  # fmt: skip
    assert torch.equal(method.dequantize(coarse), expected)


def test_dropout_of_groups_is_drawn_by_each():
    method = PQ(of=RVQ(of=VQ(codes=4), levels=4, dropout=1.0), blocks=2).build(width=8)
    rows = draw(50, 8)
    depths = set()
    for _ in range(20):
        found = method.quantize(rows)
        depths.add(tuple((found.codes.view(50, 2, 4) >= 0).sum(-1)[0].tolist()))
        assert found.values.isfinite().all()
    assert any(one != other for one, other in depths)


def test_one_quantizer_for_all_blocks():
    rows = draw(200, 8)
    method = small(shared=True).fit(rows)
    assert len(method.stack) == 1
    found = method.quantize(rows)
    assert torch.equal(method.stack[0].table[found.codes].flatten(1), found.values)
    # It learns from all blocks at once.
    assert torch.equal(method.stack[0].book.counts.sum(), torch.tensor(800.0))


def test_losses_are_means_over_blocks():
    rows = draw(200, 8)
    for shared in (False, True):
        method = small(shared=shared).fit(rows).train()
        found = method.quantize(rows)
        torch.testing.assert_close(found.losses["commitment"], 0.25 * mse_loss(found.values, rows))


@pytest.mark.parametrize("rotation", ["unrotated", "random_rotation"])
def test_the_gradient_is_copied(rotation):
    method = small(rotation=rotation).fit(draw(100, 8))
    slope = torch.autograd.functional.jacobian(lambda v: method.quantize(v).values, draw(8))
    torch.testing.assert_close(slope, torch.eye(8), atol=1e-5, rtol=0)


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(InvalidValue, match="pq: width must be divisible by blocks=4; got 10; choose other blocks"):
        small().build(width=10)
    with pytest.raises(InvalidValue, match="pq: must have at most 4096 codebooks; got 10000"):
        small(blocks=10_000)
    with pytest.raises(InvalidValue, match="pq: a rotation must have at most"):
        small(rotation="opq").build(width=1 << 20)
    method = small().fit(draw(50, 8))
    with pytest.raises(InvalidValue, match="pq: codes must be there for every block of a vector; some are missing"):
        method.dequantize(torch.tensor([[1, -1, 2, 3]]))
    with pytest.raises(InvalidValue, match="PQ: rotation must be one of opq, random_rotation, unrotated"):
        small(rotation="euclidean")
