"""Whether heads sleep on the first token, in toys trained on Bigram-Backcopy and in SmolLM2.

The toys learn from bigrams of Moby-Dick: a head must copy behind three triggers and has nothing to do elsewhere. Beside
the trained ones stand an untrained one and those whose attention or optimizer is the paper's remedy. The explicit
circuit reads the token before a trigger and the first token from everywhere else. SmolLM2 reads prose and Python code
in rows of 384 tokens; the control is the difference between two halves of one domain.
"""

from __future__ import annotations

import argparse
import shutil
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, show
from tokenry.core.schooling import Schooling
from tokenry.core.tokens import TokenBatch
from tokenry.data import read
from tokenry.data.tasks.bigram_backcopy import BigramBackcopy
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.text.begin import begin_mark
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import plain
from tokenry.probe.active_dormant import ActiveDormant
from tokenry.probe.bigram.toy import BigramToy
from tokenry.probe.bigram.training import TEST_SEED, measured, train
from tokenry.probe.reports.report import Report
from tokenry.probe.views.losses import losses, silenced, weighed
from tokenry.probe.views.rows import begun, cut, first_columns
from tokenry.probe.views.weights import circuit

TITLE = "Heads that sleep on the first token"
SUBJECTS = ("probe/active_dormant",)
ABOUT = (
    "`sink` is the mean attention on the first token, over queries at least 32 tokens behind it. The toys are "
    "models with one head in each layer, trained on Bigram-Backcopy with bigrams of Moby-Dick: active queries "
    "stand at triggers, where the symbol before them must be copied, all others are dormant. The explicit circuit "
    "reads one token, the one before a trigger and the first one elsewhere, with the toy's other weights as they "
    "are; `the source itself` is the smallest possible loss. SmolLM2-135M reads four documents and four modules of "
    "Python's library in eight rows of 384 tokens for each domain. A head is asleep with a sink above 0.3 and "
    "switches when its sinks on prose and code differ by more than 0.2. `no mark` reads the same rows without the "
    "model's beginning mark, which its tokenizer does not add."
)

TEXT = "moby_dick"
UNTRAINED, TRAINED, RELU = "untrained", "softmax, Adam", "ReLU, Adam"
DEEP, DEEP_SGD = "3 layers, Adam", "3 layers, SGD"
TOYS: dict[str, dict[str, Any]] = {
    UNTRAINED: {"steps": 0},
    TRAINED: {"steps": 2000},
    "softmax, Adam, seed 1": {"steps": 2000, "seed": 1},
    RELU: {"steps": 1000, "attention": "relu"},
    DEEP: {"steps": 2500, "layers": 3},
    DEEP_SGD: {"steps": 2500, "layers": 3, "optimizer": "sgd", "rate": 0.1},
}
PROSE = ("in_the_year_2889", "moby_dick", "sotu_1930", "sotu_1975")
CODE = ("argparse.py", "difflib.py", "fractions.py", "textwrap.py")
"""Modules of Python's own library."""

TOKENS, ROWS, HEADS = 384, 8, 2
MARKS = {"beginning mark": True, "no mark": False}


def main() -> None:
    """All of it, or only the toys or only SmolLM2, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=("toys", "smollm2"), help="a quick look, which is not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    settings = {
        "text": TEXT, "toys": TOYS, "model": "smollm2", "prose": PROSE, "code": CODE, "tokens": TOKENS, "rows": ROWS,
        "heads": HEADS,
    }  # fmt: skip
    record = Record(
        "probe/active_dormant", dtype="float32", settings=settings,
        save=given.only is None,
    )  # fmt: skip
    if given.only != "smollm2":
        data = BigramBackcopy.of_text(read(TEXT))
        for arm, how in TOYS.items():
            if record.find(part="toy", arm=arm) is None:
                record.add(toy(arm, data, dict(how)))
                shutil.rmtree(checkpoints(arm), ignore_errors=True)
    if given.only != "toys":
        language = load("smollm2", dtype="float32")
        for arm, begin in MARKS.items():
            if record.find(part="smollm2", arm=arm) is None:
                record.add(pretrained(arm, language, begin))
        if record.find(part="silence") is None:
            record.add(*silence(language, record))
    show(record.finish(claims(record) if given.only is None else ()), tables)


def toy(arm: str, data: BigramBackcopy, how: dict[str, Any]) -> Row:
    """Train a toy, from its last checkpoint where one is left, and look at it."""
    steps = how.pop("steps")
    schooling = Schooling(**{key: how.pop(key) for key in ("optimizer", "rate", "seed") if key in how})
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(arm, total=steps)

        def tell(step: int) -> None:
            bar.update(task, completed=step)

        made, log = train(data, steps, checkpoints(arm), schooling, tell=tell, **how)
    row: Row = {"part": "toy", "arm": arm, "steps": steps} | measured(made, 256)
    row["least_dormant"], row["least_active"] = least(made)
    row["log"] = [{key: e[key] for key in ("step", "sink_dormant", "lead_dormant")} for e in log]
    if made.layers == 1 and made.attention == "softmax":
        row["circuit_dormant"], row["circuit_active"] = explicit(made)
    return row


def checkpoints(arm: str) -> Path:
    """Where a toy is kept until its row is recorded."""
    return Path(tempfile.gettempdir()) / "tokenry-active-dormant" / arm.replace(", ", "-").replace(" ", "-")


def rows_of(made: BigramToy) -> tuple[TokenBatch, torch.Tensor, torch.Tensor]:
    """The rows that are measured, and which of their counted queries are dormant and active."""
    batch = TokenBatch.from_ids(made.data.sample(256, made.length, torch.Generator().manual_seed(TEST_SEED)))
    assert batch.ids is not None
    active, counted = made.data.active(batch.ids), torch.zeros_like(batch.mask)
    counted[:, 32:-1] = True
    return batch, counted & ~active, counted & active


def least(made: BigramToy) -> list[float]:
    """The smallest possible losses, those of the source itself."""
    batch, *kinds = rows_of(made)
    assert batch.ids is not None
    found = made.data.least(batch.ids)
    return [float(found[kind].mean()) for kind in kinds]


def explicit(made: BigramToy) -> list[float]:
    """Losses with the explicit circuit in place of the attention that was learnt."""
    batch, dormant, active = rows_of(made)
    assert batch.ids is not None
    where, first = made.data.active(batch.ids), first_columns(batch)
    found = losses(made.model, batch, weighed(lambda rows: circuit(where[rows], first[rows])))
    return [float(found[kind].mean()) for kind in (dormant, active)]


def domains(language: LanguageModel) -> dict[str, TokenBatch]:
    """Prose and code in rows of equal length."""
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = {
        "prose": [read(name) for name in PROSE],
        "code": [(library / name).read_text(encoding="utf-8") for name in CODE],
    }
    return {
        name: cut([plain(language.tokenizer, [Document(text)]) for text in found], TOKENS - 1, ROWS)
        for name, found in texts.items()
    }


def pretrained(arm: str, language: LanguageModel, begin: bool) -> Row:
    """What SmolLM2 does with the first token of prose and of code."""
    found = ActiveDormant(begin=begin, ablate=0).look(language, domains(language))
    numbers = {name: found[name].tolist() for name in ("sink", "lead", "value_ratio", "residual_peak", "loss")}
    return {"part": "smollm2", "arm": arm} | numbers | {"control": found["control"].tolist()} | counts(found)


def counts(found: Report) -> Row:
    """How many heads do what the claims are about."""
    prose, code = found["sink"]
    return {
        "heads": prose.numel(),
        "asleep": [int((one > 0.3).sum()) for one in (prose, code)],
        "switching": int(((prose - code).abs() > 0.2).sum()),
        "by_chance": [int((one > 0.2).sum()) for one in found["control"]],
        "median_value_ratio": float(found["value_ratio"].median()),
        "largest_peak": float(found["residual_peak"].mean(0).max()),
        "peak_layer": int(found["residual_peak"].mean(0).argmax()),
    }


def silence(language: LanguageModel, record: Record) -> list[Row]:
    """Change of the loss without heads that sleep on code, without heads that sleep on prose, and without others."""
    seen = record.find(part="smollm2", arm="beginning mark")
    assert seen is not None
    prose, code = torch.tensor(seen["sink"])
    order = (code - prose).flatten().argsort(descending=True).tolist()
    others = torch.randperm(prose.numel(), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = {"sleeps on code": order[:HEADS], "sleeps on prose": order[::-1][:HEADS], "random": others[:HEADS]}
    batches = {name: begun(batch, begin_mark(language)) for name, batch in domains(language).items()}
    before = {name: losses(language.model, batch) for name, batch in batches.items()}
    found = []
    for arm, heads in chosen.items():
        for i in heads:
            layer, head = divmod(i, prose.shape[1])
            change = {
                name: float((losses(language.model, batch, silenced(layer, head)) - before[name])[:, 32:].nanmean())
                for name, batch in batches.items()
            }
            sinks = {"sink_prose": float(prose[layer, head]), "sink_code": float(code[layer, head])}
            found.append({"part": "silence", "arm": arm, "head": f"{layer}.{head}"} | sinks | change)
    return found


def claims(record: Record) -> list[dict[str, Any]]:
    """What was to be shown."""
    one, untrained, relu = (record.find(part="toy", arm=arm) for arm in (TRAINED, UNTRAINED, RELU))
    seen = record.find(part="smollm2", arm="beginning mark")
    assert one is not None
    assert untrained is not None
    assert relu is not None
    assert seen is not None
    return [
        claim("toy: attention of dormant queries on the first token", one["sink_dormant"][0], at_least=0.8),
        claim("toy: attention of queries at triggers on it", one["sink_active"][0], at_most=0.1),
        claim("untrained toy: attention of dormant queries on it", untrained["sink_dormant"][0], at_most=0.1),
        claim("ReLU toy: the larger of both", max(*relu["sink_dormant"], *relu["sink_active"]), at_most=0.1),
        claim("explicit circuit: nats above the toy's own loss, the larger of both kinds",
              max(abs(one[f"circuit_{k}"] - one[f"loss_{k}"]) for k in ("dormant", "active")), at_most=0.05),
        claim("SmolLM2: norm of the first state over the median one, the largest", seen["largest_peak"], at_least=100),
        claim("SmolLM2: norm of the first value over the median one, the median", seen["median_value_ratio"],
              at_most=0.5),
        claim("SmolLM2: heads with more than 0.3 of their attention on the first token, of 270", min(seen["asleep"]),
              at_least=90),
        claim("SmolLM2: heads that differ by more than 0.2 between prose and code, over those between halves of one "
              "domain", seen["switching"] / max(1, *seen["by_chance"]), at_least=2),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    toys, seen, silent = ([r for r in document["rows"] if r["part"] == p] for p in ("toy", "smollm2", "silence"))

    def each(values: Sequence[float]) -> str:
        return ", ".join(f"{v:.2f}" for v in values)

    return [
        Table(
            "toys: one number for each layer",
            ("toy", "steps", "sink, dormant", "sink, active", "value ratio", "residual peak", "loss, dormant",
             "loss, active"),
            [
                (r["arm"], f"{r['steps']:,}", each(r["sink_dormant"]), each(r["sink_active"]), each(r["value_ratio"]),
                 each(r["residual_peak"]), fixed(r["loss_dormant"], 3), fixed(r["loss_active"], 3))
                for r in toys
            ]
            + [
                (f"{r['arm']}, explicit circuit", "", "", "", "", "", fixed(r["circuit_dormant"], 3),
                 fixed(r["circuit_active"], 3))
                for r in toys if r["steps"] and "circuit_active" in r
            ]
            + [("the source itself", "", "", "", "", "", fixed(toys[0]["least_dormant"], 3),
                fixed(abs(toys[0]["least_active"]), 3))],
        ),
        Table(
            "SmolLM2",
            ("first token", "heads asleep on prose", "on code", "heads that switch", "between halves of prose",
             "of code", "median value ratio", "largest residual peak", "loss on prose", "on code"),
            [
                (r["arm"], *(str(n) for n in r["asleep"]), str(r["switching"]), *(str(n) for n in r["by_chance"]),
                 fixed(r["median_value_ratio"], 2), f"{r['largest_peak']:.0f} behind layer {r['peak_layer']}",
                 *(fixed(v, 3) for v in r["loss"]))
                for r in seen
            ],
        ),
        Table(
            "SmolLM2 without one head: change of the loss in nats",
            ("head", "chosen because it", "sink on prose", "on code", "loss on prose", "on code"),
            [
                (r["head"], r["arm"], fixed(r["sink_prose"], 2), fixed(r["sink_code"], 2), f"{r['prose']:+.4f}",
                 f"{r['code']:+.4f}")
                for r in silent
            ],
            words=2,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
