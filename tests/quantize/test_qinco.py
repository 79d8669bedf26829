"""QINCo: codebooks that a network makes from the sum before them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import mse_loss
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import parse
from tokenry.quantize.codebooks import implicit_codebook
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.start import KMeans
from tokenry.quantize.qinco import QINCo
from tokenry.quantize.rvq import RVQ
from tokenry.quantize.search.nearest import nearest_code
from tokenry.quantize.vq import VQ


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turned(count, seed=0):
    """Sixteen means, around each of which eight vectors stand, turned as the mean says."""
    means, around = 4 * draw(16, 4, seed=1), draw(8, 4, seed=2)
    turns = torch.stack([torch.linalg.qr(draw(4, 4, seed=10 + i))[0] for i in range(16)])
    generator = torch.Generator().manual_seed(seed)
    i, j = (torch.randint(n, (count,), generator=generator) for n in (16, 8))
    return means[i] + torch.einsum("tde,te->td", turns[i], around[j])


def small(**fields):
    return QINCo(**{"codes": 16, "levels": 3, "hidden": 16, "depth": 2, **fields})


@pytest.fixture(scope="module")
def learned():
    return small().fit(draw(500, 8), iterations=10)


def test_before_networks_have_learned_it_is_rvq():
    rows = draw(300, 8)
    method, plain = small(rate=0.0).fit(rows, iterations=5), RVQ(of=VQ(codes=16), levels=3).fit(rows, iterations=1)
    for level, other in zip(method.stack, plain.stack, strict=True):
        other.book.begin(level.book.table * method.scale)
    found, wanted = method.quantize(draw(200, 8, seed=1)), plain.quantize(draw(200, 8, seed=1))
    assert torch.equal(found.codes, wanted.codes)
    torch.testing.assert_close(found.values, wanted.values)
    built, other = (m.build(width=8) for m in (small(), RVQ(of=VQ(codes=16, update="by_loss"), levels=3)))
    for level, same in zip(built.stack, other.stack, strict=True):
        level.book.begin(same.book.table.data.normal_(generator=torch.Generator().manual_seed(3)))
        same.book.started.fill_(True)
    assert torch.equal(built.quantize(rows).codes, other.eval().quantize(rows).codes)


def test_in_a_network_a_table_begins_with_what_the_ones_before_leave_over():
    method, rows = small().build(width=8), draw(100, 8)
    generator, start = method.draws(), KMeans()
    tables, sums = [], torch.zeros_like(rows)
    for _ in range(3):
        book = Codebook("it", 16, 8, learnt=True)
        start.begin(book, rows - sums, generator)
        tables.append(book.table)
        sums = sums + book.table[nearest_code(rows - sums, book.table)]
    method.quantize(rows)
    for level, table in zip(method.stack, tables, strict=True):
        assert torch.equal(level.book.table, table)


def test_in_a_fit_too():
    rows = draw(500, 8)
    method, plain = small(rate=0.0), RVQ(of=VQ(codes=16), levels=3)
    errors = [float(mse_loss(m.fit(rows, iterations=10).quantize(rows).values, rows)) for m in (method, plain)]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_the_rate_of_a_fit_falls_as_a_cosine():
    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    small(rate=0.5, batch=100).fit(draw(300, 8), iterations=4)
    hook.remove()
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 12)) for step in range(12)])


def test_a_fit_begins_anew():
    method, rows = small().build(width=8), draw(300, 8, seed=1)
    wanted = method.fit(rows, iterations=3).quantize(rows).values
    method.fit(7 * draw(300, 8, seed=2), iterations=3)
    assert torch.equal(method.fit(rows, iterations=3).quantize(rows).values, wanted)


def test_every_step_of_a_fit_is_told(monkeypatch):
    told, shown = [], Passes.shown
    monkeypatch.setattr(Passes, "shown", lambda self, *given: told.append(given) or shown(self, *given))
    taken = []
    hook = register_optimizer_step_pre_hook(lambda *_: taken.append(0))
    small(batch=100).fit(draw(250, 8), iterations=4)
    hook.remove()
    assert [(what, total) for what, _, total in told] == [("k-means", 4)] * 3 + [("networks", 12)]
    assert len(taken) == 12


def test_codes_and_vectors_are_those_of_the_equation(learned):
    """One network over the code and the sum side by side, for every code of every vector."""
    rows = draw(60, 8, seed=1)
    codes, sums = [], torch.zeros(60, 8, dtype=torch.double)
    aim = (rows / learned.scale).double()
    for level in learned.stack:
        table = level.book.table.detach().double()
        every = table.expand(60, -1, -1)
        if hasattr(level, "of_sum"):
            weight = torch.cat((level.of_code.weight, level.of_sum.weight), 1).detach().double()
            beside = torch.cat((every, sums.unsqueeze(1).expand(-1, 16, -1)), -1)
            every = every + beside @ weight.T + level.of_code.bias.detach().double()
            for block in level.blocks:
                hidden = (every @ block.up.weight.detach().double().T).relu()
                every = every + hidden @ block.down.weight.detach().double().T
        code = (aim.unsqueeze(1) - sums.unsqueeze(1) - every).square().sum(-1).argmin(1)
        sums = sums + every[torch.arange(60), code]
        codes.append(code)
    found = learned.quantize(rows)
    assert torch.equal(found.codes, torch.stack(codes, 1))
    torch.testing.assert_close(found.values, (sums * learned.scale).float())
    moved = [level.of_sum.weight for level in learned.stack[1:]]
    assert all(bool(weight.detach().abs().max() > 1e-3) for weight in moved)


def test_small_blocks_of_candidates_give_the_same_codes(learned, monkeypatch):
    rows, sizes, moved = draw(60, 8, seed=1), [], implicit_codebook.ImplicitCodebook._moved
    whole = learned.quantize(rows).codes
    monkeypatch.setattr(
        implicit_codebook.ImplicitCodebook, "_moved", lambda it, x: sizes.append(x.shape) or moved(it, x)
    )
    for numbers, most in ((1, 1), (16 * 16 * 7, 7)):
        monkeypatch.setattr(implicit_codebook, "NUMBERS", numbers)
        sizes.clear()
        assert torch.equal(learned.quantize(rows).codes, whole)
        assert max(shape[0] for shape in sizes if len(shape) == 3) == most


def test_networks_know_what_surrounds_a_mean():
    rows, others = turned(4000), turned(1000, seed=1)
    errors = {}
    for name, method in {
        "networks": QINCo(codes=16, levels=2, hidden=64, depth=2, rate=1e-2, batch=64),
        "tables": RVQ(of=VQ(codes=16), levels=2),
        "one level": VQ(codes=16),
    }.items():
        errors[name] = float(mse_loss(method.fit(rows, iterations=25).quantize(others).values, others))
    assert errors["networks"] < 0.5 * errors["tables"] < 0.5 * errors["one level"]


def test_the_first_codes_are_a_coarser_vector(learned):
    rows = draw(60, 8, seed=1)
    codes = learned.quantize(rows).codes
    errors = []
    for levels in range(4):
        some = codes.clone()
        some[:, levels:] = -1
        errors.append(float(mse_loss(learned.dequantize(some).detach(), rows)))
    assert errors == sorted(errors, reverse=True)
    first = codes.clone()
    first[:, 1:] = -1
    assert torch.equal(learned.dequantize(first), learned.stack[0].book.table[codes[:, 0]] * learned.scale)


def test_one_level_is_a_table():
    rows = draw(300, 8)
    method = small(levels=1).fit(rows, iterations=5)
    plain = VQ(codes=16).build(width=8)
    plain.book.begin(method.stack[0].book.table)
    found = method.quantize(rows)
    assert torch.equal(found.codes, plain.eval().quantize(rows / method.scale).codes)
    assert torch.equal(found.values, plain.table[found.codes[:, 0]] * method.scale)


def test_who_learns_from_which_loss():
    method, rows = small().build(width=8), draw(100, 8).requires_grad_()
    found = method.quantize(rows)
    weights = dict(method.named_parameters())
    by_codebook = torch.autograd.grad(
        found.losses["codebook"], [*weights.values(), rows], retain_graph=True, allow_unused=True
    )
    # What is behind a map that is still nothing gets its gradient when that one has moved.
    later = {name for name in weights if ".up." in name}
    assert {n for n, g in zip(weights, by_codebook, strict=False) if g is None or not g.any()} == later
    assert by_codebook[-1] is None
    by_commitment = torch.autograd.grad(found.losses["commitment"], [*weights.values(), rows], allow_unused=True)
    assert all(g is None for g in by_commitment[:-1])
    assert by_commitment[-1].any()
    (slope,) = torch.autograd.grad(method.quantize(rows).values.sum(), rows)
    assert torch.equal(slope, torch.ones_like(rows))


def test_sizes_of_vectors_do_not_matter():
    rows = draw(300, 8)
    one = small().fit(rows, iterations=5)
    for factor in (2.0**-12, 2.0**12):
        other = small().fit(rows * factor, iterations=5)
        assert torch.equal(other.quantize(rows * factor).codes, one.quantize(rows).codes)


def test_it_learns_as_part_of_another():
    method = parse("pq:of=qinco[codes=16,levels=2,hidden=16,depth=1],blocks=2").fit(draw(300, 8), iterations=3)
    assert method.quantize(draw(20, 8, seed=1)).codes.shape == (20, 4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"levels": 5000}, "qinco: must have at most 4096 codebooks; got 5000"),
        ({"depth": 65}, r"QINCo: depth must be in \[0, 64\]; got 65"),
        ({"commitment": -1.0}, "QINCo: commitment must be in"),
        ({"rate": 2.0}, "QINCo: rate must be in"),
    ],
)
def test_bad_fields_are_refused(fields, words):
    with pytest.raises(InvalidValue, match=words):
        small(**fields)


def test_too_large_networks_are_refused_and_tables_without_vectors_too():
    with pytest.raises(InvalidValue, match="maps must have at most"):
        small(hidden=1 << 26).build(width=8)
    empty = small().build(width=8).eval()
    with pytest.raises(Unbuilt):
        empty.quantize(draw(3, 8))
    with pytest.raises(Unbuilt):
        empty.dequantize(torch.zeros(3, 3, dtype=torch.long))
