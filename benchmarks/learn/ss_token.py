"""What selection of tokens does to a model that learns from damaged text.

SmolLM2 with LoRA continues passages of the sample documents. In half of the passages three tenths of the tokens that
are to be learned were replaced by others of the same data. Every arm sees the same passages in the same order and
keeps 60 % of the labels of each, except the two that keep all: those of the damaged text, and those of its whole
tokens only, which no method can know. Rejected is what a method does not learn from, counted in the damaged half.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

import tokenry.data as samples
from benchmarks.arms import others
from benchmarks.learn.lora import LAYERS, RANK, adapted
from benchmarks.learn.options import options
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry.core.registry import parse
from tokenry.learn.base import Loss
from tokenry.learn.parts.history import Beforehand
from tokenry.learn.selection.labels import IGNORED
from tokenry.learn.selection.loss_table import LossTable
from tokenry.learn.selection.selective import Selective
from tokenry.learn.ss_token import SsToken
from tokenry.learn.training.examples import Example, batches
from tokenry.learn.training.fit import Schedule, fit
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load

TITLE = "Learning from damaged text"
SUBJECTS = ("learn/ss_token",)
ABOUT = (
    "SmolLM2-135M learns to continue 96 passages of 24 tokens by 32 more, once, with LoRA on its last eight "
    "layers. In half of the passages three tenths of the tokens to be learned were replaced by others of the same "
    "data. All arms but the first two keep 60 % of the labels of each passage. `whole tokens only` knows the "
    "damage, which no method can. Loss is on 48 undamaged passages. Rejected and wrong tokens are counted in the "
    "damaged passages, of whose labels 31 % are wrong; chance rejects 38 % of them. The loss signal prefers "
    "damaged tokens: they begin with the largest losses, which also fall most. The paper's data were noisy in "
    "other ways, and its models 20 to 100 times larger."
)

DOCUMENTS = ("moby_dick", "sotu_1930", "sotu_1975", "in_the_year_2889")
PROMPT, RESPONSE = 24, 32
TRAINING, VALIDATION = 96, 48
NOISE, DAMAGED = 0.3, 0.5
SEEDS = (0, 1, 2)
RATE, BATCH = 1e-3, 8

ALL, KNOWN = "all tokens", "whole tokens only"
NAMED = {
    ALL: "learn/random:rho=1.0",
    KNOWN: "learn/random:rho=1.0",
    "random": "learn/random",
    "loss alone": "ss_token:gamma=1.0",
    "attention alone": "ss_token:gamma=0.0",
    "ss_token": "ss_token",
    "ss_token, both min-max": "ss_token:attention_scale=min_max",
    "ss_token, ranks": "ss_token:scale=rank,attention_scale=rank",
}
ARMS = NAMED | {name: spec for name, spec in others("learn", NAMED).items() if isinstance(parse(spec), Selective)}
"""Methods that choose labels; what is learned from them otherwise has benchmarks of its own."""


def main() -> None:
    """All arms and seeds; `--arm` and `--seed` for a quick look, which is not recorded."""
    given = options(__doc__, ARMS)
    arms = {name: ARMS[name] for name in given.arm or ARMS}
    settings = {
        "model": "smollm2", "documents": DOCUMENTS, "prompt": PROMPT, "response": RESPONSE, "training": TRAINING,
        "validation": VALIDATION, "noise": NOISE, "damaged": DAMAGED, "layers": LAYERS, "rank": RANK, "rate": RATE,
        "batch": BATCH, "seeds": SEEDS, "arms": ARMS,
    }  # fmt: skip
    record = Record(
        "learn/ss_token", dtype="bfloat16", settings=settings,
        save=not given.arm and not given.seed, grows=True,
    )  # fmt: skip
    language = load("smollm2", dtype="bfloat16", device="cpu")
    training, validation = passages(language)
    for seed in given.seed or SEEDS:
        left = [name for name in arms if record.find(arm=name, seed=seed) is None]
        if left:
            with Seed(language, training, validation, seed) as same:
                for name in left:
                    record.add(same.run(name))
                    print(record.rows[-1], flush=True)
    show(record.finish(claims(record) if record.save else []), tables)


def passages(language: LanguageModel) -> tuple[list[Tensor], list[Tensor]]:
    """Passages to learn from and others to measure on, as many of each document."""
    each, size = (TRAINING + VALIDATION) // len(DOCUMENTS), PROMPT + RESPONSE
    training, validation = [], []
    for name in DOCUMENTS:
        ids = torch.tensor(language.tokenizer(samples.read(name), verbose=False)["input_ids"])
        pieces = ids[: len(ids) // size * size].view(-1, size)
        order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))[:each]
        split = TRAINING // len(DOCUMENTS)
        training += list(pieces[order[:split]])
        validation += list(pieces[order[split:]])
    return training, validation


def damaged(passages: list[Tensor], seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Half of the passages with wrong tokens among those that are learned, and which these are."""
    generator = torch.Generator().manual_seed(seed)
    pool = torch.cat([p[PROMPT:] for p in passages])
    half = torch.randperm(len(passages), generator=generator)[: int(DAMAGED * len(passages))].tolist()
    out, wrong = [p.clone() for p in passages], [torch.zeros(len(p), dtype=torch.bool) for p in passages]
    for i in half:
        at = PROMPT + torch.randperm(RESPONSE, generator=generator)[: round(NOISE * RESPONSE)]
        other = pool[torch.randint(len(pool), (len(at),), generator=generator)]
        out[i][at] = torch.where(other == out[i][at], other - 1, other).abs()
        wrong[i][at] = True
    return out, wrong


class Seed:
    """What all arms of one seed have in common: the damage, the history, and the loss before."""

    def __init__(self, language: LanguageModel, training: list[Tensor], validation: list[Tensor], seed: int) -> None:
        self.language, self.seed = language, seed
        self.texts, self.wrong = damaged(training, seed)
        whole = torch.zeros(PROMPT + RESPONSE, dtype=torch.bool)
        self.held_out = list(batches([example(v, whole) for v in validation], BATCH))
        self.examples = [example(t, whole) for t in self.texts]
        self.known = [example(t, w) for t, w in zip(self.texts, self.wrong, strict=True)]

    def __enter__(self) -> Seed:
        self.folder = tempfile.TemporaryDirectory()
        self.history = Beforehand(file=str(Path(self.folder.name) / "history.safetensors"))
        LossTable.measure(self.language.model, batches(self.examples, BATCH)).save(self.history.file)
        self.before = LossTable.measure(self.language.model, self.held_out).mean()
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def run(self, name: str) -> Row:
        """One training of a fresh model."""
        objective = parse(ARMS[name])
        if isinstance(objective, SsToken):
            objective = replace(objective, history=self.history)
        examples = self.known if name == KNOWN else self.examples
        counts = Counts({t.numpy().tobytes(): w for t, w in zip(self.texts, self.wrong, strict=True)})
        learning = adapted(self.language, self.seed)
        schedule = Schedule(rank=0, batch=BATCH, rows=BATCH, rate=RATE, seed=self.seed)
        losses = fit(objective, learning, examples, schedule=schedule, told=counts, progress=False).losses
        after = LossTable.measure(learning.model, self.held_out).mean()
        learning.model.unload()
        return {
            "arm": name, "spec": ARMS[name], "seed": self.seed, "before": round(self.before, 4),
            "after": round(after, 4), "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4),
            **counts.shares(),
        }  # fmt: skip


def example(ids: Tensor, left_out: Tensor) -> Example:
    """A passage whose end is learned, except what is left out."""
    labels = ids.clone()
    labels[:PROMPT] = IGNORED
    labels[left_out] = IGNORED
    return Example(ids, labels)


class Counts:
    """How many of the rejected tokens were wrong, and how many of the wrong ones were rejected."""

    def __init__(self, wrong: Mapping[bytes, Tensor]) -> None:
        self.wrong = wrong
        self.rejected = self.right = self.all = self.labels = 0

    def __call__(self, batch: Mapping[str, Any], loss: Loss) -> None:
        for ids, weights in zip(batch["input_ids"], loss.token_weights, strict=True):
            wrong = self.wrong[ids.numpy().tobytes()][PROMPT:]
            if bool(wrong.any()):
                rejected = weights[PROMPT:] == 0
                self.rejected += int(rejected.sum())
                self.right += int((rejected & wrong).sum())
                self.all += int(wrong.sum())
                self.labels += len(wrong)

    def shares(self) -> dict[str, float | None]:
        """Precision and recall of rejecting."""
        return {
            "wrong": round(self.all / self.labels, 4),
            "precision": round(self.right / self.rejected, 4) if self.rejected else None,
            "recall": round(self.right / self.all, 4),
        }


def claims(record: Record) -> list[dict[str, Any]]:
    """Selection rejects damage better than chance, and what is learned is better than from everything."""
    after = {arm: torch.tensor([r["after"] for r in record.rows if r["arm"] == arm]) for arm in ARMS}
    found = []
    for arm in ("loss alone", "attention alone", "ss_token"):
        precision = [r["precision"] for r in record.rows if r["arm"] == arm]
        found.append(claim(f"{arm}: share of rejected tokens that were wrong", mean(precision), at_least=0.36))
        for control in (ALL, "random"):
            gain = after[control] - after[arm]
            found.append(
                claim(f"{arm}: loss on other passages below that of {control}, nats", gain.mean().item(), at_least=0.0)
                | {"interval": [round(end, 4) for end in intervals.of_mean(gain)]}
            )
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("arm", "loss after", "change from before", "rejected were wrong", "wrong were rejected")
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        precise = [r["precision"] for r in rows if r["precision"] is not None]
        cells.append(
            (
                arm, fixed(mean(r["after"] for r in rows), 3), f"{mean(r['after'] - r['before'] for r in rows):+.3f}",
                f"{100 * mean(precise):.1f} %" if precise else "", f"{100 * mean(r['recall'] for r in rows):.1f} %",
            )
        )  # fmt: skip
    return [Table(f"mean of {len(document['settings']['seeds'])} seeds, losses in nats", heads, cells)]


if __name__ == "__main__":
    main()
