"""kvpress beside ours: the same model, texts and budgets, each arm in a process of its own with one thread.

Six passages say how far an eviction moves the next tokens; one long prompt says what it saves of time and memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.forced import ids
from benchmarks.peers.folder import PeerEnvironment
from benchmarks.peers.kvpress_child import ARMS, DENSE, FED, HEADS, KERNEL, NORM, SNAP, STREAM, WINDOW
from benchmarks.record import Record, Row, claim
from benchmarks.tables import MIB, Result, Table, by, fixed, interval, show
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import load
from tokenry.models.generate.answer import divergence

TITLE = "Beside kvpress"
SUBJECTS = ("attend/snapkv", "attend/key_norm", "attend/window", "attend/adaptive_heads")
ABOUT = (
    "SmolLM2-135M in 32-bit floats, in an environment of kvpress's own and in ours, one thread each, with the same "
    f"numbers: SnapKV with a window of {WINDOW} queries and a pool of {KERNEL}, which are kvpress's defaults; key "
    "norms in all layers; four sinks; a fifth of the budget for every head of the head-wise one, AdaKV there and "
    "`adaptive_heads` here. KL is from the dense next-token distribution, in nats, while 32 given tokens follow 1,024 "
    "of which 128 are held, over six passages, with intervals by bootstrap. Then a prompt of 4,096 tokens, of which "
    "512 are held: both arms take turns, eight tokens each. Times are of the processor: the median step, and "
    "the better of two readings. Peaks are beyond what the process held after a first short text, while the prompt is "
    "read and while tokens follow. A streaming cache of kvpress grows with what follows, ours holds its budget, so "
    "ours is given the rows that theirs has on average."
)

OURS, THEIRS = ARMS
METHODS = {SNAP: "snapkv", NORM: "key_norm", STREAM: "window", HEADS: "adaptive_heads"}
HOME = PeerEnvironment("kvpress", "kvpress==0.5.5")
DOCUMENTS, PLACES = ("moby_dick", "sotu_1975", "in_the_year_2889"), (0.25, 0.75)
PREFIX, BUDGET = 1024, 128
LONG, LONG_BUDGET, LONG_DOCUMENTS, ROUNDS, TURN = 4096, 512, ("moby_dick", "sotu_1975"), 2, 8


def main() -> None:
    """Compare all methods, or only some, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", choices=(DENSE, *METHODS), metavar="METHOD", help="only these")
    given = options.parse_args()
    torch.set_num_threads(1)
    settings = {
        "model": "smollm2", "package": HOME.package, "documents": DOCUMENTS, "places": PLACES, "prefix": PREFIX,
        "budget": BUDGET, "fed": FED, "long": LONG, "long_budget": LONG_BUDGET, "rounds": ROUNDS, "turn": TURN,
    }  # fmt: skip
    record = Record("peers/against_kvpress", dtype="float32", settings=settings, save=given.only is None)
    HOME.install()
    language = load("smollm2", dtype="float32")
    folder = HOME.path / "model"
    language.model.save_pretrained(folder)
    language.tokenizer.save_pretrained(folder)
    texts = [ids(language, name) for name in DOCUMENTS]
    starts = [(text, int(place * (len(text) - PREFIX - FED))) for text in texts for place in PLACES]
    passages = [text[at : at + PREFIX + FED] for text, at in starts]
    long = ids(language, *LONG_DOCUMENTS)[: LONG + FED]
    del language
    for method in track((DENSE, *METHODS) if given.only is None else given.only, "methods"):
        if record.find(method=method, part="passages") is None:
            record.add(*apart(method, folder, passages))
        if record.find(method=method, part="long") is None:
            record.add(*spent(method, folder, long))
    show(record.finish(claims(record.rows) if given.only is None else []), tables)


def apart(method: str, folder: Path, passages: list[Tensor]) -> list[Row]:
    """How far both arms are from dense attention, which has logits of its own for each passage, kept in the folder."""
    arms = {who: Child(who, method, folder, BUDGET) for who in ARMS}
    rows = []
    for i, passage in enumerate(passages):
        for who, child in arms.items():
            read = child.ask("read", passage[:PREFIX])
            file = folder / f"logits_{i}.pt" if (who, method) == (OURS, DENSE) else folder / "logits.pt"
            fed = child.ask("feed", passage[PREFIX:], file)
            kl, top1 = divergence(torch.load(folder / f"logits_{i}.pt"), torch.load(file))
            rows.append(
                {
                    "part": "passages", "method": method, "arm": who, "passage": i, "held": read["held"],
                    "kl": round(kl.clamp_min(0).mean().item(), 6), "top1": round(top1.mean().item(), 4),
                    "read_s": round(read["seconds"], 3), "step_ms": _ms(median(fed["seconds"])),
                }
            )  # fmt: skip
    for child in arms.values():
        child.end()
    return rows


def spent(method: str, folder: Path, long: Tensor) -> list[Row]:
    """Seconds and memory of both arms with the long prompt."""
    arms = {who: Child(who, method, folder, LONG_BUDGET) for who in ARMS}
    reads: dict[str, list[Any]] = {who: [] for who in arms}
    feeds: dict[str, list[Any]] = {who: [] for who in arms}
    for turn in range(ROUNDS):
        for who in sorted(arms, reverse=bool(turn % 2)):
            reads[who].append(arms[who].ask("read", long[:LONG]))
        for at in range(LONG, LONG + FED, TURN):
            for who, child in arms.items():
                feeds[who].append(child.ask("feed", long[at : at + TURN]))
    rows = []
    for who, child in arms.items():
        steps = [s for fed in feeds[who] for s in fed["seconds"]]
        beyond = {name: max(said["peak"] for said in told[who]) - child.resident
                  for name, told in (("read_peak", reads), ("step_peak", feeds))}  # fmt: skip
        rows.append(
            {
                "part": "long", "method": method, "arm": who, "held": reads[who][0]["held"],
                "read_s": round(min(said["seconds"] for said in reads[who]), 2), "step_ms": _ms(median(steps)),
                "best_step_ms": _ms(min(steps)), **beyond,
            }
        )  # fmt: skip
        child.end()
    return rows


class Child:
    """The process of one arm."""

    def __init__(self, who: str, method: str, folder: Path, budget: int) -> None:
        how = HOME.process("kvpress_child", who, method, folder, budget)
        if who == OURS:
            how["args"][0] = sys.executable
        self.process = subprocess.Popen(**how, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.resident = self._hear()["resident"]

    def ask(self, task: str, tokens: Tensor, file: Path | None = None) -> Any:
        assert self.process.stdin is not None
        told = {"task": task, "ids": tokens.tolist(), "file": file and str(file)}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return self._hear()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"against_kvpress: the process of an arm ended early with code {self.process.wait()}.")
        return json.loads(line)


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Not worse, not slower, and clearly faster and smaller where heads have budgets of their own."""
    found = []
    for method, name in METHODS.items():
        ours, theirs = (torch.tensor([r["kl"] for r in _of(rows, "passages", method, who)]) for who in (OURS, THEIRS))
        found.append(
            claim(f"{name}: KL of kvpress over ours, {method}", (theirs.mean() / ours.mean()).item(), at_least=0.95)
            | {"interval": [round(end, 2) for end in intervals.of_ratio(theirs, ours)]}
        )
        (mine,), (other,) = (_of(rows, "long", method, who) for who in (OURS, THEIRS))
        needed = 1.3 if method == HEADS else 0.95
        found += [
            claim(f"{name}: processor time to read {LONG:,} tokens, kvpress's over ours",
                  other["read_s"] / mine["read_s"], at_least=0.95),
            claim(f"{name}: processor time of a step after {LONG:,} tokens, kvpress's over ours",
                  other["step_ms"] / mine["step_ms"], at_least=needed),
        ]  # fmt: skip
        if method == HEADS:
            text = f"{name}: bytes of keys and values held as a share of kvpress's"
            found.append(claim(text, mine["held"] / other["held"], at_most=1.1 * LONG_BUDGET / LONG))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    near, cost = [], []
    for method, rows in by(document["rows"], "method"):
        for who in ARMS:
            mine = _of(rows, "passages", method, who)
            kl = torch.tensor([r["kl"] for r in mine])
            near.append(
                (method, who, f"{kl.mean():.4f} ({interval(intervals.of_mean(kl), 4)})",
                 fixed(mean(r["top1"] for r in mine), 3), fixed(median(r["read_s"] for r in mine), 2),
                 fixed(median(r["step_ms"] for r in mine), 1), fixed(mine[0]["held"] / MIB, 1))
            )  # fmt: skip
            (long,) = _of(rows, "long", method, who)
            cost.append(
                (method, who, fixed(long["read_s"], 1), fixed(long["step_ms"], 1), fixed(long["best_step_ms"], 1),
                 *(fixed(long[name] / MIB, 1) for name in ("held", "read_peak", "step_peak")))
            )  # fmt: skip
    return [
        Table(f"{BUDGET} of {PREFIX:,} tokens held, six passages",
              ("method", "by", "KL (95 %)", "same top token", "read s", "step ms", "KV MiB held"), near, words=2),
        Table(f"{LONG_BUDGET} of {LONG:,} tokens held",
              ("method", "by", "read s", "step ms", "best step ms", "KV MiB held", "peak MiB, reading", "after"),
              cost, words=2),
    ]  # fmt: skip


def _of(rows: Any, part: str, method: str, who: str) -> list[Row]:
    return [r for r in rows if (r["part"], r["method"], r["arm"]) == (part, method, who)]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


if __name__ == "__main__":
    main()
