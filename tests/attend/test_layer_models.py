"""Small models of attention layers: which stands where, how they are trained, and on what."""

from __future__ import annotations

import json

import pytest
import torch

from tokenry.attend.layers import training
from tokenry.attend.layers.language_model import LayerModel
from tokenry.attend.layers.training import made_task, train
from tokenry.attend.softplus import Softplus
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.learned import Unbuilt
from tokenry.core.schooling import Schooling
from tokenry.data.tasks.asked import NOTHING
from tokenry.data.tasks.bigram_backcopy import BackcopyRows
from tokenry.data.tasks.passages import Passages
from tokenry.data.tasks.recall import AssociativeRecall, FarRetrieval

LAYERS = ("softplus:heads=2", "nats_linear:heads=2,each=1,chunk=4", "landmark:heads=2,block=4,blocks=20")


def model(layers=LAYERS, **settings):
    return LayerModel(layers=layers, **settings).build(vocabulary=20, width=16).eval()


def drawn(task, rows=6, seed=0):
    return task.sample(rows, torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("conv", [0, 3])
def test_layers_of_all_kinds_stand_in_one_model(tmp_path, conv):
    one = model(conv=conv)
    ids = torch.randint(20, (2, 23), generator=torch.Generator().manual_seed(0))
    real = torch.ones_like(ids, dtype=torch.bool)
    real[0, :5] = False
    whole = one(ids, real)
    torch.testing.assert_close(whole[0, 5:], one(ids[:1, 5:])[0], atol=1e-5, rtol=1e-4)
    for size in (1, 4, 9):
        reading = one.begin(2)
        parts = [one.read(i, reading, r) for i, r in zip(ids.split(size, 1), real.split(size, 1), strict=True)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    one.save(tmp_path / "model")
    again = LayerModel.load(tmp_path / "model")
    assert torch.equal(again(ids, real), whole)
    assert [type(layer).__name__ for layer in again.layers] == ["Softplus", "NatsLinear", "Landmark"]


def test_equal_layers_have_weights_of_their_own():
    one = Softplus(heads=2)
    made = model((one, one))
    assert not one.built
    assert not torch.equal(made.blocks[0].layer.out.weight, made.blocks[1].layer.out.weight)


def test_drawing_needs_a_generator_and_follows_it():
    one, ids = model(("softplus:heads=2",)), torch.zeros(1, 3, dtype=torch.long)
    first, again = (one.generate(ids, 9, temperature=2.0, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, one.generate(ids, 9))
    assert one.generate(ids, 0).shape == (1, 0)


def test_what_is_no_model_is_refused():
    with pytest.raises(InvalidValue, match="layers must be attention layers"):
        LayerModel(layers=("window",))
    with pytest.raises(InvalidValue, match="at least one"):
        LayerModel(layers=())
    with pytest.raises(InvalidValue, match="layers must be attention layers that are not built"):
        LayerModel(layers=(Softplus().build(width=16),))
    with pytest.raises(InvalidValue, match="width must be at most"):
        LayerModel(layers=("softplus",)).build(vocabulary=3, width=1 << 12)
    with pytest.raises(Unbuilt, match="must be built"):
        LayerModel(layers=("softplus",))(torch.zeros(1, 2, dtype=torch.long))
    for ids in (torch.tensor([[20]]), torch.tensor([[-1]]), torch.tensor([3])):
        with pytest.raises(InvalidValue, match="ids must be rows of numbers"):
            model()(ids)
    with pytest.raises(InvalidValue, match="mask must be of shape"):
        model()(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool))


def test_training_learns_and_goes_on_where_it_stopped(tmp_path):
    task = AssociativeRecall(pairs=2, length=16, keys=4, values=4)
    layers = ("test_time_regression:heads=1,regressor=delta_rule",)

    def fresh():
        return LayerModel(layers=layers).build(vocabulary=task.size, width=16)

    how = Schooling(rate=1e-2, batch=16, every=20)
    state = torch.get_rng_state()
    whole, log = train(fresh(), task, 60, how=how)
    assert torch.equal(torch.get_rng_state(), state)
    assert log[-1]["loss"] < log[0]["loss"]
    assert [entry["step"] for entry in log] == [0, 20, 40, 60]
    for steps in (20, 60):
        again, resumed = train(fresh(), task, steps, tmp_path / "run", how)
    assert resumed == log
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    with pytest.raises(StorageError, match="trained in the same way"):
        train(fresh(), AssociativeRecall(pairs=3, length=16, keys=4, values=4), 80, tmp_path / "run", how)


def test_a_layer_that_draws_is_trained_the_same_after_an_interruption(tmp_path):
    task = AssociativeRecall(pairs=2, length=16, keys=4, values=4)

    def fresh():
        layer = "nats_linear:heads=1,each=1,chunk=4,gumbel=true"
        return LayerModel(layers=(layer,)).build(vocabulary=task.size, width=8)

    how = Schooling(batch=4, every=2)
    whole, _ = train(fresh(), task, 4, how=how)
    for steps in (2, 4):
        again, _ = train(fresh(), task, steps, tmp_path / "run", how)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_price_is_added_to_the_loss():
    task = AssociativeRecall(pairs=2, length=32, keys=4, values=4)
    shares = []
    for price in (0.0, 3.0):
        made = LayerModel(layers=("nats_linear:heads=2,each=1,chunk=4",)).build(vocabulary=task.size, width=16)

        def extra(model, price=price):
            return price * model.blocks[0].layer.share

        made, _ = train(made, task, 40, how=Schooling(rate=1e-2, batch=8), extra=extra)
        shares.append(float(made.blocks[0].layer.share.detach()))
    assert shares[1] < shares[0] or shares == [0.0, 0.0]


class TestTasks:
    def test_recall_asks_for_every_pair_once(self):
        found = drawn(AssociativeRecall(pairs=5, length=40, keys=9, values=7))
        for ids, labels in zip(found.ids.tolist(), found.labels.tolist(), strict=True):
            pairs = dict(zip(ids[0:10:2], ids[1:10:2], strict=True))
            asked = [t for t, label in enumerate(labels) if label != NOTHING]
            assert len(pairs) == 5
            assert sorted(ids[t] for t in asked) == sorted(pairs)
            assert all(labels[t] == pairs[ids[t]] == ids[t + 1] and t >= 10 for t in asked)

    def test_far_pairs_are_found_by_replay(self):
        found = drawn(FarRetrieval(pairs=4, asked=3, length=70, keys=9, values=7))
        for ids, labels in zip(found.ids.tolist(), found.labels.tolist(), strict=True):
            pairs = {ids[t + 1]: ids[t + 2] for t, i in enumerate(ids) if i == 0}
            asked = [t for t, label in enumerate(labels) if label != NOTHING]
            assert len(pairs) == 4
            assert asked == [62, 65, 68]
            assert all(ids[t - 1] == 1 and labels[t] == pairs[ids[t]] == ids[t + 1] for t in asked)

    def test_backcopies_are_asked_for_at_triggers(self):
        task = BackcopyRows(length=40)
        found = drawn(task)
        active = task.source.active(found.ids)
        assert torch.equal(found.labels != NOTHING, active)
        copied = found.ids.roll(1, 1)
        assert torch.equal(found.labels[:, 2:][active[:, 2:]], copied[:, 2:][active[:, 2:]])

    def test_passages_ask_for_the_next_character(self):
        task = Passages(length=30)
        for found in (drawn(task), task.held_out(4, 50)):
            assert torch.equal(found.ids[:, 1:], found.labels[:, :-1])
        assert task.held_out(4, 50).ids.shape == (4, 50)

    @pytest.mark.parametrize("task", [AssociativeRecall(), FarRetrieval(), BackcopyRows(), Passages()],
                             ids=lambda task: type(task).__name__)  # fmt: skip
    def test_the_same_generator_gives_the_same_rows_and_answers_are_scored(self, task):
        first, again, other = drawn(task), drawn(task), drawn(task, seed=1)
        assert torch.equal(first.ids, again.ids)
        assert torch.equal(first.labels, again.labels)
        assert not torch.equal(first.ids, other.ids)
        assert 0 <= int(first.ids.min()) <= int(first.ids.max()) < task.size
        right = torch.nn.functional.one_hot(first.labels.clamp_min(0), task.size).float()
        assert first.right(right) == 1.0
        assert first.right(right.roll(1, -1)) == 0.0
        assert float(first.loss(100 * right)) < 1e-6

    def test_what_does_not_fit_is_refused(self):
        for made, words in (
            (lambda: AssociativeRecall(pairs=9, keys=8), "pairs must be in"),
            (lambda: AssociativeRecall(pairs=9, length=30), "length must be at least 4 ids"),
            (lambda: FarRetrieval(pairs=2, asked=3), "asked at most the pairs"),
            (lambda: FarRetrieval(length=20), "length must hold 4 pairs"),
            (lambda: drawn(Passages(length=1 << 20)), "length must be in"),
            (lambda: made_task("sudoku"), "task must be one of recall"),
            (lambda: made_task("recall:pairs=a"), "settings of recall must be whole numbers"),
            (lambda: made_task("recall:colour=3"), "settings of recall must be whole numbers"),
        ):
            with pytest.raises(InvalidValue, match=words):
                made()
        assert made_task("recall:pairs=3,length=20") == AssociativeRecall(pairs=3, length=20)


def test_one_command_trains_a_model_and_goes_on(tmp_path, monkeypatch, capsys):
    def told(*given):
        monkeypatch.setattr("sys.argv", ["training", *given])
        training.main()
        return json.loads(capsys.readouterr().out)

    out = str(tmp_path / "run")
    small = ("recall:pairs=2,length=16,keys=4,values=4", out, "--layer", "softplus:heads=2", "--width", "8")
    assert told(*small, "--steps", "2")["step"] == 2
    assert told(*small, "--steps", "3")["step"] == 3
    assert LayerModel.load(tmp_path / "run" / "model").layers[0].heads == 2
    pictures = ("shapes", str(tmp_path / "shapes"), "--width", "8", "--batch", "2")
    assert told(*pictures, "--steps", "1")["step"] == 1
    for wrong, sentence in (
        (("sudoku", out), "error: train: task must be one of"),
        ((*small, "--rate", "0"), "error: train: rate must be above 0"),
        ((*small, "--batch", "0"), "error: train: batch must be above 0"),
        ((*small, "--width", "0"), "width must be a whole number of at least 1"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            told(*wrong)


@pytest.mark.parametrize(
    ("layer", "least"), [("landmark:heads=2,block=17", 17), ("nats_linear:heads=2,each=1,chunk=16", 17)]
)
def test_rows_that_are_no_longer_than_a_block_are_refused(layer, least):
    """Of which a layer of blocks would learn nothing about blocks; one token more is enough."""
    for length in (16, 17):
        task = AssociativeRecall(pairs=2, length=length, keys=4, values=4)
        fresh = LayerModel(layers=(layer,)).build(vocabulary=task.size, width=16)
        if length < least:
            with pytest.raises(InvalidValue, match=f"rows must have at least {least} ids.*; got {length}"):
                train(fresh, task, 1)
        else:
            train(fresh, task, 1)
