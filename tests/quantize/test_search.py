"""The nearest of all codes is found whatever the table looks like, and without a number for each pair."""

from __future__ import annotations

import pytest
import torch

from tokenry.quantize.parts.choice import Stochastic
from tokenry.quantize.search import nearest
from tokenry.quantize.search.beam import beam_search
from tokenry.quantize.search.means import lloyd
from tokenry.quantize.search.nearest import COLUMNS, ROWS, nearest_code


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_differences(x, table):
    """Squared distances in 64-bit floats, without any product of a vector with a code."""
    return torch.stack([(x.double() - code.double()).square().sum(1) for code in table], 1)


def outlier(far):
    table = draw(64, 16)
    table[5] = far
    return draw(500, 16, seed=1), table


def clusters(apart):
    """Every second code and vector stands far from the others."""
    x, table = draw(500, 16, seed=1), draw(64, 16)
    return x + apart * (torch.arange(500) % 2).unsqueeze(1), table + apart * (torch.arange(64) % 2).unsqueeze(1)


def one_wide_axis():
    table = 0.01 * draw(64, 8)
    table[:, 0] = 1e5 * (torch.arange(64) % 3)
    x = table[torch.arange(500) % 64].clone()
    x[:, 1:] += 0.003 * draw(500, 7, seed=1)
    return x, table


AWKWARD = {
    "as usual": (draw(500, 16, seed=1), draw(64, 16)),
    "moved away": (draw(500, 16, seed=1) + 1e4, draw(64, 16) + 1e4),
    **{f"one code at {far:g}": outlier(far) for far in (1e4, 1e5, 1e8, 1e18)},
    **{f"two clusters {apart:g} apart": clusters(apart) for apart in (1e3, 1e5, 1e7)},
    "one wide axis": one_wide_axis(),
    "small beside large": (1e-3 * draw(500, 16, seed=1), torch.cat((1e-3 * draw(64, 16), 1e5 * draw(5, 16, seed=2)))),
    "on the grid": (draw(64, 16)[torch.arange(500) % 64], draw(64, 16)),
}


@pytest.mark.parametrize(("x", "table"), AWKWARD.values(), ids=AWKWARD)
def test_the_nearest_code_is_that_of_all_differences(x, table):
    distances, found = by_differences(x, table), nearest_code(x, table)
    best = distances.min(1)
    # In 32-bit floats distances themselves are rounded.
    near = distances.gather(1, found.unsqueeze(1))[:, 0]
    assert (near <= best.values * (1 + 1e-6)).all()
    assert (found == best.indices).float().mean() > 0.99


@pytest.mark.parametrize(
    ("rows", "codes", "width"), [(0, 3, 2), (1, 1, 1), (7, 5, 3), (ROWS + 1, 300, 16), (300, 2 * COLUMNS + 5, 8)]
)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_blocks_of_all_sizes(rows, codes, width, offset):
    x, table = draw(rows, width) + offset, draw(codes, width, seed=1) + offset
    table[1:2] = -1e6
    found = nearest_code(x, table)
    assert found.shape == (rows,)
    if rows:
        assert torch.equal(found, by_differences(x, table).argmin(1))


def test_the_first_of_equal_codes_is_taken():
    table = torch.zeros(2 * COLUMNS + 1, 3)
    assert not nearest_code(torch.ones(4, 3), table).any()
    twice = draw(300, 5).repeat(2, 1)
    assert (nearest_code(draw(1000, 5, seed=1), twice) < 300).all()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_numbers_that_are_none_have_a_code_all_the_same(wrong):
    """As in a network that has diverged, where whoever trains it must see the loss and not an index out of range."""
    x, table = draw(5, 3), draw(4, 3, seed=1)
    for rows, codes in ((x * wrong, table), (x, table * wrong)):
        found = nearest_code(rows, codes)
        assert ((found >= 0) & (found < 4)).all()


def test_vectors_and_codes_that_are_all_alike_take_no_longer():
    """As of silence, where each of a million pairs would come into question."""
    pairs, compare = [], nearest._nearest_pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            nearest, "_nearest_pair", lambda x, t, row, code: pairs.append(len(row)) or compare(x, t, row, code)
        )
        assert not nearest_code(torch.ones(1000, 3), torch.ones(1000, 3)).any()
        assert sum(pairs) == 1000
        # Copies of which there are few are compared.
        assert (nearest_code(draw(100, 3), draw(50, 3).repeat(2, 1)) < 50).all()
        assert sum(pairs) == 1200


def test_the_search_holds_no_number_for_each_pair():
    """A quarter of a gigabyte of distances is searched in a few megabytes."""
    x, table = draw(4096, 8), draw(16384, 8, seed=1)
    nearest_code(x[:8], table)
    made = []
    original = torch.empty

    def watched(*size, **options):
        out = original(*size, **options)
        made.append(out.numel() * out.element_size())
        return out

    torch.empty = watched
    try:
        nearest_code(x, table)
    finally:
        torch.empty = original
    assert sum(made) <= (ROWS * COLUMNS + len(x) * 2) * 4 + len(x) * 8


def test_a_code_far_away_does_not_disturb_means():
    x, table = draw(500, 8), draw(16, 8, seed=1)
    far = torch.full((1, 8), 1e6)
    assert torch.equal(lloyd(x, torch.cat((table, far)), range(10)), torch.cat((lloyd(x, table, range(10)), far)))


def test_a_code_far_away_does_not_disturb_a_beam():
    x, tables = draw(300, 8), [0.7**m * draw(16, 8, seed=m + 1) for m in range(4)]
    far = [torch.cat((table, torch.full((1, 8), 1e5))) for table in tables]
    assert torch.equal(beam_search(x, far, 4), beam_search(x, tables, 4))
    # Nor do two clusters, of which only one has anything to do with the vectors.
    apart = [torch.cat((table, table + 1e6)) for table in tables]
    assert torch.equal(beam_search(x, apart, 4), beam_search(x, tables, 4))
    moved = [torch.cat((table - 1e4, table + 1e4)) for table in tables[:1]] + tables[1:]
    found = beam_search(x + 1e4, moved, 4)
    assert torch.equal(found[:, 0] >= 16, torch.ones(300, dtype=torch.bool))
    values = sum(table.double()[code] for table, code in zip(moved, found.unbind(1), strict=True))
    other = sum(table.double()[code] for table, code in zip(tables, beam_search(x, tables, 4).unbind(1), strict=True))
    near, usual = ((given.double() - made).square().mean() for given, made in ((x + 1e4, values), (x, other)))
    assert near < 1.01 * usual


def test_a_code_far_away_does_not_disturb_what_is_drawn():
    x, table, choice = draw(2000, 8), draw(16, 8, seed=1), Stochastic(temperature=0.5)
    far, shares = torch.cat((table + 1e6, table)), []
    for codes in (far, table):
        found = choice.codes(x, codes, torch.Generator().manual_seed(0))
        chosen = (x - codes[found]).square().sum(1)
        shares.append(chosen.mean())
    assert shares[0] == pytest.approx(float(shares[1]), rel=0.05)
