"""TokenAdapt: both parts are the equations, weights sum to one, what has no part, and vectors that are kept."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from tests.embed.embed_models import NEW_TEXT, OLD_TEXT, described, model, trained
from tokenry.core.errors import InvalidValue
from tokenry.embed.mean_of_pieces import MeanOfPieces
from tokenry.embed.token_adapt import TokenAdapt
from tokenry.embed.transfer import neighbours, surfaces
from tokenry.embed.transfer.donor import Donor, silent
from tokenry.embed.transfer.neighbours import nearest
from tokenry.embed.transfer.surfaces import fingerprint, read
from tokenry.embed.transfer.transplant import Transplant
from tokenry.models.files.load import load_encoder

pytestmark = pytest.mark.usefixtures("minilm")
PIECES = [b" lightkeeper", b"darkened", b" Nobody", b" knows"]
PART, SPACE, UNKNOWN = b"\xe6\x97", b" \n ", "\u20bf\u20bf".encode()


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(surfaces, "folder", lambda: tmp_path / "surfaces")
    return tmp_path / "surfaces"


@pytest.fixture(params=["llama", "gemma2"])
def donor(request):
    return Donor.of(model(request.param, trained(OLD_TEXT, bos_token="<s>")))


@cache
def vector(text):
    """The mean of the encoder's states, as a plain forward gives them."""
    encoder = load_encoder("minilm")
    with torch.no_grad():
        states = encoder.model(**encoder.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return normalize(states.float().mean(0), dim=0)


def local(piece, donor, matrix, temperature=0.3):
    ids = donor.tokenizer(piece.decode())["input_ids"]
    parts = [donor.vocabulary[i] for i in ids]
    known = [part.decode().strip() for part in parts]
    alike = torch.stack(
        [cosine_similarity(vector(piece.decode()), vector(p), dim=0) if p else torch.tensor(0.0) for p in known]
    )
    share = torch.tensor([len(part) / len(piece) for part in parts])
    weights = ((alike.softmax(0) + share) / 2 / temperature).softmax(0)
    return weights @ matrix[ids].float()


def world(piece, donor, matrix, k=3, temperature=0.3):
    known = {}
    for i, other in enumerate(donor.vocabulary):
        text = surfaces.text_of(other)
        if text is not None and text.isascii() and text.isprintable() and text.strip():
            known.setdefault(text.strip().lower(), []).append(i)
    similar = {text: float(vector(text) @ vector(piece.decode())) for text in known}
    ranked = sorted(similar, key=similar.get, reverse=True)
    chosen = [(i, similar[text]) for text in ranked for i in known[text]][:k]
    weights = torch.tensor([s / temperature for _, s in chosen]).softmax(0)
    return weights @ matrix[[i for i, _ in chosen]].float()


@pytest.mark.parametrize("piece", PIECES, ids=bytes.decode)
def test_both_parts_are_the_equations(donor, piece):
    matrices = [donor.input, *([] if donor.output is None else [donor.output])]
    for weight in (0.0, 1.0, 0.3):
        rows = TokenAdapt(weight=weight).table([piece], donor)
        for matrix, made in zip(matrices, rows, strict=False):
            by_hand = (1 - weight) * local(piece, donor, matrix) + weight * world(piece, donor, matrix)
            torch.testing.assert_close(made[0], by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_weights_sum_to_one(donor, weight):
    pieces = [*PIECES, PART, SPACE]
    mixture = TokenAdapt(weight=weight, neighbours=7).mixture(pieces, donor)
    sums = torch.zeros(len(pieces)).index_add(0, mixture.new, mixture.weight)
    torch.testing.assert_close(sums, torch.ones(len(pieces)))
    assert bool((mixture.weight >= 0).all())


def test_matrices_apart_get_the_same_weights():
    language = model("llama", trained(OLD_TEXT))
    with torch.no_grad():
        language.model.lm_head.weight.copy_(2 * language.model.model.embed_tokens.weight + 1)
    rows = TokenAdapt().table(PIECES, Donor.of(language))
    torch.testing.assert_close(rows.output, 2 * rows.input + 1)


def test_what_the_encoder_cannot_read_has_no_neighbours(donor):
    pieces = [PART, SPACE, UNKNOWN]
    assert torch.equal(TokenAdapt(weight=1).table(pieces, donor).input, TokenAdapt(weight=0).table(pieces, donor).input)
    old, new = (read(load_encoder("minilm"), p, silent) for p in (donor.vocabulary.pieces, pieces))
    assert new.row.tolist() == [-1, -1, -1]
    assert len(nearest(new, old, 3, -1.0, silent)[0]) == 0
    blind = {donor.vocabulary[i] for i, row in enumerate(old.row.tolist()) if row < 0}
    assert {b" ", b"\xe6", b"\n", None} <= blind, "none of these is anyone's neighbour"
    assert not {b"a", b" the", b"."} & blind


def test_a_part_of_a_character_is_cut_into_bytes(donor):
    ids = donor.cut([PART])[0]
    assert donor.vocabulary.spell(ids) == PART
    row = TokenAdapt().table([PART], donor).input[0]
    torch.testing.assert_close(row, donor.input[ids].float().mean(0), msg="equally long, and nothing else to go by")


def test_nothing_near_enough_leaves_the_local_part(donor):
    strict, plain = TokenAdapt(weight=1, threshold=0.99), TokenAdapt(weight=0)
    assert torch.equal(strict.table([b"darkened"], donor).input, plain.table([b"darkened"], donor).input)


def test_what_cannot_be_spelled_is_global_or_drawn():
    """A vocabulary that lacks bytes."""
    new = described({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
    donor = Donor.of(model("llama", new))
    gone = {i: None for i in range(1, 257)}
    pieces = tuple(gone.get(i, p) for i, p in enumerate(donor.vocabulary))
    poor = Donor(donor.tokenizer, type(donor.vocabulary)(pieces), donor.input, donor.output)
    assert poor.cut([b"ab", b"z", PART, None]) == [[259], [], [], []]
    method = TokenAdapt()
    assert torch.equal(method.table([b"z"], poor).input, TokenAdapt(weight=1).table([b"z"], poor).input)
    drawn = method.table([PART, SPACE, None], poor)
    assert torch.equal(drawn.input, poor.draw([PART, SPACE, None], 0).input)
    assert not torch.equal(drawn.input, TokenAdapt(seed=1).table([PART, SPACE, None], poor).input)
    many = poor.draw([bytes([i, j]) for i in range(64) for j in range(16)], 0)
    for made, matrix in zip(many, (poor.input, poor.output), strict=True):
        assert float(made.std()) == pytest.approx(float(matrix.std()), rel=0.02)
        assert float(made.mean()) == pytest.approx(float(matrix.mean()), abs=0.02 * float(matrix.std()))
    assert not torch.equal(many.input, many.output)


def test_the_mean_is_the_mean(donor):
    for piece in PIECES:
        ids = donor.tokenizer(piece.decode())["input_ids"]
        torch.testing.assert_close(MeanOfPieces().table([piece], donor).input[0], donor.input[ids].float().mean(0))


def test_blocks_do_not_matter(donor, monkeypatch):
    old, new = (read(load_encoder("minilm"), p, silent) for p in (donor.vocabulary.pieces, PIECES))
    whole = nearest(new, old, 5, 0.0, silent)
    similar = new.vectors @ old.vectors.T
    assert float(whole[2][0]) == pytest.approx(float(similar[new.row[0]].max()), abs=1e-6)
    for cells in (1, len(old.vectors) * 2):
        monkeypatch.setattr(neighbours, "CELLS", cells)
        for a, b in zip(whole, nearest(new, old, 5, 0.0, silent), strict=True):
            torch.testing.assert_close(a, b)


def test_vectors_are_kept_and_an_interrupted_reading_goes_on(kept, monkeypatch):
    encoder = load_encoder("minilm")
    pieces = trained(NEW_TEXT).convert_ids_to_tokens(range(100, 300))
    pieces = [p.encode() for p in pieces]
    expected = read(encoder, pieces, silent)
    for file in kept.rglob("*.safetensors"):
        file.unlink()
    monkeypatch.setattr(surfaces, "BLOCK", 40)
    forward, calls = surfaces._forward, []

    def counted(encoder, batch):
        calls.append(len(batch))
        if sum(calls) > 90:
            raise KeyboardInterrupt
        return forward(encoder, batch)

    monkeypatch.setattr(surfaces, "_forward", counted)
    with pytest.raises(KeyboardInterrupt):
        read(encoder, pieces, silent)
    files = sorted(kept.rglob("*"))
    assert [f.suffix for f in files if f.is_file()] == [".safetensors"] * 2, "whole blocks and no drafts"
    files[-1].write_bytes(files[-1].read_bytes()[:100])
    calls.clear()
    monkeypatch.setattr(surfaces, "_forward", lambda e, batch: calls.append(len(batch)) or forward(e, batch))
    again = read(encoder, pieces, silent)
    assert sum(calls) == len(expected.vectors) - 40, "one block was kept, one is damaged"
    assert torch.equal(again.row, expected.row)
    torch.testing.assert_close(again.vectors, expected.vectors, rtol=0, atol=1e-6)
    calls.clear()
    assert torch.equal(read(encoder, pieces, silent).vectors, again.vectors)
    assert calls == []


def test_the_fingerprint_is_of_the_weights():
    encoder = load_encoder("minilm")
    other = replace(encoder, model=deepcopy(encoder.model))
    assert fingerprint(other) == fingerprint(encoder)
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1
    assert fingerprint(other) != fingerprint(encoder)


def test_progress_is_told():
    language, told = model("llama", trained(OLD_TEXT)), []
    TokenAdapt().transfer(language, trained(NEW_TEXT), tell=lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {"reading pieces", "comparing pieces"}
    assert all(0 <= done <= of for _, done, of in told)


def test_rows_are_padded_and_idle_rows_hold_the_mean():
    old = model("llama", trained(OLD_TEXT), spare=7)
    plan = Transplant.of(old, trained(NEW_TEXT, pad_token="<pad>"))
    rows = MeanOfPieces().table(plan.pieces, plan.donor)
    for multiple, total in ((1, 311), (64, 320), (128, 384)):
        table = plan.build(rows, multiple).model.get_input_embeddings().weight
        assert len(table) == total
        spare = min(7, total - 311)
        assert torch.equal(table[311 : 311 + spare], plan.donor.input[310 : 310 + spare]), "the model's own padding"
        torch.testing.assert_close(table[310], plan.donor.input.mean(0))
        assert torch.equal(table[311 + spare :], table[310:311].expand(total - 311 - spare, -1))


@pytest.mark.parametrize("field", ["weight", "neighbours", "temperature", "threshold"])
def test_fields_are_refused(field):
    with pytest.raises(InvalidValue, match=f"TokenAdapt: {field} must be"):
        TokenAdapt(**{field: -3})
