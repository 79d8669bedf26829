"""What models of chunks are made of: each part against its definition, written as a loop or in another way."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse
from tokenry.segment.hierarchy.cuts import Cut, Seen, chosen, firm, received, smoothed
from tokenry.segment.hierarchy.model import spelled
from tokenry.segment.hierarchy.pooling import Mean, Query, alike, means
from tokenry.segment.hierarchy.prices import binomial_price, ratio_price
from tokenry.segment.hierarchy.scripts import scripts_at
from tokenry.segment.hierarchy.stream import Near, Stack, _banded
from tokenry.segment.hierarchy.unpooling import Smoothed
from tokenry.segment.parts.boundaries import MARK, ByScript, Cosine

TEXT = "Hello, wörld! Это 你好, fooBar baz. qux  1".encode()


def built(form, width=32, seed=0):
    model = parse(form).build(width=width).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everything(n, rows=2):
    return torch.ones(rows, n, dtype=torch.bool)


def seen(x, ids=None):
    return Seen(everything(x.shape[1], len(x)), torch.arange(x.shape[1]).expand(len(x), -1), ids)


# The price of cuts.


def test_the_ratio_price_is_one_at_the_ratio_and_larger_where_everything_is_cut():
    real = everything(60, 1)

    def price(f, g):
        at = torch.zeros(1, 60, dtype=torch.bool)
        at[0, : round(60 * f)] = True
        return float(ratio_price(at, torch.full((1, 60), g), real, 6.0))

    assert price(1 / 6, 1 / 6) == pytest.approx(1.0, abs=1e-6)
    assert price(1.0, 1.0) == pytest.approx(6.0)
    assert price(0.0, 0.0) == pytest.approx(6 / 5)
    for f, g in itertools.product((0.0, 0.1, 0.3, 0.7), repeat=2):
        assert price(f, g) == pytest.approx(6 / 5 * (5 * f * g + (1 - f) * (1 - g)), abs=1e-5)
    assert price(0.4, 0.4) > 1.0


def test_padding_is_no_part_of_the_ratio_price():
    at, p, real = torch.rand(1, 20) > 0.5, torch.rand(1, 20), torch.arange(20).unsqueeze(0) < 12
    alone = ratio_price(at[:, :12], p[:, :12], real[:, :12], 3.0)
    torch.testing.assert_close(ratio_price(at, p, real, 3.0), alone)


@pytest.mark.parametrize("rate", [0.077, 0.2, 0.5])
def test_the_binomial_price_is_that_of_torch(rate):
    tokens = torch.tensor([10.0, 64.0, 200.0, 0.0])
    ends = torch.tensor([0.0, 13.0, 200.0, 0.0])
    theirs = torch.distributions.Binomial(tokens[:3].long(), torch.tensor(rate)).log_prob(ends[:3])
    wanted = (-theirs / tokens[:3]).mean()
    torch.testing.assert_close(binomial_price(ends, tokens, rate), wanted, atol=1e-5, rtol=1e-5)


def test_the_binomial_price_draws_the_number_of_ends_to_its_rate():
    ends = torch.tensor([60.0], requires_grad=True)
    optimizer = torch.optim.Adam([ends], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        binomial_price(ends, torch.tensor([100.0]), 0.2).backward()
        optimizer.step()
    assert float(ends.detach()) == pytest.approx(20, abs=1)


# From tokens to chunks and back.


@pytest.mark.parametrize("chunks", [1, 7, 300])
def test_smoothing_in_closed_form_is_the_loop(chunks):
    y, p, state = drawn(2, chunks, 5), torch.rand(2, chunks, generator=torch.Generator().manual_seed(1)), drawn(2, 5)
    p = p.clamp(1e-4, 1 - 1e-4)
    out = smoothed(y, p, state)
    for j in range(chunks):
        state = p[:, j, None] * y[:, j] + (1 - p[:, j, None]) * state
        torch.testing.assert_close(out[:, j], state, atol=1e-5, rtol=1e-4)


def test_sure_chunks_are_not_smoothed():
    y = drawn(2, 200, 5)
    torch.testing.assert_close(smoothed(y, torch.ones(2, 200)), y, atol=1e-6, rtol=0)


def test_smoothing_has_finite_gradients_at_both_ends():
    p = torch.tensor([[1.0, 1e-4, 0.5, 1.0, 1e-4]], requires_grad=True)
    smoothed(drawn(1, 5, 3), p).sum().backward()
    assert bool(p.grad.isfinite().all())


def test_all_boundaries_are_the_identity():
    x = drawn(2, 9, 4)
    at = everything(9)
    z, there = chosen(x, at)
    assert torch.equal(z, x)
    assert bool(there.all())
    assert torch.equal(received(z, at), x)
    assert torch.equal(means(x, at)[0], x)
    cut = Cut(at, torch.ones(2, 9), torch.zeros(()))
    unpool = Smoothed(Stack(4, 0, 1, 4), 4, 4)
    torch.testing.assert_close(unpool.read(z, there, x, seen(x), cut, None), unpool.decoder.last(x))


@torch.no_grad()
def test_a_model_that_cuts_everywhere_is_a_flat_stack():
    ids = torch.tensor([[MARK, *TEXT]])
    x, at = None, everything(ids.shape[1], 1)
    hnet = built("hnet:heads=2,window=8,boundaries=stride[every=1]")
    nn.init.zeros_(hnet.top.unpool.residual.weight)
    x = hnet.embed(ids)
    for stack in (hnet.top.encoder, hnet.top.inner, hnet.top.unpool.decoder):
        x = stack.read(x, at)
    torch.testing.assert_close(hnet(ids), hnet.head(x), atol=1e-4, rtol=1e-4)
    magnet = built("magnet:heads=2,window=8,boundaries=stride[every=1]")
    top = magnet.top
    x = top.encoder.read(magnet.embed(ids), at)
    x = top.unpool.decoder.read(x + top.inner.read(top.pool.norm(x), at), at)
    torch.testing.assert_close(magnet(ids), magnet.head(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_words_of_marks_alone_are_a_flat_stack():
    ids = torch.full((1, 9), MARK)
    at = everything(9, 1)
    stream = built("hierarchical_ar:heads=2,window=4,variant=stream")
    top = stream.top
    e = top.encoder.read(stream.embed(ids), at)
    y = top.inner.read(top.pool.out(top.pool.value(e)), at)
    x = top.unpool.decoder.read(e, at, None, top.unpool.values(y))
    torch.testing.assert_close(stream(ids), stream.head(x), atol=1e-4, rtol=1e-4)
    each = built("hierarchical_ar:heads=2")
    top = each.top
    slot = top.pool.encoder.both(top.pool.slots.expand(9, 1, -1), everything(1, 9))
    y = top.inner.read(top.pool.out(slot).transpose(0, 1), at)
    x = top.unpool.decoder.read(top.unpool.into(y).transpose(0, 1), everything(1, 9)).transpose(0, 1)
    torch.testing.assert_close(each(ids), each.head(x), atol=1e-4, rtol=1e-4)


def test_means_are_those_of_a_loop_and_their_gradient_moves_ends():
    x, at = drawn(2, 12, 3), drawn(2, 12, seed=3) > 0.3
    at[:, 0] = True
    found, there = means(x, at)
    for row in range(2):
        begin = 0
        for j, end in enumerate(at[row].nonzero()[:, 0].tolist()):
            torch.testing.assert_close(found[row, j], x[row, begin : end + 1].mean(0))
            begin = end + 1
        assert int(there[row].sum()) == int(at[row].sum())
    soft = at.float().requires_grad_()
    z, _ = Mean(3).read(x, seen(x), Cut(at, soft.detach(), torch.zeros(()), soft), None)
    z[..., 0].sum().backward()
    assert bool(soft.grad.isfinite().all())
    assert bool(soft.grad.any())


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_long_chunks_are_pooled_in_half_precision_too(dtype):
    """Counts beyond 256, and weights beyond 65504."""
    x, at = drawn(1, 1000, 8) + 1, torch.zeros(1, 1000, dtype=torch.bool)
    at[0, -1] = True
    torch.testing.assert_close(means(x.to(dtype), at)[0].float(), means(x, at)[0], atol=2e-2, rtol=2e-2)
    pool = Query(8, 6, 2)
    pool.query.mul_(20)
    wanted = pool.read(x, seen(x), firm(at), None)[0]
    found = pool.to(dtype).read(x.to(dtype), seen(x), firm(at), None)[0]
    torch.testing.assert_close(found.float(), wanted, atol=0.1, rtol=0.1)


@torch.no_grad()
def test_a_query_is_a_softmax_over_each_chunk():
    x, at = drawn(1, 7, 8), torch.tensor([[True, False, False, True, False, True, False]])
    pool = Query(8, 6, 2)
    z, _ = pool.read(x, seen(x), firm(at), None)
    for j, (a, b) in enumerate(((0, 1), (1, 4), (4, 6))):
        keys = pool.key(x[0, a:b]).unflatten(-1, (2, 4))
        scores = (keys * pool.query).sum(-1) * 0.5
        weights = (20 * (scores / 20).tanh()).softmax(0)
        value = (pool.value(x[0, a:b]).unflatten(-1, (2, 4)) * weights.unsqueeze(-1)).sum(0).flatten()
        torch.testing.assert_close(z[0, j], pool.out(value), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    "form", ["hierarchical_ar:heads=2", "word_pool:heads=2,vectors=3", "word_pool:spelling=at_once"]
)
def test_all_words_at_once_are_each_word_alone(form):
    """Encoded one by one and decoded one by one, without any padding."""
    model = built(form)
    top, pool, unpool = model.top, model.top.pool, model.top.unpool
    ids = torch.tensor([model.ids(TEXT)])
    ends = (ids[0] == MARK).nonzero()[:, 0].tolist()
    made = []
    for a, b in itertools.pairwise([-1, *ends]):
        word = torch.cat((pool.slots, model.embed(ids[0, a + 1 : b])))[None]
        made.append(pool.out(pool.encoder.both(word, everything(word.shape[1], 1))[0, : pool.each]))
    y = top.inner.read(torch.cat(made)[None], everything(len(made) * pool.each, 1))[0].unflatten(0, (-1, pool.each))
    out = []
    for j, (a, b) in enumerate(itertools.pairwise([*ends, ids.shape[1]])):
        word = model.embed(ids[0, a + 1 : b])
        word = word if unpool.blank is None else unpool.blank.expand_as(word)
        both = torch.cat((unpool.into(y[j]), word))[None]
        out.append(unpool.decoder.read(both, everything(both.shape[1], 1))[0, pool.each - 1 :])
    torch.testing.assert_close(model(ids)[0], model.head(torch.cat(out)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_byte_changes_no_state_of_other_words():
    model = built("hierarchical_ar:heads=2")
    ids = torch.tensor([model.ids(TEXT)])
    changed = ids.clone()
    changed[0, 3] += 1

    def pooled(row):
        at = firm(row == MARK)
        return model.top.pool.read(model.embed(row), seen(model.embed(row), row), at, None)[0][0]

    differ = (pooled(ids) - pooled(changed)).abs().amax(-1) > 1e-6
    assert differ.tolist() == [False, True, *[False] * (len(differ) - 2)]


def test_words_of_a_size_are_together_and_none_is_missing():
    sizes = torch.arange(200)
    groups = list(alike(sizes))
    assert sorted(torch.cat(groups).tolist()) == sizes.tolist()
    for some in groups:
        assert int(sizes[some].max()) <= max(3, 1.5 * int(sizes[some].min()))


# What decides.


def test_the_first_token_and_unlike_neighbours_begin_chunks():
    router = Cosine().build(width=2)
    x = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.1], [1.0, 0.0]]])
    cut = router.read(x, seen(x), None)
    assert cut.at.tolist() == [[True, False, True, False, True]]
    torch.testing.assert_close(cut.p[0, :3], torch.tensor([1.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    assert router.read(x.bfloat16(), seen(x), None).p.dtype == torch.float32


@torch.no_grad()
def test_inside_autocast_choices_and_smoothing_are_as_outside():
    x = drawn(2, 30, 8)
    router, unpool = Cosine().build(width=8), Smoothed(Stack(8, 0, 1, 4), 8, 8)
    for p in (*router.parameters(), *unpool.parameters()):
        p.add_(drawn(*p.shape, seed=1))
    cut = router.read(x, seen(x), None)
    y, there = chosen(x, cut.at)
    out = unpool.read(y, there, x, seen(x), cut, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(router.read(x, seen(x), None).p, cut.p)
        assert torch.equal(unpool.read(y, there, x, seen(x), cut, None), out)


def test_a_chosen_byte_teaches_the_router():
    model = built("hnet:heads=2,window=8,boundaries=cosine[ratio=3,weight=0]").train()
    ids = torch.tensor([model.ids(TEXT)])
    model.loss(ids, everything(ids.shape[1], 1))[0].backward()
    assert bool(model.top.boundaries.key.weight.grad.any())


def test_scripts_are_told_by_the_bytes_so_far():
    known = ("latin", "cyrillic", "indic", "han", "kana", "hangul")
    text = "1aя 1नa你の한!"
    data = text.encode()
    ids, none = torch.tensor([list(data)]), torch.zeros(1, 2, dtype=torch.long)
    found, state = scripts_at(ids, known, none)
    wanted, at = [0] * len(data), 0
    script = {"a": 0, "я": 1, "न": 2, "你": 3, "の": 4, "한": 5}
    now = 0
    for character in text:
        size = len(character.encode())
        for i in range(size):
            # Two bytes tell; the first of a letter says nothing yet.
            if i == min(1, size - 1):
                now = script.get(character, now)
            wanted[at + i] = now
        at += size
    assert found[0].tolist() == wanted
    parts, memory = [], none
    for part in ids.split(3, 1):
        got, memory = scripts_at(part, known, memory)
        parts.append(got)
    assert torch.equal(torch.cat(parts, 1), found)
    assert torch.equal(memory, state)


@pytest.mark.parametrize("sign", ["，", "。", "！", "😀", "€", "₽", "№", "™", "…", "1", "’"])
def test_signs_that_begin_as_letters_do_tell_no_script(sign):
    known = ("latin", "cyrillic", "han", "kana", "hangul")
    for i, letter in enumerate(("a", "я", "你", "の", "한")):
        ids = torch.tensor([list((letter + sign).encode())])
        found, _ = scripts_at(ids, known, torch.zeros(1, 2, dtype=torch.long))
        assert found[0, -1] == i, letter


def test_letters_of_all_planes_tell_their_script():
    for letter, script in (
        ("ể", "latin"),
        ("漢", "han"),
        ("𠀀", "han"),
        ("ー", "kana"),
        ("ア", "kana"),
        ("ع", "semitic"),
    ):
        ids = torch.tensor([list(letter.encode())])
        assert scripts_at(ids, ("greek", script), torch.zeros(1, 2, dtype=torch.long))[0][0, -1] == 1, letter


def test_the_price_of_a_row_is_that_of_its_bytes():
    """The mark in front is no byte, and no script pays for it."""
    part = ByScript(scripts=("latin", "cyrillic"), rates=(0.3, 0.1), weight=2.0).build(width=4).eval()
    with torch.no_grad():
        part.networks[0][-1].bias.fill_(-5.0)
    ids = torch.tensor([[MARK, *b"abcde"]])
    x = torch.zeros(1, 6, 4)
    cut = part.read(x, seen(x, ids), None)
    assert cut.at.sum() == 1
    wanted = -torch.distributions.Binomial(5, torch.tensor(0.3)).log_prob(torch.tensor(0.0)) / 5
    torch.testing.assert_close(cut.loss, 2 * wanted)


def test_each_script_has_its_own_prior():
    part = ByScript(scripts=("latin", "cyrillic"), rates=(0.5, 0.1)).build(width=4).train()
    data = ("a" * 2000 + "я" * 1000).encode()
    ids = torch.tensor([[MARK, *data]])
    x = torch.zeros(1, ids.shape[1], 4)
    torch.manual_seed(0)
    cut = part.read(x, seen(x, ids), None)
    assert float(cut.at[0, 1:2000].float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(cut.at[0, 2010:].float().mean()) == pytest.approx(0.1, abs=0.03)
    assert torch.equal(cut.soft.detach(), cut.at.float())
    with pytest.raises(InvalidValue, match="rates must be one for each of 2 scripts; got 1"):
        ByScript(scripts=("latin", "han"), rates=(0.2,))
    with pytest.raises(InvalidValue, match="scripts must be some of latin, greek"):
        ByScript(scripts=("klingon",), rates=(0.2,))


# The stream.


@torch.no_grad()
@pytest.mark.parametrize("n", [5, 8, 9, 40])
def test_a_window_is_attention_under_a_band(n):
    q, k, v = (drawn(2, 2, n, 4, seed=i) for i in range(3))
    place = torch.arange(n)
    band = (place <= place.unsqueeze(1)) & (place > place.unsqueeze(1) - 8)
    wanted = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=band)
    torch.testing.assert_close(_banded(q, k, v, 8), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_window_holds_no_more_than_it_reads():
    layer = Near(heads=2, window=8).build(width=16)
    memory = layer.begin(1)
    for _ in range(5):
        layer.read(drawn(1, 20, 16), memory)
    assert memory.k.shape[2] == 7


def test_ids_give_back_the_text():
    for form in ("hnet", "magnet", "word_pool", "hierarchical_ar"):
        assert spelled(parse(form).ids(TEXT)) == TEXT
    assert parse("word_pool").ids(b"Hi you") == [MARK, *b"Hi", MARK, *b" you"]
    assert parse("hierarchical_ar").ids(b"") == [MARK] == parse("hnet").ids(b"")
