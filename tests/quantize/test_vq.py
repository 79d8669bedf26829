"""VQ and its parts: how tables start and move, and how gradients pass."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from tokenry import VQ
from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Learned
from tokenry.core.registry import parse
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts.choice import Stochastic
from tokenry.quantize.parts.gradient import RotationTrick
from tokenry.quantize.parts.metric import Cosine
from tokenry.quantize.parts.revival import Never, Restart
from tokenry.quantize.parts.start import KMeans, Sampled, Uniform
from tokenry.quantize.parts.update import ByLoss, Ema
from tokenry.quantize.search.means import drawn, lloyd
from tokenry.quantize.search.nearest import nearest_code


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_table_of_all_vectors_gives_them_back():
    x = random(20, 6)
    method = VQ(codes=32).fit(x)
    assert torch.equal(method.quantize(x).values, x)
    trained = VQ(codes=32, revive="never").build(width=6)
    assert torch.equal(trained.quantize(x).values, x)


def test_an_average_without_memory_is_one_iteration_of_k_means():
    x, start = random(200, 4), random(16, 4, seed=1)
    method = VQ(codes=16, update=Ema(decay=0.0, smoothing=0.0), revive=Never()).build(width=4)
    method.book.begin(start)
    method.quantize(x)
    torch.testing.assert_close(method.table, lloyd(x, start, range(1)), atol=1e-6, rtol=1e-6)


def test_the_average_follows_its_equation():
    x, start = random(50, 3), random(8, 3, seed=1)
    method = VQ(codes=8, update=Ema(decay=0.9, smoothing=1e-3), revive=Never()).build(width=3)
    method.book.begin(start)
    counts, sums = torch.ones(8), start.clone()
    for _ in range(3):
        codes = torch.cdist(x, method.table).argmin(1)
        one_hot = torch.nn.functional.one_hot(codes, 8).float()
        method.quantize(x)
        counts = 0.9 * counts + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ x
        smooth = (counts + 1e-3) / (counts.sum() + 8 * 1e-3) * counts.sum()
        torch.testing.assert_close(method.table, sums / smooth.unsqueeze(1))


def test_the_commitment_pulls_vectors_to_their_codes():
    x = random(9, 4).requires_grad_()
    method = VQ(codes=4, update=Ema(commitment=0.5)).build(width=4)
    found = method.quantize(x)
    assert set(found.losses) == {"commitment"}
    (gradient,) = torch.autograd.grad(found.loss, x)
    torch.testing.assert_close(gradient, 2 * 0.5 * (x - found.values).detach() / x.numel())


def test_by_loss_moves_only_chosen_codes():
    x = random(9, 4).requires_grad_()
    method = VQ(codes=64, update=ByLoss(commitment=0.25), start=Sampled(), revive=Never()).build(width=4)
    found = method.quantize(x)
    q = method.book.table.detach()[found.codes[:, 0]]
    expected = (q - x.detach()).square().mean()
    torch.testing.assert_close(found.loss.detach(), 1.25 * expected)
    found.loss.backward()
    chosen = torch.zeros(64, dtype=torch.bool)
    chosen[found.codes[:, 0]] = True
    assert not method.book.table.grad[~chosen].any()
    assert [name for name, _ in method.named_parameters()] == ["book.table"]
    assert not list(VQ().build(width=4).parameters())


@pytest.mark.parametrize("gradient", ["straight_through", "rotation_trick"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_what_comes_out_is_the_table_bit_for_bit(gradient, metric):
    method = VQ(codes=16, gradient=gradient, metric=metric).build(width=4)
    method.quantize(random(100, 4))
    before = method.table.clone()
    found = method.quantize(random(30, 4, seed=3).requires_grad_())
    assert torch.equal(found.values.detach(), before[found.codes[:, 0]])


def test_straight_through_is_the_identity():
    method = VQ(codes=16).fit(random(100, 4))
    jacobian = torch.autograd.functional.jacobian(lambda z: method.quantize(z).values, random(4, seed=5))
    assert torch.equal(jacobian, torch.eye(4))


def test_the_rotation_turns_and_stretches_the_gradient():
    z, c = random(50, 6).requires_grad_(), random(50, 6, seed=1)
    out = RotationTrick().through(z, c)
    assert torch.equal(out.detach(), c)
    given = random(50, 6, seed=2)
    (got,) = torch.autograd.grad(out, z, given)
    lengths = c.norm(dim=1) / z.norm(dim=1) * given.norm(dim=1)
    torch.testing.assert_close(got.norm(dim=1), lengths.detach(), rtol=1e-4, atol=1e-5)
    angle = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(angle(got, z.detach()), angle(given, c), rtol=1e-4, atol=1e-5)


def test_the_rotation_at_its_edges():
    z = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1e-30, 0.0]]).requires_grad_()
    c = torch.tensor([[-2.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    (got,) = torch.autograd.grad(RotationTrick().through(z, c).sum(), z)
    assert got.isfinite().all()
    torch.testing.assert_close(got[0], torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(got[1], torch.ones(2))


def test_cosine_does_not_see_lengths():
    x = random(60, 5)
    method = VQ(codes=8, metric=Cosine()).fit(x)
    one, other = method.quantize(x), method.quantize(x * torch.rand(60, 1) * 100)
    assert torch.equal(one.codes, other.codes)
    torch.testing.assert_close(one.values.norm(dim=1), torch.ones(60))
    other = VQ(codes=8, metric=Cosine()).fit(x * torch.linspace(0.1, 100, 60).unsqueeze(1))
    torch.testing.assert_close(other.table, method.table)
    best = torch.nn.functional.cosine_similarity(x.unsqueeze(1), method.table.unsqueeze(0), dim=-1).argmax(1)
    assert torch.equal(one.codes[:, 0], best)


def test_directions_choose_and_rows_keep_their_lengths():
    lengths = torch.linspace(0.5, 8, 8).unsqueeze(1)
    means = normalize(random(8, 6, seed=1)) * lengths
    x = means[torch.arange(400) % 8] + 0.05 * random(400, 6)
    errors = {}
    for metric in ("cosine", "direction", "euclidean"):
        method = VQ(codes=8, metric=metric, update=Ema(decay=0.5)).build(width=6)
        for _ in range(20):
            method.quantize(x)
        errors[metric] = float((method.eval().quantize(x).values - x).square().mean())
        fitted = VQ(codes=8, metric=metric).fit(x)
        best = torch.nn.functional.cosine_similarity(x.unsqueeze(1), fitted.table.unsqueeze(0), dim=-1).argmax(1)
        assert metric == "euclidean" or torch.equal(fitted.quantize(x).codes[:, 0], best)
        if metric == "direction":
            # Each row is the mean of the vectors that point its way.
            torch.testing.assert_close(fitted.table[best], torch.stack([x[best == code].mean(0) for code in best]))
            assert torch.equal(fitted.quantize(x * torch.linspace(0.1, 9, 400).unsqueeze(1)).codes[:, 0], best)
    assert errors["direction"] < 0.1 * errors["cosine"]


def test_restart_revives_the_dead_and_leaves_the_living():
    book = Codebook("t", 6, 2, learnt=False)
    book.begin(random(6, 2), torch.tensor([25.0, 0.1, 1.0, 0.0, 3.0, 0.5]))
    before, rows = book.table.clone(), random(10, 2, seed=1)
    Restart(threshold=1.0).step(book, rows, torch.Generator().manual_seed(0))
    living, dead = [0, 2, 4], [1, 3, 5]
    assert torch.equal(book.table[living], before[living])
    assert all((row == rows).all(1).any() for row in book.table[dead])
    assert len(book.table[dead].unique(dim=0)) == 3
    assert (book.counts[dead] == 1.0).all()
    # Forgetting the statistics would make the next average overwrite what was revived.
    revived = book.table[dead].clone()
    Ema(decay=0.99, smoothing=0.0).step(book, random(4, 2, seed=2) + 50, torch.tensor([0, 0, 2, 4]))
    torch.testing.assert_close(book.table[dead], revived)


def test_a_code_with_a_quarter_of_its_share_lives():
    book = Codebook("t", 4, 2, learnt=False)
    book.begin(torch.zeros(4, 2), torch.tensor([0.6, 0.15, 0.04, 0.01]))
    Restart(threshold=1.0).step(book, random(10, 2), torch.Generator().manual_seed(0))
    assert book.counts.tolist() == pytest.approx([0.6, 0.15, 0.05, 0.05])
    Restart(threshold=0.02).step(book, random(10, 2), torch.Generator().manual_seed(0))
    assert book.counts.tolist() == pytest.approx([0.6, 0.15, 0.05, 0.05])


def test_more_dead_codes_than_vectors():
    book = Codebook("t", 8, 2, learnt=False)
    book.begin(torch.zeros(8, 2), torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 30.0]))
    rows = random(3, 2, seed=1)
    Restart().step(book, rows, torch.Generator().manual_seed(0))
    assert {tuple(r) for r in book.table[:3].tolist()} == {tuple(r) for r in rows.tolist()}
    assert not book.table[3:].any()


@pytest.mark.parametrize("size", [16, 64, 256])
def test_restart_finds_all_clusters_however_many_vectors_a_batch_has(size):
    """With 256 codes for 64 clusters, where 64 vectors in a batch once moved nearly all codes at every step."""
    means, generator = 3 * random(64, 8), torch.Generator().manual_seed(1)
    method = VQ(codes=256).build(width=8)
    for step in range(400):
        method.quantize(means[torch.randint(64, (size,), generator=generator)] + 0.13 * random(size, 8, seed=step))
    x = means[torch.arange(4096) % 64] + 0.13 * random(4096, 8, seed=999)
    assert (method.eval().quantize(x).values - x).square().mean() < 0.02


def noisy(temperature=0.1, **fields):
    return VQ(**{"codes": 16, "choice": Stochastic(temperature=temperature), **fields})


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-9])
def test_without_temperature_the_drawn_code_is_the_nearest(temperature):
    one, other = noisy(temperature).build(width=4), VQ(codes=16).build(width=4)
    for step in range(3):
        mine, theirs = one.quantize(random(60, 4, seed=step)), other.quantize(random(60, 4, seed=step))
        assert torch.equal(mine.codes, theirs.codes)
    assert torch.equal(one.table, other.table)


def test_codes_are_drawn_by_their_distances():
    table, z = random(5, 3), random(3, seed=1) + 10
    codes = Stochastic(temperature=0.7).codes(
        z.expand(40_000, 3), table + 10, torch.Generator().manual_seed(0)
    )  # fmt: skip
    expected = (-(z - table - 10).square().sum(1) / 0.7).softmax(0)
    torch.testing.assert_close(torch.bincount(codes, minlength=5) / 40_000, expected, atol=0.01, rtol=0)
    assert expected.max() < 0.95


def test_codes_are_drawn_in_training_only_and_by_the_saved_seed(tmp_path):
    state = torch.get_rng_state()
    method, other = (noisy(10.0).build(width=4) for _ in range(2))
    x = random(200, 4)
    found, again = method.quantize(x), other.quantize(x)
    assert torch.equal(found.codes, again.codes)
    assert (found.codes != torch.cdist(x, method.table).argmin(1, keepdim=True)).float().mean() > 0.5
    method.save(tmp_path / "q")
    loaded = VQ.load(tmp_path / "q")
    assert torch.equal(loaded.quantize(x).codes, torch.cdist(x, loaded.table).argmin(1, keepdim=True))
    later = method.quantize(x).codes
    assert not torch.equal(later, found.codes)
    assert torch.equal(loaded.train().quantize(x).codes, later)
    assert torch.equal(torch.get_rng_state(), state)
    assert method.quantize(x[:0]).codes.shape == (0, 1)


def test_drawn_codes_move_the_table_and_come_out():
    x, start = random(100, 4), random(16, 4, seed=1)
    method = noisy(10.0, update=Ema(decay=0.0, smoothing=0.0), revive=Never()).build(width=4)
    method.book.begin(start)
    found = method.quantize(x.requires_grad_())
    assert torch.equal(found.values.detach(), start[found.codes[:, 0]])
    assert torch.equal(method.book.counts, torch.bincount(found.codes[:, 0], minlength=16).float())


def test_drawing_holds_no_number_for_each_pair(monkeypatch):
    made, original = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **o: made.append(size) or original(*size, **o))
    x, table = random(300, 2), random(1 << 16, 2, seed=1)
    assert len(Stochastic().codes(x, table, torch.Generator().manual_seed(0))) == 300
    assert max(rows * codes for rows, codes in made) <= 1 << 22


@pytest.mark.parametrize("start", [KMeans(), Sampled(), Uniform()])
def test_starts(start):
    x = random(100, 4)
    method = VQ(codes=16, start=start, update=Ema(decay=1.0, smoothing=0.0), revive=Never()).build(width=4)
    method.quantize(x)
    table = method.table
    if isinstance(start, Sampled):
        assert all((row == x).all(1).any() for row in table)
        assert len(table.unique(dim=0)) == 16
    elif isinstance(start, Uniform):
        assert 0.9 / 16 < table.max() <= 1 / 16
        assert -1 / 16 <= table.min() < -0.9 / 16
    else:
        sampled = VQ(codes=16, start=Sampled(), revive=Never()).build(width=4)
        sampled.quantize(x)
        assert (
            method.eval().quantize(x).values.sub(x).square().sum()
            < sampled.eval().quantize(x).values.sub(x).square().sum()
        )
    assert torch.equal(method.book.table, table)


def test_the_first_table_is_that_of_k_means_with_its_counts():
    x = random(200, 4)
    tables = []
    for iterations in (1, 3, 10):
        method = VQ(codes=16, start=KMeans(iterations=iterations)).build(width=4)
        method.start.begin(method.book, x, torch.Generator().manual_seed(5))
        first = drawn(x, 16, torch.Generator().manual_seed(5))
        assert torch.equal(method.table, lloyd(x, first, range(iterations)))
        assert torch.equal(method.book.counts, torch.bincount(nearest_code(x, method.table), minlength=16).float())
        torch.testing.assert_close(method.book.sums, method.book.counts.unsqueeze(1) * method.table)
        tables.append(method.table)
    assert not torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[1], tables[2])


def test_by_loss_counts_and_revives():
    x, start = random(50, 3), random(8, 3, seed=1)
    method = VQ(codes=8, update=ByLoss(decay=0.5), revive=Never()).build(width=3)
    method.book.begin(start)
    codes = method.quantize(x).codes[:, 0]
    torch.testing.assert_close(method.book.counts, 0.5 + 0.5 * torch.bincount(codes, minlength=8).float())
    assert torch.equal(method.table, start)
    revived = VQ(codes=8, update=ByLoss(decay=0.5)).build(width=3)
    revived.book.begin(start + 100 * torch.arange(8).unsqueeze(1))
    for _ in range(3):
        revived.quantize(x)
    assert (revived.table < 10).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("line", ["vq", "vq:update=by_loss", "vq:metric=cosine,choice=stochastic",
                                  "rvq:levels=2,dropout=0.5", "fsq:levels=5+5+5+5,balance=batch_moments"])  # fmt: skip
def test_averages_are_kept_in_32_bits_at_least(line, kind):
    """A step of one in a hundred is lost in 16-bit floats as soon as a count is a few."""
    method, whole = (parse(line).build(width=4).to(kind), parse(line).build(width=4))
    for step in range(30):
        x = random(60, 4, seed=step).bfloat16()
        method.quantize(x.to(kind))
        whole.quantize(x.float())
    averages = {n: t for n, t in method.named_buffers() if n.endswith(("counts", "sums", "mean", "variance"))}
    assert averages
    for name, average in averages.items():
        assert average.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
        torch.testing.assert_close(average.float(), whole.get_buffer(name), rtol=1e-4, atol=1e-4)
    # What was brought to fewer bits before stays as it is when it is moved.
    assert all(torch.equal(average, method.cpu().get_buffer(name)) for name, average in averages.items())


def test_remedies_keep_the_table_alive():
    """200 steps on vectors that move, as an encoder's do: a table without remedies is hardly used."""
    used = {}
    for spec in ("vq:codes=64,start=uniform,revive=never", "vq:codes=64,revive=never", "vq:codes=64"):
        method = parse(spec).build(width=8)
        for step in range(200):
            method.quantize(random(64, 8, seed=step) * (1 + step / 50) + step / 20)
        used[spec] = len(method.eval().quantize(random(2000, 8, seed=999) * 5 + 10).codes.unique())
    bad, middle, good = used.values()
    assert bad < middle < good
    assert good > 48


def test_a_part_or_a_quantizer_in_a_field():
    method = parse("quantize/vq:codes=8,update=ema[decay=0.5],gradient=rotation_trick,start=kmeans[iterations=2]")
    assert method.update == Ema(decay=0.5)
    assert method.start == KMeans(iterations=2)
    assert parse(str(method)).to_dict() == method.to_dict()
    with pytest.raises(InvalidValue, match=r"update must be one of by_loss, ema; got quantize/restart\."):
        parse("vq:update=restart")


def test_a_table_that_is_too_large_is_refused():
    with pytest.raises(InvalidValue, match="must have at most"):
        VQ(codes=1 << 20).build(width=1 << 20)


def _train(rank, folder, codes, counts):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    method = VQ(codes=codes).build(width=4)
    for step in range(5):
        method.quantize(random(2, 16, 4, seed=step)[rank][: counts[rank]])
    Learned.save(method, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("codes", "counts"), [(8, (16, 16)), (40, (16, 11)), (40, (11, 16))])
def test_two_processes_have_one_table(tmp_path, codes, counts):
    """Also where padding leaves one of them fewer vectors, and more codes are dead than either has."""
    mp.spawn(_train, (str(tmp_path), codes, counts), nprocs=2)
    one, other = VQ.load(tmp_path / "0"), VQ.load(tmp_path / "1")
    assert torch.equal(one.table, other.table)
    assert torch.equal(one.book.counts, other.book.counts)
