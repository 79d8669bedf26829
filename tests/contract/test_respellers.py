"""Every method that spells text in other tokens, found through the registry: what any of them must hold to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.cases import Case, cases
from tests.segment.respelled import WORDS, encoded, prompted, vocabulary
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.tokens import TokenBatch
from tokenry.segment.spelling.collator import RespellingCollator
from tokenry.segment.spelling.respeller import Respeller
from tokenry.segment.spelling.respelling import IGNORED

METHODS = [c for c in cases("segment") if issubclass(c.method, Respeller)]


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def real(batch: TokenBatch, row: int) -> list[int]:
    return batch.ids[row][batch.mask[row]].tolist()


@pytest.mark.parametrize("case", METHODS, ids=[c.name for c in METHODS])
@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(0, len(vocabulary()) - 1), max_size=40), seed=st.integers(0, 1000), data=st.data())
def test_bytes_stay_and_only_free_tokens_change(case: Case, ids, seed, data):
    v = vocabulary()
    old = torch.tensor(ids, dtype=torch.long)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), dtype=torch.bool)
    for free in (None, mask):
        new = case.trial().respell(old, v, seeded(seed), free)
        counts = new.parent.bincount(minlength=len(ids))
        assert bool((counts > 0).all())
        assert bool((new.parent.diff() >= 0).all())
        assert bool(((new.ids >= 0) & (new.ids < len(v))).all())
        for i, group in enumerate(new.ids.split(counts.tolist())):
            assert v.spell(group.tolist()) == v.spell([ids[i]])
            if v[ids[i]] is None or (free is not None and not free[i]):
                assert group.tolist() == [ids[i]]
            else:
                assert not set(group.tolist()) & v.marks


def test_something_changes_at_the_trial_setting(case):
    new = case.trial().respell(encoded(WORDS), vocabulary(), seeded())
    assert not torch.equal(new.ids, encoded(WORDS))


def test_the_identity_setting_changes_nothing(case):
    batch = prompted(WORDS, "abc")
    for identity in case.identities():
        assert identity.apply(batch, vocabulary()) is batch
        new = identity.respell(encoded(WORDS), vocabulary(), seeded())
        assert torch.equal(new.ids, encoded(WORDS))
        assert new.parent.tolist() == list(range(len(new)))


def test_the_same_seed_gives_the_same_and_the_global_state_stays(case):
    batch, state = prompted(WORDS, WORDS[5:]), torch.get_rng_state()
    one, two = (case.trial().apply(batch, vocabulary()) for _ in range(2))
    assert torch.equal(one.ids, two.ids)
    others = [replace(case.trial(), seed=s).apply(batch, vocabulary()) for s in range(1, 5)]
    assert any(real(o, 0) != real(one, 0) for o in others)
    assert torch.equal(state, torch.get_rng_state())


def test_rows_depend_neither_on_padding_nor_on_each_other(case):
    both = case.trial().apply(prompted(WORDS, WORDS[4:17]), vocabulary())
    for row, text in enumerate((WORDS, WORDS[4:17])):
        alone = case.trial().apply(prompted(text), vocabulary())
        assert real(both, row) == real(alone, 0)
        assert torch.equal(both.spans()[row][both.mask[row]][:, 2:4], alone.spans()[0][:, 2:4])
    assert bool((both.mask.long().diff() >= 0).all()), "padding stands on the left"


def test_parts_tile_the_source_and_are_the_new_originals(case):
    texts = (WORDS, WORDS[3:9])
    batch = prompted(*texts)
    before = [t.clone() for t in (batch.ids, batch.mask, batch.origin.spans)]
    out = case.trial().apply(batch, vocabulary())
    assert out.origin.sources == batch.origin.sources
    assert out.fate.shape == (*out.shape, out.shape[1])
    assert torch.equal(out.survival(), out.mask.float())
    for row, text in enumerate(texts):
        spans = out.spans()[row][out.mask[row]]
        assert set(spans[:, 0].tolist()) == {row}
        edge = 0
        for id, (start, end) in zip(real(out, row), spans[:, 2:4].tolist(), strict=True):
            assert start == edge
            assert text.encode()[start:end] == vocabulary()[id]
            edge = end
        assert edge == len(text.encode())
        assert out.positions[0, row][out.mask[row]].tolist() == list(range(int(out.mask[row].sum())))
    for old, now in zip(before, (batch.ids, batch.mask, batch.origin.spans), strict=True):
        assert torch.equal(old, now)


def test_protected_tokens_and_inexact_places_stay(case):
    batch = prompted(WORDS)
    whole = replace(batch, protected=batch.mask)
    assert case.trial().apply(whole, vocabulary()) is whole
    kept = torch.zeros_like(batch.mask)
    kept[0, ::2] = True
    for changed in (replace(batch, protected=kept), _shifted(batch, kept)):
        for seed in range(5):
            out = replace(case.trial(), seed=seed).apply(changed, vocabulary())
            for column in kept[0].nonzero()[:, 0].tolist():
                place = batch.origin.spans[0, column, 0]
                assert out.ids[0][out.spans()[0, :, 2] == place].tolist() == [int(batch.ids[0, column])]


def _shifted(batch: TokenBatch, which) -> TokenBatch:
    """Places one byte longer than the tokens, as where two tokens share a character."""
    spans = batch.origin.spans.clone()
    spans[..., 1] += which
    return replace(batch, origin=replace(batch.origin, spans=spans))


def test_touched_batches_are_refused(case):
    batch = prompted(WORDS)
    n = batch.shape[1]
    for touched in (
        batch.take(torch.arange(1, n)[None]),
        batch.insert(0, torch.zeros(1, 1, 4), lookup=lambda ids: torch.zeros(*ids.shape, 4)),
        batch.merge((torch.arange(n) // 2)[None], torch.zeros(1, (n + 1) // 2, 4)),
        replace(batch, embeds=torch.zeros(1, n, 4)),
    ):
        with pytest.raises(Incompatible, match="must come first"):
            case.trial().apply(touched, vocabulary())


def test_short_rows_and_tokens_of_no_source(case):
    for text in ("a", "ab", "abc"):
        assert vocabulary().spell(real(case.trial().apply(prompted(text), vocabulary()), 0)) == text.encode()
    ids = encoded(WORDS).expand(2, -1)
    mask = torch.arange(ids.shape[1]).expand(2, -1) >= torch.tensor([[0], [3]])
    out = case.trial().apply(TokenBatch.from_ids(ids, mask), vocabulary())
    assert vocabulary().spell(real(out, 0)) == WORDS.encode()
    assert vocabulary().spell(real(out, 1)) == vocabulary().spell(ids[1, 3:].tolist())
    assert int(out.origin.spans.abs().sum()) == 0
    assert len(case.trial().respell(torch.zeros(0, dtype=torch.long), vocabulary(), seeded())) == 0


def test_labels_and_masks_follow_the_parts(case):
    ids = encoded(WORDS)
    labels = torch.where(torch.arange(len(ids)) % 3 == 0, IGNORED, ids)
    new = case.trial().respell(ids, vocabulary(), seeded())
    spread = new.spread_labels(labels, ids)
    assert torch.equal(spread == IGNORED, new.spread(labels == IGNORED))
    assert torch.equal(spread[spread != IGNORED], new.ids[spread != IGNORED])
    with pytest.raises(InvalidValue, match="not shifted"):
        new.spread_labels(labels.roll(1), ids)


def test_examples_for_training(case):
    ids = encoded(WORDS).tolist()
    example = {
        "input_ids": ids,
        "labels": [IGNORED] * 4 + ids[4:],
        "attention_mask": [0] + [1] * (len(ids) - 1),
        "special_tokens_mask": [0, 1] + [0] * (len(ids) - 2),
        "assistant_masks": [0] * 8 + [1] * (len(ids) - 8),
        "number": list(range(len(ids))),
        "name": "one",
    }
    made = RespellingCollator(case.trial(), vocabulary(), within="assistant_masks")([example] * 3)
    for got in made:
        lists = {k: v for k, v in got.items() if k != "name"}
        assert len({len(v) for v in lists.values()}) == 1
        assert vocabulary().spell(got["input_ids"]) == WORDS.encode()
        assert got["input_ids"][:8] == ids[:8], "outside of the mask nothing changes"
        for id, label, number in zip(got["input_ids"], got["labels"], got["number"], strict=True):
            assert label == (IGNORED if number < 4 else id)
        assert got["name"] == "one"
    assert len({tuple(got["input_ids"]) for got in made}) > 1, "each time anew"
    again = RespellingCollator(case.trial(), vocabulary(), within="assistant_masks", longest=9)([example] * 3)
    assert [got["input_ids"] for got in again] == [got["input_ids"][:9] for got in made]
    with pytest.raises(InvalidValue, match="position_ids"):
        RespellingCollator(case.trial(), vocabulary())([{"input_ids": ids, "position_ids": ids}])
    with pytest.raises(InvalidValue, match="answer_mask"):
        RespellingCollator(case.trial(), vocabulary(), within="answer_mask")([{"input_ids": ids}])
