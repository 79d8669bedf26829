"""A whole model decoding: each arm in a process of its own for its memory, all taking turns for their speed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from forced import Attach, dense, feed, ids, read, using
from record import Record, Row, claim

from tokenry.attend.base import held_bytes
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.cost import peak_bytes

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


def run(record: Record, lengths: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """Measure all arms at every length in both dtypes; give the claims."""
    for dtype, length in product(DTYPES, lengths):
        if record.find(dtype=dtype, length=length) is None:
            rows = measure(dtype, length, steps)
            prove(rows, DTYPES[dtype])
            record.add(*rows)
    rows = [r for r in record.rows if r["arm"] == DENSE]
    return [
        claim(f"{r['dtype']}, prompt of {r['length']:,}: {DENSE}, times faster", r["times_faster"], at_least=0.95)
        for r in rows
    ]


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
        raise SystemExit(f"decode: {DENSE} must lose what {BASE} loses, {loss[BASE]}; got {loss[DENSE]}.")


class _Child:
    """The process of one arm: a number of steps goes in, their seconds come out."""

    def __init__(self, job: Row) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), json.dumps(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"decode: the process of one arm ended early with code {self.process.wait()}.")
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
    serve(**json.loads(sys.argv[1]))
