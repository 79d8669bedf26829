"""How long compression of text takes: the first answer of a process, later ones, large texts, and their memory.

Seconds are of processor time; each size is measured in a process of its own, so that memory is that of one text.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT, Record, claim
from benchmarks.tables import Result, Table, fixed, show
from tokenry import data

TITLE = "Speed of compressing text"
SUBJECTS = ("compress/lexical_relevance", "compress/dense_relevance")
ABOUT = (
    "`lexical_relevance:budget=0.25,units=auto` cuts a text to a quarter, in tokens of o200k_base; `dense_relevance` "
    "does with all-MiniLM-L6-v2 and one thread. Cold is a new process up to its first answer, without torch. Later "
    "answers are the best of five. Prose is made of sentences of the sample documents, JSON and logs of their words. "
    "Memory is the most that the process held beyond what it had before, the text included there."
)
LEXICAL, DENSE = "lexical_relevance:budget=0.25,units=auto", "dense_relevance:budget=0.25,units=auto"
ASK = "Who ordered the whale ship to Gdansk?"
CASES = {
    "cold": ("prose", 700, LEXICAL), "5K tokens": ("prose", 22_000, LEXICAL),
    "100 KB of JSON": ("json", 100_000, LEXICAL),
    "100 KB of log": ("log", 100_000, LEXICAL), "1 MB": ("prose", 1_000_000, LEXICAL),
    "8 MB": ("prose", 8_000_000, LEXICAL), "64 MB": ("prose", 64_000_000, LEXICAL),
    "50 KB, dense": ("prose", 50_000, DENSE),
}  # fmt: skip
WARM = ("5K tokens", "100 KB of JSON", "100 KB of log")


def main() -> None:
    """Measure all, or some cases, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", choices=CASES, help="these alone")
    options.add_argument("--child", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        sys.stdout.write(json.dumps(measure(given.child)) + "\n")
        return
    record = Record("compress/speed", dtype="text", settings={"cases": CASES}, save=given.only is None)
    for case in given.only or CASES:
        if record.find(case=case) is None:
            command = [sys.executable, "-m", "benchmarks.compress.speed", "--child", case]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            record.add({"case": case} | json.loads(done.stdout))
    show(record.finish(claims(record.rows) if given.only is None else []), tables)


def measure(case: str) -> dict[str, Any]:
    """One case in this process."""
    if case == "cold":
        code = (
            f"from tokenry.core.registry import parse; said = {text('prose', 700)!r}\n"
            f"parse({LEXICAL!r}).shorten(said, 'o200k_base', {ASK!r})\n"
            "import sys, time; print(time.process_time(), 'torch' in sys.modules)"
        )
        command = [sys.executable, "-c", code]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(5)]
        seconds, torch = min((run.stdout.split() for run in runs), key=lambda said: float(said[0]))
        return {"bytes": 700, "seconds": float(seconds), "torch": torch == "True"}
    from tokenry.core.registry import parse

    kind, size, use = CASES[case]
    method, given = parse(use), text(kind, size)
    if use == DENSE:
        import torch

        torch.set_num_threads(1)
    method.shorten("A sentence. Another one is here. " * 20, "o200k_base", ASK)
    before = _peak(anew=True)
    seconds = []
    for _ in range(5 if case in WARM else 1):
        start = time.process_time()
        method.shorten(given, "o200k_base", ASK)
        seconds.append(time.process_time() - start)
    held = _peak() - before
    return {"bytes": size, "seconds": min(seconds), "held_bytes": held}


def text(kind: str, size: int) -> str:
    """So many characters of one kind."""
    rng = random.Random(size)
    whole = " ".join(data.read(name) for name in data.documents())
    words, sentences = whole.split(), whole.split(". ")
    if kind == "prose":
        return ". ".join(rng.choices(sentences, k=size // 40 + 99))[:size]
    if kind == "json":
        return json.dumps([
            {"id": i, "title": " ".join(rng.choices(words, k=4)), "text": " ".join(rng.choices(words, k=20))}
            for i in range(size // 200)
        ])  # fmt: skip
    return "".join(
        f"2026-11-30 10:{i // 60 % 60:02}:{i % 60:02} INFO [{rng.choice(words)}] job {rng.randrange(10**6)} is done "
        f"after {rng.randrange(900)} ms\n" for i in range(size // 70)
    )  # fmt: skip


def _peak(anew: bool = False) -> int:
    """The most bytes that this process held; with `anew`, what it holds now, from where the peak is counted again."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def claims(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fast enough to stand before every request, and growing with the text and no faster."""
    found = {row["case"]: row for row in rows}
    largest = found["64 MB"]
    return [
        claim("lexical_relevance: seconds up to the first answer of a process", found["cold"]["seconds"], at_most=0.5),
        claim("lexical_relevance: processes that load torch for it", found["cold"]["torch"], at_most=0),
        claim("lexical_relevance: milliseconds for 5K tokens", 1000 * found["5K tokens"]["seconds"], at_most=10),
        claim("lexical_relevance: milliseconds for 100 KB of JSON or log, the slower",
              1000 * max(found[c]["seconds"] for c in WARM[1:]), at_most=50),
        claim("lexical_relevance: most seconds a MB of prose",
              max(found[c]["seconds"] / found[c]["bytes"] * 1e6 for c in ("1 MB", "8 MB", "64 MB")), at_most=0.5),
        claim("lexical_relevance: most bytes held for each byte of prose",
              max(found[c]["held_bytes"] / found[c]["bytes"] for c in ("1 MB", "8 MB", "64 MB")), at_most=40),
        claim("lexical_relevance: GB held for 64 MB", largest["held_bytes"] / 1e9, at_most=4),
        claim("dense_relevance: seconds of two cores a MB of prose",
              found["50 KB, dense"]["seconds"] / found["50 KB, dense"]["bytes"] * 1e6 / 2, at_most=10),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("case", "ms", "seconds a MB", "bytes a byte")
    cells = [
        (
            r["case"], fixed(1000 * r["seconds"], 1), fixed(r["seconds"] / r["bytes"] * 1e6, 2),
            fixed(r["held_bytes"] / r["bytes"], 1) if "held_bytes" in r else "",
        )
        for r in document["rows"]
    ]  # fmt: skip
    return [Table("to a quarter", heads, cells)]


if __name__ == "__main__":
    main()
