"""Landmark Attention: the grouped softmax against its words, and decoding against training."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tokenry.attend.landmark import Landmark, grouped
from tokenry.attend.layers.headed import rotated
from tokenry.attend.layers.language_model import LayerModel
from tokenry.attend.layers.marks import Marks
from tokenry.core.errors import InvalidValue

S = 8


def layer(**settings) -> Landmark:
    return Landmark(**{"heads": 2, "block": S, "blocks": 2, **settings}).build(width=16).eval()


def read(one, x, size=1):
    memory = one.begin(len(x))
    return torch.cat([one.read(part, memory) for part in x.split(size, 1)], 1)


def by_words(one, x):
    """Weights of every token for one head, key by key, as the paper says it."""
    n = x.shape[1]
    q, k, _ = one.split(x)
    q, k = rotated(q, torch.arange(n)), rotated(k, torch.arange(n))
    scores = ((q @ k.mT) / q.shape[-1] ** 0.5)[0, 0].double()
    weights = torch.zeros(n, n, dtype=torch.double)
    for i in range(n):
        b = i // S
        marks = [c * S + S - 1 for c in range(b)]
        own = [j for j in range(b * S, i + 1) if j % S != S - 1]
        shared = dict(zip(marks + own, scores[i, marks + own].softmax(-1), strict=True))
        for j in own:
            weights[i, j] = shared[j]
        for mark in marks:
            inside = list(range(mark - S + 1, mark))
            weights[i, inside] = scores[i, inside].softmax(-1) * shared[mark]
    return weights


def weights_of(one, x):
    """Weights that the layer uses, read off from values that are one for one token each."""
    n, found = x.shape[1], []
    with torch.no_grad():
        one.out.weight.copy_(torch.eye(16))
        q, k, _ = one.split(x)
        for j in range(n):
            v = torch.zeros(1, 2, n, 8)
            v[:, :, j] = 1
            one.split = lambda _, q=q, k=k, v=v: (q, k, v)
            found.append(one.whole(x)[0, :, 0])
            del one.split
    return torch.stack(found, 1)


def test_weights_follow_the_words_and_sum_to_one():
    one, x = layer(), torch.randn(1, 3 * S + 3, 16)
    found = weights_of(one, x)
    torch.testing.assert_close(found.double(), by_words(one, x), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.sum(-1), torch.ones(len(found)))
    assert not bool(found[:, S - 1 :: S].any())


@torch.no_grad()
def test_within_the_first_block_it_is_softmax_attention():
    one, x = layer(), torch.randn(2, S - 1, 16)
    q, k, v = one.split(x)
    q, k = rotated(q, torch.arange(S - 1)), rotated(k, torch.arange(S - 1))
    wanted = one.joined(scaled_dot_product_attention(q, k, v, is_causal=True), x)
    torch.testing.assert_close(one(x), wanted, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("settings", [{"blocks": 12}, {"blocks": 12, "positions": "true", "choose": "layer"},
                                      {"blocks": 1, "recent": 11}], ids=str)  # fmt: skip
def test_fetching_all_blocks_is_the_whole_computation(settings, size):
    one, x = layer(**settings), torch.randn(2, 90, 16)
    torch.testing.assert_close(read(one, x, size), one(x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_true_positions_of_few_blocks_are_the_whole_over_these_blocks():
    """A token that fetches 2 blocks reads what the grouped softmax over these 2 gives."""
    one, x = layer(positions="true"), torch.randn(1, 6 * S - 3, 16)
    found = read(one, x)
    n = x.shape[1]
    q, k, v = one.split(x)
    q, k = rotated(q, torch.arange(n)), rotated(k, torch.arange(n))
    i, b = n - 1, (n - 1) // S
    out = torch.zeros(2, 8)
    for h in range(2):
        scores = (k[0, h] @ q[0, h, i]) / 8**0.5
        best = scores[S - 1 : b * S : S].topk(2).indices
        blocks = torch.stack([scores[c * S : (c + 1) * S] for c in best])
        own = torch.cat((scores[b * S :], torch.zeros((b + 1) * S - n)))
        mine, others = grouped(own[None], blocks[None], torch.tensor([i % S]), torch.ones(1, 2, dtype=torch.bool))
        out[h] = sum(others[0, m] @ v[0, h, c * S : (c + 1) * S] for m, c in enumerate(best.tolist()))
        out[h] += mine[0, : n - b * S] @ v[0, h, b * S : n]
    torch.testing.assert_close(found[0, i], one.out(out.flatten()), atol=1e-5, rtol=1e-4)


def test_the_gradient_of_the_grouped_softmax_is_right():
    g = torch.Generator().manual_seed(0)
    own, blocks = torch.randn(3, 5, generator=g).double(), torch.randn(3, 4, 5, generator=g).double()
    there = torch.tensor([[True, True, False, True]] * 3)
    inside = torch.tensor([0, 2, 4])
    assert torch.autograd.gradcheck(
        lambda a, b: grouped(a, b, inside, there), (own.requires_grad_(), blocks.requires_grad_())
    )


def test_stingy_slots():
    """With k + 1 slots the last k blocks have their own, all older ones are at 0, and the token is behind them."""
    one = layer(blocks=3)
    mine = torch.tensor(10)
    assert one._slot(mine, torch.arange(11)).tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
    mine = torch.tensor(2)
    assert one._slot(mine, torch.arange(3)).tolist() == [0, 1, 2]


@torch.no_grad()
def test_stingy_positions_do_not_grow():
    """What a token reads of the blocks it fetches depends on their order, not on how far away they are."""
    one = layer(blocks=2)
    x = torch.randn(1, 3 * S, 16)
    filler = 0.01 * torch.randn(1, 40 * S, 16)
    one.project.weight[:16].mul_(8)
    near = read(one, torch.cat((x[:, : 2 * S], filler[:, : 6 * S], x[:, 2 * S :]), 1), S)[:, -S:]
    far = read(one, torch.cat((x[:, : 2 * S], filler, x[:, 2 * S :]), 1), S)[:, -S:]
    assert float((near - far).norm() / near.norm()) < 0.3


@torch.no_grad()
def test_heads_fetch_their_own_blocks_unless_told_otherwise():
    x = torch.randn(1, 9 * S, 16)
    one, all_heads = layer(), layer(choose="layer")
    assert not torch.allclose(read(one, x, S), read(all_heads, x, S), atol=1e-5)


def test_marks_stand_after_every_block_and_nowhere_else():
    marks = Marks(4, 99)
    ids = torch.arange(10).unsqueeze(0)
    real = torch.ones_like(ids, dtype=torch.bool)
    whole, among, at = marks.among(ids, real, torch.tensor([0]))
    assert whole.tolist() == [[0, 1, 2, 99, 3, 4, 5, 99, 6, 7, 8, 99, 9]]
    assert torch.equal(whole.gather(1, at), ids)
    assert bool(among.all())
    for size in (1, 2, 5):
        parts, before = [], 0
        for part in ids.split(size, 1):
            there = torch.ones_like(part, dtype=torch.bool)
            parts.append(marks.among(part, there, torch.tensor([before]))[0])
            before += part.shape[1]
        assert torch.equal(torch.cat(parts, 1), whole)


def test_a_model_says_nothing_about_marks():
    model = LayerModel(layers=("landmark:heads=2,block=4",) * 2).build(vocabulary=11, width=16).eval()
    ids = torch.randint(11, (2, 14))
    assert model(ids).shape == (2, 14, 11)
    assert model.embed.weight.shape == (12, 16)
    assert int(model.generate(ids, 8).max()) < 11
    with pytest.raises(InvalidValue, match="marks at the same places"):
        LayerModel(layers=("landmark:block=4", "landmark:block=5"))
    with pytest.raises(InvalidValue, match="at least 2 tokens"):
        layer(block=1)
