"""The laws of token batches: provenance survives whatever happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry.core.errors import InvalidValue
from tokenry.core.origin import Source
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.core.tokens import TokenBatch

TABLE = torch.arange(64, dtype=torch.float32).view(16, 4)


def batch(lengths=(5, 3)):
    rows = []
    for n in lengths:
        spans = torch.zeros(n, 6, dtype=torch.long)
        spans[:, 0], spans[:, 1] = torch.arange(n) * 2, torch.arange(n) * 2 + 2
        rows.append(
            TokenSequence(
                ids=torch.arange(1, n + 1), source=torch.zeros(n, dtype=torch.long), spans=spans,
                sources=(Source("text", "ab" * n),),
            )
        )  # fmt: skip
    return TokenBatch.collate(rows)


def same(a, b):
    assert torch.equal(a.mask, b.mask)
    assert torch.equal(a.positions, b.positions)
    assert torch.equal(a.fate.dense(), b.fate.dense())
    for name in ("ids", "embeds"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        assert x is None or torch.equal(x, y)


def test_collate_pads_on_the_left():
    b = batch()
    assert b.ids.tolist() == [[1, 2, 3, 4, 5], [0, 0, 1, 2, 3]]
    assert b.lengths.tolist() == [5, 3]
    assert b.positions[0].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]]
    assert b.spans()[1, 2].tolist() == [1, 1, 0, 2, 0, 0, 0, 0]
    assert b.spans()[1, 0, 0] == -1


def test_taking_everything_is_the_identity():
    b = batch()
    same(b.take(torch.arange(5).expand(2, -1)), b)


def test_dropped_tokens_have_no_fate_and_others_keep_theirs():
    b = batch().take(torch.tensor([[0, 2, 4], [-1, 2, 4]]))
    assert b.survival().tolist() == [[1, 0, 1, 0, 1], [0, 0, 1, 0, 1]]
    assert b.ids.tolist() == [[1, 3, 5], [0, 1, 3]]
    assert b.positions[0, 0].tolist() == [0, 2, 4]
    assert b.renumbered().positions[0].tolist() == [[0, 1, 2], [0, 0, 1]]


def test_merging_conserves_weight_and_spans_cover_the_originals():
    merged = batch().merge(torch.tensor([[0, 0, 1, 1, 2], [-1, -1, 0, 0, 1]]), torch.ones(2, 3, 4))
    assert merged.survival().tolist() == [[1] * 5, [0, 0, 1, 1, 1]]
    assert merged.fate.counts().tolist() == [[2, 2, 1], [0, 2, 1]]
    assert merged.spans()[0, 0].tolist()[2:4] == [0, 4]


def test_resampling_composes_with_earlier_steps():
    b = batch((4,)).take(torch.tensor([[1, 2, 3]]))
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]])
    again = b.resample(weights, torch.zeros(1, 2, 4)).take(torch.tensor([[1]]))
    assert again.fate.dense().tolist() == [[[0.0, 0.0, 0.25, 0.75]]]


def test_inserted_tokens_come_from_nowhere_and_follow_the_padding():
    b = batch().insert(0, torch.ones(2, 2, 4), lookup=TABLE.__getitem__)
    assert b.ids.tolist() == [[-1, -1, 1, 2, 3, 4, 5], [0, 0, -1, -1, 1, 2, 3]]
    assert (b.modality == Modality.SOFT).sum(1).tolist() == [2, 2]
    assert b.positions[0, 1].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert b.survival().tolist() == [[1] * 5, [0, 0, 1, 1, 1]]
    assert "inputs_embeds" in b.model_inputs()


def test_join_keeps_both_provenances():
    joined = batch().join(batch((2, 4)))
    assert joined.ids.tolist() == [[1, 2, 3, 4, 5, 1, 2], [1, 2, 3, 1, 2, 3, 4]]
    assert len(joined.origin.sources) == 4
    assert joined.spans()[0, 5].tolist()[:4] == [2, 2, 0, 2]
    assert joined.survival().sum() == 14


def test_model_inputs_give_positions_only_where_they_are_unusual():
    assert set(batch().model_inputs()) == {"input_ids", "attention_mask"}
    assert "position_ids" in batch().take(torch.tensor([[0, 2], [2, 4]])).model_inputs()


@pytest.mark.parametrize("field", ["mask", "protected", "modality"])
def test_shapes_must_agree(field):
    b = batch()
    with pytest.raises(InvalidValue, match="TokenBatch"):
        type(b)(**{n: getattr(b, n) for n in b.__dataclass_fields__} | {field: getattr(b, field)[:, :2]})


def test_a_batch_needs_ids_or_embeddings():
    b = batch()
    with pytest.raises(InvalidValue, match="needs ids or embeds; got neither"):
        type(b)(**{n: getattr(b, n) for n in b.__dataclass_fields__} | {"ids": None})


steps = st.lists(st.tuples(st.sampled_from(["take", "merge", "insert", "join"]), st.integers(0, 2**31)), max_size=5)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_any_history_keeps_weight_between_zero_and_one(history):
    """No step makes an original weigh more than it did; only dropping loses weight."""
    b, lost = batch((6, 4)), False
    for step, seed in history:
        g = torch.Generator().manual_seed(seed)
        rows, n = b.shape
        if step == "take":
            b, lost = b.take(torch.randperm(n, generator=g)[: max(1, n // 2)].sort().values.expand(rows, -1)), True
        elif step == "merge":
            m = max(1, n // 2)
            b = b.merge(torch.randint(0, m, (rows, n), generator=g), torch.zeros(rows, m, 4))
        elif step == "insert":
            lookup = TABLE.__getitem__ if b.embeds is None else None
            b = b.insert(n // 2, torch.ones(rows, 1, 4), lookup=lookup)
        elif b.ids is not None and b.embeds is None:
            b = b.join(batch((2, 2)))
        survival = b.survival()
        assert (survival >= 0).all()
        assert (survival <= 1).all()
        if not lost:
            assert survival.sum() == (b.origin.source >= 0).sum()
        counted = b.fate.counts()
        assert ((counted > 0) <= b.mask).all()
        padding_left = b.mask.long().diff(dim=1) >= 0
        assert step in ("take",) or padding_left.all()


def test_a_row_is_a_sequence_again():
    whole = batch()
    short = whole.take(torch.tensor([[1, 3], [-1, 4]]))
    first, second = short.sequence(0), short.sequence(1)
    assert first.ids.tolist() == [2, 4]
    assert first.spans[:, :2].tolist() == [[2, 4], [6, 8]]
    assert second.ids.tolist() == [3]
    assert second.source.tolist() == [1]
    same(TokenBatch.collate([first, second]), TokenBatch.collate([short.sequence(0), short.sequence(1)]))


def test_only_keeps_order_and_positions_and_pads_on_the_left():
    ids = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 5]])
    batch = TokenBatch.from_ids(ids, torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]))
    stays = torch.tensor([[True, True, False, True, False], [True, False, True, True, False]])
    fewer = batch.only(stays)
    assert fewer.mask.tolist() == [[False, False, True], [True, True, True]]
    assert fewer.ids[0, 2] == 6
    assert fewer.ids[1].tolist() == [1, 3, 4]
    assert fewer.positions[0, 1].tolist() == [0, 2, 3]
    assert fewer.positions[0, 0, 2] == 1
    assert fewer.survival().tolist() == [[0, 0, 0, 1, 0], [1, 0, 1, 1, 0]]


def test_tokens_say_how_large_the_one_signal_is_that_they_are_of():
    def of(source, n=3):
        ids = torch.arange(n)
        return TokenSequence(ids=ids, source=ids * 0, spans=torch.zeros(n, 6, dtype=torch.long), sources=(source,))

    photo, clip = (of(Source(kind, None, size=size)) for kind, size in (("image", (4, 5)), ("audio", (480, 48000))))
    rows = TokenBatch.collate([photo, clip]).take(torch.tensor([[1, 2], [-1, 0]]))
    assert [rows.sequence(row).size("w") for row in (0, 1)] == [(4, 5), (480, 48000)]
    assert TokenSequence.joined([photo, photo]).size("w") == (4, 5)
    for wrong, words in (
        (TokenSequence.joined([photo, clip]), "w: tokens must be of one signal; got several sources"),
        (of(photo.sources[0], 0), "w: tokens must be at least one; got none"),
        (of(Source("image", None)), "w: tokens must have a source that says how large the signal is; got none"),
        (replace(photo, sources=()), "w: tokens must have a source that says how large the signal is; got none"),
    ):
        with pytest.raises(InvalidValue, match=words):
            wrong.size("w")
