"""The training loop: what it tunes, and that an interruption leaves no trace in the result."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tests.compress.compress_rows import characters
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.learned import Learned
from tokenry.learn.base import Loss, Objective
from tokenry.learn.concept_aware import ConceptAware
from tokenry.learn.electra import Electra
from tokenry.learn.parts.generator import Small, Unigram
from tokenry.learn.parts.history import MovingAverage
from tokenry.learn.random import RandomLabels
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.selection.loss_table import LossTable
from tokenry.learn.ss_token import SsToken
from tokenry.learn.training.examples import Example, batches
from tokenry.learn.training.fit import Schedule, fit
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

PAIRS = (
    ("a lamp ", "shines at night"), ("a bee ", "makes honey"), ("rain ", "falls on the town"), ("ships ", "come"),
    ("the keeper ", "climbs the stairs"), ("a bell ", "rings twice"), ("snow ", "melts"),
)  # fmt: skip
LEARNERS = (
    SsToken(), SsToken(history=MovingAverage(decay=0.9), gamma=0.7, warm_up=5), RandomLabels(),
    ConceptAware(heads=2, weight=0.3), Electra(generator=Small(layers=1)), Electra(generator=Unigram()),
)  # fmt: skip


def language(**changes):
    return LanguageModel(tiny("llama", **changes), characters(), "tiny", 512)


def examples(model):
    return [Example.of(model, prompt, response) for prompt, response in PAIRS]


def quick(**changes):
    return Schedule(**{"epochs": 2, "batch": 4, "rows": 2, "rate": 1e-2, "rank": 4, **changes})


def weights(fitted):
    return {name: p.detach().clone() for name, p in fitted.language.model.named_parameters()}


def same(a, b, **tolerance):
    for name, weight in weights(a).items():
        torch.testing.assert_close(weights(b)[name], weight, **(tolerance or {"rtol": 0, "atol": 0}))


def test_an_example_spells_no_mark():
    model = language()
    end = model.tokenizer.convert_tokens_to_ids("<s>")
    text = Example.of(model, "a<s>b", "c<s>")
    assert end not in text.ids.tolist()
    assert (text.ids == end).sum() == 0
    assert (Example.of(model, "a<s>b", "c<s>", marks=True).ids == end).sum() == 2


@pytest.mark.parametrize("rank", [0, 4])
def test_learns_and_leaves_the_random_state(rank):
    model = language()
    first = LossTable.measure(model.model, batches(examples(model), 4)).mean()
    state, before = torch.get_rng_state(), [p.clone() for p in model.model.parameters()]
    fitted = fit(RandomLabels(rho=1.0), model, examples(model), schedule=quick(epochs=8, rank=rank), progress=False)
    assert LossTable.measure(fitted.language.model, batches(examples(model), 4)).mean() < first - 0.3
    assert len(fitted.losses) == 16
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.model.training
    if rank:
        own = [p for name, p in fitted.language.model.named_parameters() if "lora" not in name]
        assert all(torch.equal(a, b) for a, b in zip(own, before, strict=True))


@dataclass(eq=False, repr=False, kw_only=True)
class Tempered(Objective, Learned):
    """Cross-entropy at a temperature that is learned too."""

    def make(self) -> None:
        self.heat = nn.Parameter(torch.zeros(()))

    def count(self, batch):
        return Counter(tokens=int((batch["labels"][:, 1:] != -100).sum()))

    def loss(self, outputs, batch, watch, of=None):
        labelled = Labelled.of(batch, "tempered")
        losses = labelled.losses(outputs.logits * self.heat.exp(), "tempered")
        value = losses.sum() / (of or self.count(batch))["tokens"]
        return Loss(value, {"tempered": value.detach()}, labelled.counted.float())


def test_an_objective_may_have_weights(tmp_path):
    def run(folder=None):
        objective = Tempered().build()
        fitted = fit(objective, language(), examples(language()), schedule=quick(), folder=folder, progress=False)
        return objective.heat.item(), fitted.losses

    whole = run()
    assert abs(whole[0]) > 1e-3
    assert run(tmp_path) == whole
    assert run(tmp_path) == whole, "read from the folder"


@pytest.mark.parametrize("objective", LEARNERS, ids=str)
def test_an_interruption_leaves_no_trace(objective, tmp_path):
    class Stop(Exception):
        pass

    whole = fit(objective, language(), examples(language()), schedule=quick(epochs=3), progress=False)
    seen = []

    def stop(*_):
        seen.append(1)
        if len(seen) == 8:
            raise Stop

    model = language()
    settings = {"schedule": quick(epochs=3), "folder": tmp_path, "save_every": 2, "progress": False}
    with pytest.raises(Stop):
        fit(objective, model, examples(model), told=stop, **settings)
    assert not hasattr(model.model, "peft_config"), "after an exception the model is as it was"
    assert all(p.requires_grad for p in model.model.parameters())
    count = []
    again = fit(objective, model, examples(model), told=lambda *_: count.append(1), **settings)
    assert again.losses == whole.losses
    assert len(count) < 12
    same(again, whole)
    finished = fit(objective, language(), examples(model), **settings)
    assert finished.losses == whole.losses
    same(finished, whole)


def test_rows_decide_nothing_but_memory():
    results = [
        fit(SsToken(), language(), examples(language()), schedule=quick(rows=rows), progress=False) for rows in (1, 4)
    ]
    assert results[0].losses == pytest.approx(results[1].losses, rel=1e-4)
    same(*results, rtol=1e-2, atol=1e-3)


def test_dropout_is_drawn_from_the_seed_and_the_step(tmp_path):
    def run(seed, **more):
        model = LanguageModel(tiny("gpt2", resid_pdrop=0.3), characters(), "tiny", 512)
        torch.rand(5)
        schedule = quick(rank=0, seed=seed)
        return fit(RandomLabels(), model, examples(model), schedule=schedule, progress=False, **more)

    def stop(*_):
        if (tmp_path / "fit.safetensors").exists():
            raise KeyboardInterrupt

    first, again, other = run(3), run(3), run(4)
    assert first.losses == again.losses
    same(first, again)
    assert other.losses != first.losses
    with pytest.raises(KeyboardInterrupt):
        run(3, folder=tmp_path, save_every=2, told=stop)
    resumed = run(3, folder=tmp_path)
    assert resumed.losses == first.losses
    same(resumed, first)


def test_bad_input_is_refused(tmp_path):
    model = language()
    with pytest.raises(InvalidValue, match="at least one; got none"):
        fit(SsToken(), model, [], progress=False)
    with pytest.raises(InvalidValue, match="save_every must be"):
        fit(SsToken(), model, examples(model), save_every=0, progress=False)
    with pytest.raises(InvalidValue, match="must have a response"):
        Example.of(model, "nothing follows", "")
    with pytest.raises(InvalidValue, match="must have a response"):
        Example.of(model, "a long prompt", "cut off", longest=5)
    with pytest.raises(InvalidValue, match="one for each token"):
        Example(torch.ones(4, dtype=torch.long), torch.ones(3, dtype=torch.long))
    for p in model.model.parameters():
        p.requires_grad_(False)
    with pytest.raises(InvalidValue, match="must ask for gradients"):
        fit(SsToken(), model, examples(model), schedule=quick(rank=0), progress=False)
    with pytest.raises(InvalidValue, match="rows must be at least 1"):
        Schedule(rows=0)
    fitted = fit(SsToken(), model, examples(model), schedule=quick(), folder=tmp_path, progress=False)
    with pytest.raises(InvalidValue, match="adapters already"):
        fit(SsToken(), fitted.language, examples(model), schedule=quick(), progress=False)
    with pytest.raises(StorageError, match="objective, examples differ"):
        fit(RandomLabels(), language(), examples(model)[1:], schedule=quick(), folder=tmp_path, progress=False)
    with pytest.raises(StorageError, match="schedule differ"):
        fit(SsToken(), language(), examples(model), schedule=quick(rate=0.1), folder=tmp_path, progress=False)
    file = tmp_path / "fit.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(StorageError, match="whole state"):
        fit(SsToken(), language(), examples(model), schedule=quick(), folder=tmp_path, progress=False)


CHILD = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tests.learn.test_fit import *
told = []
def tell(*_):
    told.append(1)
    if len(told) == 30:
        os.kill(os.getpid(), signal.SIGKILL)
fit(SsToken(), language(), examples(language()), schedule=quick(epochs=20), folder=sys.argv[1], save_every=1,
    progress=False, told=tell)
"""


@pytest.mark.slow
def test_goes_on_after_being_killed(tmp_path):
    killed = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    settings = {"schedule": quick(epochs=20), "progress": False}
    count = []
    again = fit(
        SsToken(), language(), examples(language()), folder=tmp_path, told=lambda *_: count.append(1), **settings
    )
    assert 0 < len(count) < 80
    whole = fit(SsToken(), language(), examples(language()), **settings)
    assert again.losses == whole.losses
    same(again, whole)
