"""Threads through a dictionary, followed by SmolLM2 with all of its cache and with 64 rows of it.

The model reads a dictionary of words and the key at which a thread begins. The right pairs of the thread are then fed
token by token, and at each value the model chooses among ten words of the dictionary: by chance one in ten is right.
Every hop needs another pair. All arms read the prompt densely and 64 rows per KV head from then on.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import Any

import torch
from rich.progress import track

from benchmarks.arms import at_rows, unnamed
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry import Pipeline
from tokenry.measure.needle_threading import NeedleThreading
from tokenry.measure.statistics import intervals
from tokenry.measure.tasks.answering import Chosen
from tokenry.models.files.load import load

TITLE = "Following threads"
SUBJECTS = ("attend/token_select",)
ABOUT = (
    "SmolLM2-135M reads a JSON dictionary of words and the key at which a thread begins: its value is the next "
    "key, three times over. Then the right pairs are fed token by token, and at each value the model chooses "
    "among ten words of the dictionary, so one in ten is chance. Every arm but `dense` reads 64 rows per KV head "
    "after a prompt that was read densely. `snapkv` keeps what the end of the prompt looks at, when only the first "
    "key is known, and all tokens after it; `token_select` chooses anew at every token."
)

BENCHMARK = NeedleThreading(keys="short", characters="600+1200+2400", hops=3, path=True, repeats=8)
ROWS = 64
DENSE, CHOSEN, STATIC, WINDOW, RANDOM = "dense", "token_select", "snapkv", "window", "random"
NAMED = {
    DENSE: "",
    CHOSEN: "token_select:budget=64:sink=4:recent=16:per=head,chunk=0,reuse=1.01",
    STATIC: "snapkv:budget=64,window=16",
    WINDOW: "window:budget=64:sink=4",
    RANDOM: "attend/random:budget=64:sink=4:recent=16",
}
ARMS = NAMED | {e.name: at_rows(e, ROWS) or e.full_name for e in unnamed("attend", NAMED.values())}


def main() -> None:
    """Follow all threads with all arms, or the first few for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--limit", type=int, help="only the first so many dictionaries")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    settings = {"model": "smollm2", "benchmark": str(BENCHMARK), "seed": 0, "arms": ARMS, "limit": given.limit}
    record = Record(
        "measure/needle_threading", dtype="bfloat16", settings=settings,
        save=given.limit is None, grows=True,
    )  # fmt: skip
    language = load("smollm2", dtype="bfloat16")
    samples = list(BENCHMARK.samples(seed=0, limit=given.limit))
    for sample in track(samples, "threads"):
        for arm, spec in ARMS.items():
            if record.find(id=sample.id, arm=arm) is None:
                said = Chosen(language, Pipeline([spec] if spec else []))(sample)
                record.add(row(arm, sample, BENCHMARK.score(sample, said.text) | said.scores))
    show(record.finish(claims(record.rows)), tables)


def row(arm: str, sample: Any, scores: dict[str, float]) -> Row:
    """One thread and how much of it was found."""
    facts = {name: sample.facts[name] for name in ("characters", "hops", "pairs")}
    return {"id": sample.id, "arm": arm, **facts, **{name: round(value, 6) for name, value in scores.items()}}


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Choosing at every step follows threads that nothing chosen once can follow, the more so the longer they are."""
    scores = ("right", *(f"hop {i + 1}" for i in range(3)))
    right = {(arm, name): torch.tensor([r[name] for r in rows if r["arm"] == arm]) for arm in ARMS for name in scores}
    gap = {name: right[CHOSEN, name] - right[STATIC, name] for name in scores}
    beside = {arm: right[CHOSEN, "right"] - right[arm, "right"] for arm in ARMS}
    told = [
        (f"{CHOSEN}: share of values found above that of {STATIC}", beside[STATIC], 0.2),
        (f"{CHOSEN}: share of values found above that of {RANDOM}", beside[RANDOM], 0.2),
        (f"{CHOSEN}: share of values found above that of {DENSE}", beside[DENSE], -0.1),
        (f"{CHOSEN} above {STATIC}: how much more at the third hop than at the first", gap["hop 3"] - gap["hop 1"], 0),
    ]
    return [
        claim(text, values.mean().item(), at_least=needed)
        | {"interval": [round(end, 3) for end in intervals.of_mean(values)]}
        for text, values, needed in told
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    lengths = sorted({r["characters"] for r in document["rows"]})
    scores = [name for name in document["rows"][0] if name.startswith("hop ")]
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        by_length = [mean(r["right"] for r in rows if r["characters"] == n) for n in lengths]
        found = [mean(r[name] for r in rows) for name in ("right", *scores)]
        nats = mean(r["logprob"] for r in rows)
        cells.append((arm, *(f"{100 * v:.0f} %" for v in (*found, *by_length)), fixed(nats, 2)))
    heads = ("arm", "values found", *scores, *(f"{n:,} characters" for n in lengths), "log-probability")
    threads = len(by(document["rows"], "id"))
    return [Table(f"{threads} threads, values found among ten, log-probability in nats", heads, cells)]


if __name__ == "__main__":
    main()
