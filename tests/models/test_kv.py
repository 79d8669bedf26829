"""The cache of one layer against a plain list of rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry.models.attention.state import LayerState
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.packed import gathered

B, G, D = 2, 3, 4


def rows(first, count):
    """Keys whose values say where they come from: sequence, head and column."""
    column = torch.arange(first, first + count).float().view(1, 1, -1, 1)
    b, g = torch.arange(B).view(-1, 1, 1, 1), torch.arange(G).view(1, -1, 1, 1)
    k = (column + 1000 * b + 100_000 * g).expand(B, G, count, D).clone()
    return k, k + 0.5


class Plain:
    """What a buffer should hold, as nested lists of columns."""

    def __init__(self):
        self.seen = 0
        self.held = [[[] for _ in range(G)] for _ in range(B)]

    def append(self, n):
        for row in self.held:
            for head in row:
                head.extend(range(self.seen, self.seen + n))
        self.seen += n

    def check(self, buffer):
        columns = buffer._all_columns()
        for b in range(B):
            for g in range(G):
                real = columns[b, g] >= 0
                assert columns[b, g][real].tolist() == self.held[b][g]
                key = torch.tensor(self.held[b][g]).float() + 1000 * b + 100_000 * g
                assert torch.equal(buffer.keys[b, g][real][:, 0], key)
                assert torch.equal(buffer.values[b, g][real][:, 0], key + 0.5)
        assert buffer.get_seq_length() == self.seen
        assert buffer.get_mask_sizes(2) == (self.seen + 2, 0)
        total = sum(len(h) for r in self.held for h in r)
        assert buffer.held_bytes == total * 2 * D * 4


actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 70)),
        st.tuples(st.just("keep"), st.integers(0, 2**31)),
        st.tuples(st.just("crop"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(actions)
def test_any_history_equals_plain_rows(history):
    buffer, plain = KVBuffer(), Plain()
    buffer.update(*rows(0, 5))
    plain.append(5)
    for action, n in history:
        if action == "append":
            buffer.update(*rows(plain.seen, n))
            plain.append(n)
        elif action == "keep":
            keep(buffer, plain, torch.Generator().manual_seed(n))
        elif n < min(len(h) for r in plain.held for h in r):
            buffer.crop(-n)
            plain.seen -= n
            plain.held = [[[c for c in h if c < plain.seen] for h in r] for r in plain.held]
            if not any(h for r in plain.held for h in r):
                return
        plain.check(buffer)


def keep(buffer, plain, generator):
    width = max(len(h) for r in plain.held for h in r)
    index = torch.full((B, G, width), -1)
    columns = buffer._all_columns()
    for b in range(B):
        for g in range(G):
            slots = (columns[b, g] >= 0).nonzero()[:, 0]
            n = int(torch.randint(1, len(slots) + 1, (1,), generator=generator))
            chosen = slots[torch.randperm(len(slots), generator=generator)[:n]].sort().values
            index[b, g, :n] = chosen
            plain.held[b][g] = columns[b, g][chosen].tolist()
    buffer.keep(index)


def test_uneven_eviction_frees_memory_per_head():
    buffer = KVBuffer()
    buffer.update(*rows(0, 1000))
    index = torch.full((B, G, 1000), -1)
    index[..., :10] = torch.arange(10)
    index[0, 0] = torch.arange(1000)
    buffer.keep(index)
    assert buffer.ragged
    row = 2 * D * 4
    assert buffer.held_bytes == (1000 + 5 * 10) * row
    assert buffer.allocated_bytes < (1000 + 5 * 10 + 6 * 64) * (row + 8) + 1


def test_even_eviction_lets_the_old_storage_go():
    buffer = KVBuffer()
    buffer.update(*rows(0, 1000))
    buffer.keep(torch.arange(10).expand(B, G, -1))
    assert buffer.keys.untyped_storage().nbytes() == B * G * 10 * D * 4


def test_append_is_in_place():
    buffer = KVBuffer()
    buffer.update(*rows(0, 1000))
    before = buffer.keys.data_ptr()
    for i in range(60):
        buffer.update(*rows(1000 + i, 1))
    assert buffer.keys.data_ptr() == before


@pytest.mark.parametrize("uneven", [False, True])
def test_beams_reorder_repeat_and_select(uneven):
    buffer, plain = KVBuffer(), Plain()
    buffer.update(*rows(0, 20))
    plain.append(20)
    if uneven:
        keep(buffer, plain, torch.Generator().manual_seed(0))
    state = LayerState()
    buffer.states.append(state)
    columns, keys = buffer._all_columns(), buffer.keys
    buffer.batch_repeat_interleave(2)
    order = torch.tensor([0, 0, 1, 1])
    assert torch.equal(buffer._all_columns(), columns[order])
    assert torch.equal(buffer.keys, keys[order])
    buffer.reorder_cache(torch.tensor([3, 0, 1, 2]))
    assert torch.equal(buffer.keys, keys[order[[3, 0, 1, 2]]])
    buffer.batch_select_indices(torch.tensor([1, 0]))
    assert torch.equal(buffer.keys, keys[[0, 1]])


def test_crop_refuses_absolute_lengths():
    with pytest.raises(ValueError, match="at most 0"):
        KVBuffer().crop(3)


def test_gradients_flow_after_an_uneven_eviction():
    """Rows of uneven length are appended without overwriting what autograd still needs."""
    buffer = KVBuffer()
    k, v = (torch.randn(1, 2, 6, 4, requires_grad=True) for _ in range(2))
    buffer.update(k, v)
    buffer.keep(torch.tensor([[[0, 2, 4], [1, 5, -1]]]))
    more = torch.randn(1, 2, 1, 4, requires_grad=True)
    first, _ = buffer.update(more, more)
    second, _ = buffer.update(more * 2, more * 2)
    (first.pow(2).sum() + second.pow(2).sum()).backward()
    kept = torch.zeros(2, 6, dtype=torch.bool)
    kept[0, [0, 2, 4]] = kept[1, [1, 5]] = True
    assert torch.equal(k.grad[0].abs().sum(-1) > 0, kept)
    torch.testing.assert_close(k.grad[0][kept], 4 * k.detach()[0][kept])
    torch.testing.assert_close(more.grad, 2 * 2 * more.detach() + 2 * 2 * 2 * more.detach())


@pytest.mark.parametrize("view", ["whole", "room", "shared", "turned"])
def test_gathered_rows_are_those_of_a_gather(view):
    """Of a cache with room, of heads that are one in memory, and of numbers that lie in another order."""
    values = torch.randn(B, G, 20, D)
    values = {
        "whole": values, "room": values[:, 1:, 2:17], "shared": values[:1, :1].expand(B, G, -1, -1),
        "turned": values.mT.contiguous().mT,
    }[view]  # fmt: skip
    rows = torch.randint(0, values.shape[2], (*values.shape[:2], 7))
    assert torch.equal(gathered(values, rows), values.gather(2, rows.unsqueeze(-1).expand(-1, -1, -1, D)))
    learned = values.clone().requires_grad_()
    gathered(learned, rows).sum().backward()
    assert learned.grad.sum() == rows.numel() * D


def test_a_full_budget_gets_room_with_the_copy_of_its_eviction():
    """A step that forgets one row and takes one in copies what is held once."""
    buffer, plain = KVBuffer(), Plain()
    buffer.update(*rows(0, 200))
    plain.append(200)
    for step in range(3):
        buffer.keep(torch.cat((torch.arange(4), torch.arange(5, 200))).expand(B, G, -1))
        plain.held = [[[*head[:4], *head[5:]] for head in row] for row in plain.held]
        before = buffer.keys.data_ptr()
        buffer.update(*rows(200 + step, 1))
        plain.append(1)
        plain.check(buffer)
        assert buffer.keys.data_ptr() == before
