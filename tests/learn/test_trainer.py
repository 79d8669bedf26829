"""Objectives in transformers' Trainer: accumulation, evaluation, checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from tests.learn.test_fit import Tempered, examples, language
from tokenry.core.errors import Incompatible, StorageError
from tokenry.learn.parts.history import MovingAverage
from tokenry.learn.random import RandomLabels
from tokenry.learn.ss_token import SsToken
from tokenry.learn.training.examples import Example, collate
from tokenry.learn.training.trainer import ObjectiveTrainer

KEPT = {"rho": 0.5}


def data():
    return [{"ids": e.ids, "labels": e.labels} for e in examples(language())] * 2


def together(rows):
    return collate([Example(r["ids"], r["labels"]) for r in rows])


def settings(folder, rows=4, parts=1, **more):
    return TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=rows, gradient_accumulation_steps=parts, use_cpu=True,
        num_train_epochs=1, learning_rate=1e-2, lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1,
        report_to=[], disable_tqdm=True, remove_unused_columns=False, seed=1, **{"save_strategy": "no", **more},
    )  # fmt: skip


def trained(folder, objective, rows=4, parts=1, resume=None, **more):
    model = language().model
    kind = ObjectiveTrainer if objective is not None else Trainer
    given = {"objective": objective} if objective is not None else {}
    trainer = kind(
        model=model, args=settings(folder, rows, parts, **more), train_dataset=data(), data_collator=together, **given
    )
    trainer.train(resume_from_checkpoint=resume)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return trainer, losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def test_all_labels_is_the_trainer_itself(tmp_path):
    _, plain, theirs = trained(tmp_path, None, rows=2, parts=2)
    _, losses, ours = trained(tmp_path, RandomLabels(rho=1.0), rows=2, parts=2)
    assert losses == pytest.approx(plain, rel=1e-4)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("objective", [RandomLabels(**KEPT), SsToken(**KEPT), SsToken(**KEPT, history=MovingAverage())])
def test_accumulation_changes_nothing(tmp_path, objective):
    _, at_once, whole = trained(tmp_path, objective, rows=4, parts=1)
    _, in_parts, ours = trained(tmp_path, objective, rows=1, parts=4)
    assert in_parts == pytest.approx(at_once, rel=1e-3)
    torch.testing.assert_close(ours, whole, rtol=1e-2, atol=1e-3)


def test_evaluation_is_over_all_labels(tmp_path):
    trainer, _, _ = trained(tmp_path, RandomLabels(rho=0.2))
    batch = together(data()[:4])
    with torch.no_grad():
        expected = trainer.model.eval()(**batch).loss.item()
    assert trainer.evaluate(data()[:4])["eval_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("objective", [SsToken(), SsToken(history=MovingAverage(decay=0.5), warm_up=9)])
def test_a_checkpoint_holds_what_is_remembered(tmp_path, objective):
    saving = {"save_strategy": "steps", "save_steps": 2}
    _, losses, whole = trained(tmp_path, objective, rows=2, **saving)
    _, again, ours = trained(tmp_path, objective, rows=2, resume=str(tmp_path / "checkpoint-4"), **saving)
    assert again == losses
    assert torch.equal(ours, whole)
    (tmp_path / "checkpoint-4" / "objective.safetensors").unlink()
    with pytest.raises(StorageError, match="what the objective remembers"):
        trained(tmp_path, objective, rows=2, resume=str(tmp_path / "checkpoint-4"), **saving)


def test_what_it_cannot_train_is_refused(tmp_path):
    with pytest.raises(Incompatible, match="train it with fit"):
        trained(tmp_path, Tempered())


CHILD = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from safetensors.torch import save_file
from tests.learn.test_trainer import *
trainer, losses, weights = trained(Path(sys.argv[1]) / "run", SsToken(**KEPT), rows=2, max_steps=3)
assert trainer.accelerator.num_processes == 2
if trainer.is_world_process_zero():
    save_file({"weights": weights}, Path(sys.argv[1]) / "weights.safetensors")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_learn_the_same(tmp_path):
    (tmp_path / "child.py").write_text(CHILD, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(tmp_path / "child.py"), str(tmp_path)], check=True, env=environment)
    # Steps of as many samples as all processes read; the last one would be filled up with repeated ones.
    _, _, alone = trained(tmp_path / "alone", SsToken(**KEPT), rows=4, max_steps=3)
    torch.testing.assert_close(load_file(tmp_path / "weights.safetensors")["weights"], alone, rtol=1e-2, atol=1e-3)
