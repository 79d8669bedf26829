"""Packing: rows hold sequences that do not see each other, and give back what each would give alone."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image
from tokenry.models.files.tiny import tiny
from tokenry.signal.parts.patch_vectors import Projection
from tokenry.signal.patches import Patches
from tokenry.signal.streams.packing import first_fit_decreasing, pack

SHAPES = [(8, 20), (4, 4), (13, 9), (4, 40), (20, 8), (7, 7)]
LENGTH = 16


def encoded(dtype=torch.float32):
    method = Patches(size=4, content=Projection(width=64)).build().to(dtype)
    generator = torch.Generator().manual_seed(0)
    shown = [
        Image(torch.randint(256, (*shape, 3), generator=generator, dtype=torch.uint8), str(shape)) for shape in SHAPES
    ]
    with torch.no_grad():
        return [method.encode(image) for image in shown]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=12))
def test_what_is_packed_is_unpacked(sizes):
    sequences = [
        TokenSequence(
            ids=torch.arange(100 * i, 100 * i + size), source=torch.full((size,), -1),
            spans=torch.zeros(size, 6, dtype=torch.long), sources=(),
        )
        for i, size in enumerate(sizes)
    ]  # fmt: skip
    packed = pack(sequences, 10)
    assert packed.batch.shape[1] == 10
    assert int(packed.batch.mask.sum()) == sum(sizes)
    assert torch.equal(packed.segments > 0, packed.batch.mask)
    for sequence, ids, positions in zip(
        sequences, packed.unpack(packed.batch.ids), packed.unpack(packed.batch.positions[0]), strict=True
    ):
        assert torch.equal(ids, sequence.ids)
        assert torch.equal(positions, torch.arange(len(sequence)))


def test_every_token_keeps_its_picture_and_box():
    sequences = encoded()
    packed = pack(sequences, LENGTH)
    spans = packed.unpack(packed.batch.spans())
    for sequence, found in zip(sequences, spans, strict=True):
        assert torch.equal(found[:, 2:], sequence.spans)
        assert {packed.batch.origin.sources[i].name for i in found[:, 0].tolist()} == {sequence.sources[0].name}


@pytest.mark.parametrize("sizes", [[6, 5, 5, 2, 2], [7, 7, 3, 3], [5, 4, 3, 3, 3, 2], [1] * 7, [10]])
def test_first_fit_decreasing_is_near_the_fewest_rows(sizes):
    found = first_fit_decreasing(sizes, 10)
    assert sorted(i for row in found for i in row) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in row) <= 10 for row in found)
    assert len(found) <= 11 / 9 * fewest(sizes, 10) + 6 / 9
    assert first_fit_decreasing([6, 5, 5, 2, 2], 10) == [[0, 3, 4], [1, 2]]
    assert first_fit_decreasing([2, 5, 6, 2, 5], 10) == [[2, 0, 3], [1, 4]]


def fewest(sizes, length):
    """Rows that the best order needs when each size goes into the last row or a new one."""
    best = len(sizes)
    for order in permutations(sizes):
        rows, left = 0, 0
        for size in order:
            if size > left:
                rows, left = rows + 1, length
            left -= size
        best = min(best, rows)
    return best


def test_attention_stays_inside_a_sequence():
    packed = pack(encoded(), LENGTH)
    seen, causal = packed.attention()[:, 0], packed.attention(causal=True)[:, 0]
    for row, segments in enumerate(packed.segments.tolist()):
        for query, mine in enumerate(segments):
            for key, theirs in enumerate(segments):
                within = mine == theirs != 0 or query == key
                assert bool(seen[row, query, key]) is within
                assert bool(causal[row, query, key]) is (within and key <= query)


@pytest.mark.parametrize(("family", "causal"), [("bert", False), ("llama", True), ("qwen3", True)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_packed_equals_one_by_one_in_a_transformer(family, causal, attention, dtype, near):
    model = tiny(family, attn_implementation=attention).to(dtype)
    model = model.get_decoder() if causal else model
    sequences = encoded(dtype)
    packed = pack(sequences, LENGTH)
    assert len(packed.batch.mask) < len(sequences)
    seen = packed.attention(causal=causal)
    if attention == "eager":
        seen = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    with torch.no_grad():
        together = model(
            inputs_embeds=packed.batch.embeds, attention_mask=seen, position_ids=packed.batch.positions[0]
        ).last_hidden_state
        for sequence, states in zip(sequences, packed.unpack(together), strict=True):
            alone = model(inputs_embeds=sequence.embeds.unsqueeze(0)).last_hidden_state[0]
            torch.testing.assert_close(states, alone, atol=near, rtol=near)


def test_what_cannot_be_packed_is_refused():
    sequences = encoded()
    none = TokenSequence(
        ids=torch.zeros(0, dtype=torch.long), source=torch.zeros(0, dtype=torch.long),
        spans=torch.zeros(0, 6, dtype=torch.long), sources=(),
    )  # fmt: skip
    for refused, length in (([], 4), (sequences, 9), ([none], 4)):
        with pytest.raises(InvalidValue, match="pack: sequences must be at least one"):
            pack(refused, length)
    with pytest.raises(InvalidValue, match="all have embeddings, or all have none"):
        pack([sequences[0], Patches(size=4).encode(small())], 20)
    with pytest.raises(InvalidValue, match=r"unpack: values must begin with \(B, N\)"):
        pack(sequences, LENGTH).unpack(torch.zeros(2, 3))


def small():
    return Image(torch.zeros(1, 2, 3, dtype=torch.uint8))
