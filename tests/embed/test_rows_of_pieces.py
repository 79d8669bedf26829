"""Rows that need no training: the last piece, pieces by length, copies alone, and orthogonal matching pursuit."""

from __future__ import annotations

import pytest
import torch

from tests.embed.embed_models import NEW_TEXT, OLD_TEXT, model, trained
from tokenry.embed.last_piece import LastPiece
from tokenry.embed.length_weighted import LengthWeighted
from tokenry.embed.lexical_copy import LexicalCopy
from tokenry.embed.matching_pursuit import MatchingPursuit
from tokenry.embed.transfer.donor import Donor, silent
from tokenry.embed.transfer.pursuit import pursue
from tokenry.models.text.embeddings import save

PIECES = [b" lightkeeper", b"darkened", b" Nobody"]


@pytest.fixture(params=["llama", "gemma2"])
def donor(request):
    return Donor.of(model(request.param, trained(OLD_TEXT, bos_token="<s>")))


def test_each_is_its_equation(donor):
    last, long, copied = (m.table(PIECES, donor) for m in (LastPiece(), LengthWeighted(), LexicalCopy()))
    for n, (piece, ids) in enumerate(zip(PIECES, donor.cut(PIECES), strict=True)):
        assert len(ids) > 1
        for matrix, at in ((donor.input, 0), (donor.output, 1)):
            if matrix is not None:
                assert torch.equal(last[at][n], matrix[ids[-1]].float())
                share = torch.tensor([len(donor.vocabulary[i]) / len(piece) for i in ids])
                torch.testing.assert_close(long[at][n], share @ matrix[ids].float())
                torch.testing.assert_close(copied[at][n], matrix.float().mean(0))


def test_pursuit_finds_the_sum_that_there_is():
    chance = torch.Generator().manual_seed(0)
    atoms = torch.randn(40, 24, generator=chance)
    weights = torch.tensor([2.0, -1.0, 0.5])
    wanted = torch.stack((weights @ atoms[[3, 17, 30]], atoms[5], torch.zeros(24)))
    new, old, found = pursue(wanted, atoms, 8, silent)
    rebuilt = torch.zeros(3, 24).index_add(0, new, found[:, None] * atoms[old])
    torch.testing.assert_close(rebuilt, wanted, rtol=1e-4, atol=1e-4)
    mine = {int(i): float(w) for n, i, w in zip(new, old, found, strict=True) if n == 0 and abs(w) > 1e-3}
    assert mine == pytest.approx({3: 2.0, 17: -1.0, 30: 0.5}, abs=1e-3)
    assert [int(i) for n, i in zip(new, old, strict=True) if n == 1] == [5]
    assert 2 not in new


def test_one_atom_has_the_largest_product_and_the_rest_is_orthogonal():
    chance = torch.Generator().manual_seed(1)
    atoms, wanted = torch.randn(60, 16, generator=chance), torch.randn(5, 16, generator=chance)
    _, first, _ = pursue(wanted, atoms, 1, silent)
    assert torch.equal(first, (wanted @ atoms.T).abs().argmax(1))
    new, old, weight = pursue(wanted, atoms, 4, silent)
    for n in range(5):
        mine = new == n
        best = torch.linalg.lstsq(atoms[old[mine]].T, wanted[n][:, None]).solution[:, 0]
        torch.testing.assert_close(weight[mine], best, rtol=1e-3, atol=1e-3)
    assert pursue(wanted[:0], atoms, 4, silent)[0].numel() == 0


def test_the_pursuit_is_that_of_tokensurgeon():
    """Choices and weights of mergekit's `batch_omp`, written down anew, where no two atoms are the same."""
    chance = torch.Generator().manual_seed(2)
    atoms = torch.randn(80, 24, generator=chance) * torch.rand(80, 1, generator=chance).add(0.2)
    wanted = torch.randn(7, 24, generator=chance)
    new, old, weight = pursue(wanted, atoms, 9, silent)
    for n in range(7):
        chosen, left = [], wanted[n]
        for _ in range(9):
            near = (left @ atoms.T).abs()
            near[chosen] = -1
            chosen.append(int(near.argmax()))
            fit = torch.linalg.lstsq(atoms[chosen].T, wanted[n][:, None]).solution[:, 0]
            left = wanted[n] - fit @ atoms[chosen]
        assert old[new == n].tolist() == chosen
        torch.testing.assert_close(weight[new == n], fit, rtol=1e-4, atol=1e-4)


def test_where_nothing_is_left_no_more_is_chosen():
    """Equal atoms would otherwise get weights without bound."""
    chance = torch.Generator().manual_seed(3)
    atoms = torch.nn.functional.normalize(torch.randn(20, 8, generator=chance), dim=1).repeat(2, 1)
    new, old, weight = pursue(atoms[:3].clone(), atoms, 6, silent)
    assert (new.tolist(), weight.tolist()) == ([0, 1, 2], pytest.approx([1.0] * 3))
    assert (old % 20).tolist() == [0, 1, 2]


def test_a_model_of_the_new_vocabulary_is_the_space(donor, tmp_path):
    new = trained(NEW_TEXT, 330, bos_token="<s>")
    other = model("llama", new)
    save(other, tmp_path / "other")
    method = MatchingPursuit(model=str(tmp_path / "other"), atoms=100)
    pieces = [p for p in Donor.of(other).ids if p not in donor.ids][:4]
    assert pieces
    mixed = method.mixture(pieces, donor)
    theirs = Donor.of(other)
    for n, piece in enumerate(pieces):
        mine = mixed.new == n
        made = (
            mixed.weight[mine] @ theirs.input[[theirs.ids[donor.vocabulary[int(i)]] for i in mixed.old[mine]]].float()
        )
        torch.testing.assert_close(made, theirs.input[theirs.ids[piece]].float(), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(method.table([b"nobody has it"], donor).input[0], donor.input.float().mean(0))
