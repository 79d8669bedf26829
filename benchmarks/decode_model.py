"""A whole model decoding: tokens a second, memory and cached bytes, each arm in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from forced import dense, feed, ids, read, using
from record import Record, Row

from tokenry.attend.base import held_bytes
from tokenry.models.cost import peak_bytes
from tokenry.models.load import load

MODEL = "smollm2"
BASE, DENSE = "transformers", "tokenry dense"
METHODS = {
    "token_select, always a new choice": "token_select:budget=256,reuse=1.01,chunk=0",
    "token_select, defaults": "token_select:budget=256",
    "window": "window:budget=256",
}
ARMS = (BASE, DENSE, *METHODS)
LENGTHS = (2048, 8100)
DTYPES = {"float32": 2e-3, "bfloat16": 5e-2}
"""How far the mean loss of dense arms may differ, in nats, before their times count as comparable."""

DOCUMENTS = ("moby_dick", "sotu_1975")
STEPS = 32


def run(record: Record, lengths: tuple[int, ...], steps: int) -> None:
    """Measure every arm at every length in both dtypes."""
    for dtype, length, arm in product(DTYPES, lengths, ARMS):
        if record.find(dtype=dtype, length=length, arm=arm) is None:
            job = {"arm": arm, "dtype": dtype, "length": length, "steps": steps}
            _add(record, job | _spawn(job | {"threads": torch.get_num_threads()}))


def _add(record: Record, row: Row) -> None:
    """Enter a row beside transformers' own, to which the dense arm must be equal."""
    base = record.find(dtype=row["dtype"], length=row["length"], arm=BASE)
    if row["arm"] == DENSE and base and abs(base["loss"] - row["loss"]) > DTYPES[row["dtype"]]:
        raise SystemExit(f"decode: {DENSE} must lose what transformers loses, {base['loss']}; got {row['loss']}.")
    own = base["step_ms"] if base else row["step_ms"] if row["arm"] == BASE else None
    record.add(row | {"times_faster": round(own / row["step_ms"], 2) if own else None})


def _spawn(job: Row) -> Row:
    child = subprocess.run(
        [sys.executable, str(Path(__file__)), json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(child.stdout)


def measure(arm: str, dtype: str, length: int, steps: int, threads: int) -> Row:
    """One arm, in this process."""
    torch.set_num_threads(threads)
    language = load(MODEL, dtype=dtype)
    own: dict[str, Any] = {BASE: lambda _: nullcontext(), DENSE: dense(language)}
    attach = own.get(arm) or using(language, METHODS[arm])
    text = ids(language, *DOCUMENTS)
    with attach(64):
        feed(language, read(language, text[:64])[0], text[64:68])
    with attach(length):
        cache, prefill = read(language, text[:length])
        done = feed(language, cache, text[length : length + steps])
    told = done.logits[:-1].log_softmax(-1).gather(1, text[length + 1 : length + steps, None])
    return {
        "tokens_per_second": round(steps / sum(done.seconds), 2),
        "step_ms": round(median(done.seconds) * 1000, 2),
        "best_step_ms": round(min(done.seconds) * 1000, 2),
        "prefill_s": round(prefill, 2),
        "kv_bytes": held_bytes(cache),
        "peak_bytes": peak_bytes(),
        "loss": round(-told.mean().item(), 4),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(**json.loads(sys.argv[1]))))
