"""A whole model decoding: each arm in a process of its own for its memory, all taking turns for their speed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import nullcontext
from itertools import product
from statistics import median
from typing import Any

import torch

from benchmarks.forced import Attach, dense, feed, ids, read, using
from benchmarks.record import ROOT, Record, Row, claim, module_of
from benchmarks.tables import MIB, Result, Table, by, fixed, fold, show
from tokenry.attend.running.run import held_bytes
from tokenry.core.memory import peak_bytes
from tokenry.models.files.load import LanguageModel, load

TITLE = "Decoding with a whole model"
SUBJECTS = ("the cache",)
ABOUT = (
    "SmolLM2-135M reads a prompt of sample documents, then 32 given tokens one by one: the same for all arms. "
    "Each arm has a process of its own, whose peak memory includes the model and the reading of the prompt; four "
    "steps at a time, they take turns. Tokens a second are by the median step, times faster by the best. "
    "`loss` is the mean negative log-likelihood of the given tokens in nats."
)

MODEL = "smollm2"
BASE, DENSE = "transformers", "tokenry dense"
METHODS = {
    "token_select, always a new choice": "token_select:budget=256,reuse=1.01,chunk=0",
    "token_select, defaults": "token_select:budget=256",
    "window": "window:budget=256",
}
LENGTHS = (2048, 8100)
DTYPES = {"float32": 2e-3, "bfloat16": 5e-2}
"""How far the mean losses of the two dense arms may differ, in nats; otherwise no time is printed."""

DOCUMENTS = ("moby_dick", "sotu_1975")
STEPS, TURN = 32, 4
"""Steps of every arm, and how many of them it does before the next one has its turn."""


def main() -> None:
    """Measure all arms at every length in both dtypes, or quickly, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the shortest prompt and few steps, not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch; one is disturbed least")
    options.add_argument("--child", type=json.loads, metavar="JOB", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        serve(**given.child)
        return
    torch.set_num_threads(given.threads)
    lengths, steps = (LENGTHS[:1], 8) if given.quick else (LENGTHS, STEPS)
    settings = {"model": MODEL, "documents": DOCUMENTS, "lengths": lengths, "steps": steps, "methods": METHODS}
    record = Record(
        "attend/decode_model", options=f"--threads {given.threads}" if given.threads != 1 else "",
        dtype="float32 and bfloat16", settings=settings, save=not given.quick,
    )  # fmt: skip
    for dtype, length in product(DTYPES, lengths):
        if record.find(dtype=dtype, length=length) is None:
            rows = measure(dtype, length, steps)
            prove(rows, DTYPES[dtype])
            record.add(*rows)
    show(record.finish(claims(record)), tables)


def measure(dtype: str, length: int, steps: int) -> list[Row]:
    """One process for each arm; they read their prompts one after the other, then take turns."""
    children = {}
    for arm in (BASE, DENSE, *METHODS):
        children[arm] = _Child({"arm": arm, "dtype": dtype, "length": length, "threads": torch.get_num_threads()})
        children[arm].hear()
    times: dict[str, list[float]] = {arm: [] for arm in children}
    for _ in range(0, steps, TURN):
        for arm, child in children.items():
            times[arm] += child.ask(TURN)
    best = {arm: min(seconds) for arm, seconds in times.items()}
    return [
        {
            "dtype": dtype, "length": length, "arm": arm,
            "tokens_per_second": round(1 / median(times[arm]), 2),
            "step_ms": round(median(times[arm]) * 1000, 2), "best_step_ms": round(best[arm] * 1000, 2),
            "times_faster": round(best[BASE] / best[arm], 2),
        }
        | child.end()
        for arm, child in children.items()
    ]  # fmt: skip


def prove(rows: list[Row], tolerance: float) -> None:
    """Both dense arms must find the same text equally likely; without this no time is printed."""
    loss = {r["arm"]: r["loss"] for r in rows}
    if not abs(loss[BASE] - loss[DENSE]) <= tolerance:
        raise SystemExit(f"decode_model: {DENSE} must lose what {BASE} loses, {loss[BASE]}; got {loss[DENSE]}.")


def claims(record: Record) -> list[dict[str, Any]]:
    """Our cache is no slower than the one of transformers."""
    return [
        claim(f"{r['dtype']}, prompt of {r['length']:,}: {DENSE}, times faster", r["times_faster"], at_least=0.95)
        for r in record.rows
        if r["arm"] == DENSE
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = (
        "prompt", "arm", "tokens/s", "best ms/token", "times faster", "prompt s", "KV MiB held", "peak MiB", "loss",
    )  # fmt: skip
    return [
        Table(
            f"{dtype}, whole model, {document['settings']['steps']} steps after the prompt",
            heads,
            [
                (f"{r['length']:,}", r["arm"], fixed(r["tokens_per_second"], 1), fixed(r["best_step_ms"], 1),
                 fold(r["times_faster"]), fixed(r["prefill_s"], 1), fixed(r["kv_bytes"] / MIB, 1),
                 fixed(r["peak_bytes"] / MIB, 0), fixed(r["loss"], 3))
                for r in rows
            ],
            words=2,
        )
        for dtype, rows in by(document["rows"], "dtype")
    ]  # fmt: skip


class _Child:
    """The process of one arm: a number of steps goes in, their seconds come out."""

    def __init__(self, job: Row) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module_of("attend/decode_model"), "--child", json.dumps(job)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"decode_model: the process of one arm ended early with code {self.process.wait()}.")
        return json.loads(line)

    def ask(self, steps: int) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return list(self.hear())

    def end(self) -> Row:
        assert self.process.stdin is not None
        self.process.stdin.close()
        facts = self.hear()
        self.process.wait()
        return dict(facts)


def serve(arm: str, dtype: str, length: int, threads: int) -> None:
    """One arm: read the prompt, then do as many steps as standard input asks for, then tell the rest."""
    torch.set_num_threads(threads)
    language = load(MODEL, dtype=dtype)
    attach, text = _attach(language, arm), ids(language, *DOCUMENTS)
    with attach(64):
        feed(language, read(language, text[:64])[0], text[64:68])
    with attach(length):
        cache, prefill = read(language, text[:length])
        _say(round(prefill, 2))
        at, losses = length, []
        for line in sys.stdin:
            done = feed(language, cache, text[at : at + int(line)])
            at += int(line)
            told = text[at - int(line) + 1 : at + 1]
            losses += (-done.logits.log_softmax(-1).gather(1, told[:, None])).flatten().tolist()
            _say(done.seconds)
    _say(
        {
            "prefill_s": round(prefill, 2), "kv_bytes": held_bytes(cache), "peak_bytes": peak_bytes(),
            "loss": round(sum(losses) / len(losses), 4),
        }
    )  # fmt: skip


def _attach(language: LanguageModel, arm: str) -> Attach:
    if arm == BASE:
        return lambda _: nullcontext()
    return dense(language) if arm == DENSE else using(language, METHODS[arm])


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
