"""20,000 rows in one process, by two workers and on Ray: equal bytes, and whoever is killed, no row lost or twice."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from benchmarks.apps.greedy import GREEDY, Greedy
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, show
from tokenry.core.errors import WorkerLost
from tokenry.data import read
from tokenry.pipeline.batch.run import run_batch

TITLE = "A corpus row by row"
SUBJECTS = ("tokenry batch",)
ABOUT = (
    "20,000 rows of four sentences each are shortened to half by `lexical_relevance`: in one process, by two worker "
    "processes, and by two workers of Ray Data on the same machine. Every output file is compared byte by byte. Then "
    "a worker, the process that was called, and Ray itself are killed by SIGKILL when a fifth of the parts is there, "
    "and the same line is run again where the run ended. `rows a second` counts from the call to its end, with what "
    "Ray takes to start. At last a row takes three gigabytes where one is left."
)

ROWS, PART = 20_000, 200
DOCUMENTS = ("sotu_1930", "sotu_1975", "moby_dick", "in_the_year_2889", "constitution")
ARMS = {"one process": (), "two workers": ("--workers", "2"), "Ray, two workers": ("--workers", "2", "--ray", "local")}
KILLS = (("two workers", "worker"), ("two workers", "driver"), ("Ray, two workers", "worker"),
         ("Ray, two workers", "driver"), ("Ray, two workers", "Ray"))  # fmt: skip
NAMES = {"worker": ("pipeline.batch.workers", "ray::MapWorker"), "Ray": ("raylet", "gcs_server")}
MARK = "TOKENRY_BATCH_BENCHMARK"


def main() -> None:
    """Measure, or less and unrecorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="1,000 rows; not recorded")
    quick = options.parse_args().quick
    rows = 1000 if quick else ROWS
    settings = {"rows": rows, "part": PART, "arms": list(ARMS), "kills": [" ".join(k) for k in KILLS]}
    record = Record("apps/batch", dtype="text", settings=settings, save=not quick)
    with tempfile.TemporaryDirectory() as home:
        corpus = _corpus(Path(home) / "rows.jsonl", rows)
        for arm in ARMS:
            if record.find(what="speed", arm=arm) is None:
                record.add(_speed(arm, corpus, Path(home) / arm))
        for arm, who in KILLS:
            if record.find(what="killed", arm=arm, who=who) is None:
                record.add(_killed(arm, who, corpus, Path(home) / f"{arm} {who}"))
        if record.find(what="memory") is None:
            record.add(_memory(Path(home)))
    show(record.finish(claims(record.rows)), tables)


def _corpus(file: Path, rows: int) -> Path:
    windows = []
    for name in DOCUMENTS:
        sentences = re.split(r"(?<=[.!?]) +", read(name).replace("\n", " "))
        windows += [" ".join(sentences[i : i + 4]) for i in range(len(sentences) - 3)]
    with file.open("w", encoding="utf-8") as stream:
        for i in range(rows):
            stream.write(json.dumps({"id": i, "text": f"{windows[i % len(windows)]} Row {i}."}) + "\n")
    return file


def _line(arm: str, corpus: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "tokenry", "batch", str(corpus), "--use", "lexical_relevance:budget=0.5",
        "--ask", "What is said of taxes and of war?", "--part", str(PART), "--out", str(out), "--json", *ARMS[arm],
    ]  # fmt: skip


def _speed(arm: str, corpus: Path, out: Path) -> Row:
    started = time.perf_counter()
    done = subprocess.run(_line(arm, corpus, out), capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    receipt = json.loads(done.stdout)
    workers = receipt["workers"].values()
    return {
        "what": "speed", "arm": arm, "rows": receipt["sums"]["rows"], "seconds": round(seconds, 2),
        "working_seconds": round(sum(w["seconds"] for w in workers), 2), "digest": _digest(out),
        "peak_mb": [round(w["peak_bytes"] / 1e6) for w in workers], "workers": len(workers),
    }  # fmt: skip


def _killed(arm: str, who: str, corpus: Path, out: Path) -> Row:
    """Kill somebody in the middle, and run the same line until it ends well."""
    mark = str(out)
    parts = sum(1 for _ in corpus.open("rb")) // PART
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    run = subprocess.Popen(_line(arm, corpus, out), env=os.environ | {MARK: mark}, text=True, **pipes)  # type: ignore
    while len(list(out.glob("done/*.json"))) < max(1, parts // 5):
        assert run.poll() is None, run.communicate()
        time.sleep(0.02)
    before = len(list(out.glob("done/*.json")))
    if who == "driver":
        run.kill()
    else:
        found = _processes(mark, NAMES[who])
        for pid in islice(found, 1 if who == "worker" else None):
            os.kill(pid, signal.SIGKILL)
    _, said = run.communicate(timeout=1200)
    ended = run.returncode
    if ended:
        subprocess.run(_line(arm, corpus, out), capture_output=True, check=True)
    ids = [json.loads(line)["id"] for file in sorted(out.glob("part-*")) for line in file.open(encoding="utf-8")]
    rows = parts * PART
    return {
        "what": "killed", "arm": arm, "who": who, "parts_before": before, "run_again": ended != 0,
        "said": said.strip().splitlines()[-1][:300] if said.strip() else "", "lost": rows - len(set(ids)),
        "twice": len(ids) - len(set(ids)), "in_order": ids == sorted(ids), "digest": _digest(out),
    }  # fmt: skip


def _memory(home: Path) -> Row:
    """A row that takes three gigabytes on Ray, whose monitor allows one more than are taken: what is said, how soon."""
    corpus = home / "greedy.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "b", GREEDY, "d")))
    memory = psutil.virtual_memory()
    allowed = (memory.total - memory.available + 1e9) / memory.total
    os.environ |= {"RAY_memory_usage_threshold": f"{allowed:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    started = time.perf_counter()
    try:
        said = str(run_batch([corpus], Greedy(), home / "memory", size=2, ray="local")["sums"])
    except WorkerLost as error:
        said = str(error)
    return {"what": "memory", "said": said[:600], "seconds": round(time.perf_counter() - started, 1)}


def _digest(out: Path) -> str:
    """Of all files of rows and of errors."""
    found = hashlib.sha256()
    for file in sorted([*out.glob("part-*"), *out.glob("errors-*")]):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:16]


def _processes(mark: str, names: Sequence[str]) -> list[int]:
    """Processes of one run alone, by what stands in their environment."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            own = f"{MARK}={mark}".encode() in Path("/proc", pid, "environ").read_bytes().split(b"\0")
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if own and any(name in line for name in names):
            found.append(int(pid))
    assert found, names
    return found


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Equal bytes, nothing lost, nothing twice, and who runs out of memory is named."""
    speed = [r for r in rows if r["what"] == "speed"]
    killed = [r for r in rows if r["what"] == "killed"]
    digests = {r["digest"] for r in [*speed, *killed]}
    memory = next(r for r in rows if r["what"] == "memory")
    named = re.search("low on memory|OOM", memory["said"]) is not None
    one, two = (next(r for r in speed if r["arm"] == arm) for arm in ("one process", "two workers"))
    return [
        claim("different outputs of all arms, also after kills", len(digests), at_most=1),
        claim("rows lost or there twice after kills", sum(r["lost"] + r["twice"] for r in killed), at_most=0),
        claim("a worker out of memory is named, 1 for yes", float(named), at_least=1),
        claim("rows a second of two workers over one process", one["seconds"] / two["seconds"], at_least=1.5),
    ]


def tables(document: Result) -> list[Table]:
    """Speed and memory, and what happened to those who were killed."""
    rows = document["rows"]
    speed = [
        [r["arm"], f"{r['rows']:,}", f"{r['seconds']:.1f}", f"{r['rows'] / r['seconds']:.0f}",
         ", ".join(map(str, r["peak_mb"])), r["digest"]]
        for r in rows if r["what"] == "speed"
    ]  # fmt: skip
    killed = [
        [r["arm"], r["who"], str(r["parts_before"]), "yes" if r["run_again"] else "no", str(r["lost"]),
         str(r["twice"]), r["digest"]]
        for r in rows if r["what"] == "killed"
    ]  # fmt: skip
    memory = [[r["said"], f"{r['seconds']:.0f}"] for r in rows if r["what"] == "memory"]
    return [
        Table("Speed", ("arm", "rows", "seconds", "rows a second", "MB of each worker", "digest"), speed),
        Table(
            "Killed in the middle", ("arm", "who", "parts before", "run again", "lost", "twice", "digest"), killed, 2
        ),
        Table("A row that takes all memory, on Ray", ("said", "seconds"), memory),
    ]


if __name__ == "__main__":
    main()
