"""The gateway under load: 64 clients that know what they should hear, beside a proxy that does nothing.

The upstream streams ten events, a tenth of a second apart, and tells in each of them what it was sent; then it breaks
in six ways; then the gateway is killed in the middle of its work, again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.progress import track

from benchmarks.apps import load
from benchmarks.apps.fake_upstream import BREAKS
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, show
from tokenry.pipeline.messages.originals import Originals

TITLE = "The gateway under load"
SUBJECTS = ("the gateway",)
ABOUT = (
    "64 clients ask the gateway for two minutes without a pause, on the same machine, and once more with mixed "
    "requests; the upstream streams ten events, a tenth of a second apart. Every event names its request and the hash "
    "of what the upstream got, so that each answer is known to be the right one. Of ten mixed requests two hold 18 KB "
    "of JSON that is shortened, and one is answered by a model that asks the whole JSON back in its stream. The bare "
    "proxy is the smallest one of the same libraries. Arms take turns. `first` is the time until the first event, "
    "`under way` that of each event from the upstream to the client. A reset before any reply is told as a 502; all "
    "other faults must be the same with the gateway as without it."
)

CLIENTS, SECONDS, ROUND, KILLS = 64, 60.0, 10.0, 5
PLAIN, MIXED = ("plain",), (*("plain",) * 7, "results", "results", "retrieve")
ARMS = {
    "no proxy": ("upstream", PLAIN, 1), "bare proxy": ("bare", PLAIN, 1), "gateway": ("gateway", PLAIN, 2),
    "gateway, mixed": ("gateway", MIXED, 1),
}  # fmt: skip
"""Whom the clients ask, for what, and how many times as long as the shortest."""


def main() -> None:
    """Measure, or less and unrecorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="8 clients for 3 seconds and one kill; not recorded")
    quick = options.parse_args().quick
    clients, seconds, pause, kills = (8, 3.0, 3.0, 1) if quick else (CLIENTS, SECONDS, ROUND, KILLS)
    settings = {"clients": clients, "seconds": seconds, "round": pause, "kills": kills, "arms": list(ARMS)}
    record = Record("apps/gateway_load", dtype="text", settings=settings, save=not quick)
    with tempfile.TemporaryDirectory() as home:
        if record.find(what="broken") is None:
            record.add(*loaded(Path(home), clients, seconds, pause))
        if record.find(what="killed") is None:
            record.add(*(killed(Path(home), clients, n) for n in track(range(kills), "killed")))
    show(record.finish(claims(record.rows)), tables)


def loaded(home: Path, clients: int, seconds: float, pause: float) -> list[Row]:
    """Rows of all arms, of the gateway's memory, and of what broken upstreams look like."""
    originals = Originals(home / "own.sqlite")
    plain = [load.asks(i, passed=True) for i in range(clients)]
    short = [load.asks(i, passed=False, originals=originals) for i in range(clients)]
    found = {arm: load.Heard() for arm in ARMS}
    used = dict.fromkeys(ARMS, 0.0)
    with load.upstream() as (_, up), load.bare(up) as (proxy, bare), load.gateway(up, home) as (own, gateway):
        ports = {"upstream": up, "bare": bare, "gateway": gateway}
        pids = {"bare": psutil.Process(proxy.pid), "gateway": psutil.Process(own.pid)}
        with _Memory(own.pid) as memory:
            for _ in track(range(max(1, round(seconds / pause))), "load"):
                for arm, (server, kinds, times) in ARMS.items():
                    every = short if server == "gateway" else plain
                    before = _seconds(pids.get(server))
                    found[arm].add(asyncio.run(load.talk(ports[server], every, kinds, times * pause)))
                    used[arm] += _seconds(pids.get(server)) - before
        broken = [
            {"what": "broken", "how": how, "without": str(alone), "with": str(through), "same": alone == through}
            for how in BREAKS
            for alone, through in [[asyncio.run(load.heard_of(p, how)) for p in (up, gateway)]]
        ]
    return [*(_row(arm, found[arm], used[arm]) for arm in ARMS), memory.row(), *broken]


def _row(arm: str, heard: load.Heard, used: float) -> Row:
    first = {kind: _quantiles(times) for kind, times in heard.first.items()}
    return {
        "what": "load", "arm": arm, "answers": heard.answers, "wrong": len(heard.wrong) + heard.cut,
        "heard": heard.wrong[:3], "first_ms": first, "under_way_ms": _quantiles(heard.under_way),
        "cpu_ms": round(1000 * used / max(1, heard.answers), 2),
    }  # fmt: skip


def killed(home: Path, clients: int, number: int) -> Row:
    """The files of a gateway that was killed while it worked."""
    folder = home / "killed"
    folder.mkdir(exist_ok=True)
    originals = Originals(home / "own.sqlite")
    # Others than before, so that originals are being written.
    every = [load.asks(1000 + number * clients + i, passed=False, originals=originals) for i in range(clients)]
    with load.upstream() as (_, up), load.gateway(up, folder) as (own, port):
        threading.Timer(1.5 + 0.1 * number, os.kill, (own.pid, signal.SIGKILL)).start()
        heard = asyncio.run(load.talk(port, every, MIXED, 5.0))
    files = (folder / "ledger.sqlite", folder / "originals.sqlite")
    sound = [_asked(file, "PRAGMA integrity_check")[0][0] for file in files]
    texts = _asked(files[1], "SELECT key, text FROM originals")
    torn = sum(Originals.key_of(text.decode()) != key for key, text in texts)
    with load.upstream() as (_, up), load.gateway(up, folder) as (_, port):
        after = asyncio.run(load.talk(port, every[:2], MIXED, 1.5))
    return {
        "what": "killed", "number": number, "cut": heard.cut, "answers": heard.answers, "wrong": len(heard.wrong),
        "sound": sound == ["ok", "ok"], "torn": torn, "originals": len(texts),
        "rows": _asked(files[0], "SELECT COUNT(*) FROM requests")[0][0], "wrong_after": len(after.wrong) + after.cut,
        "answers_after": after.answers,
    }  # fmt: skip


def _asked(file: Path, question: str) -> list[Any]:
    base = sqlite3.connect(file)
    try:
        return base.execute(question).fetchall()
    finally:
        base.close()


class _Memory(AbstractContextManager["_Memory"]):
    """What a process holds, every two seconds."""

    def __init__(self, pid: int) -> None:
        self._process, self._done = psutil.Process(pid), threading.Event()
        self._samples: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(2.0):
            self._samples.append(self._process.memory_info().rss / 1e6)

    def row(self) -> Row:
        """Megabytes, and how much more they are in the last quarter than in the second."""
        quarter = max(1, len(self._samples) // 4)
        early, late = (float(np.median(self._samples[i * quarter :][:quarter] or [0.0])) for i in (1, 3))
        return {
            "what": "memory", "mb": [round(s) for s in self._samples], "early_mb": round(early, 1),
            "late_mb": round(late, 1),
        }  # fmt: skip


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every answer is the right one, little is added, nothing grows, and nothing is torn."""
    arms = {r["arm"]: r for r in rows if r["what"] == "load"}
    memory = next(r for r in rows if r["what"] == "memory")
    added = _added(arms, 0)
    dead = [r for r in rows if r["what"] == "killed"]
    wrong = sum(r["wrong"] for r in arms.values())
    other = sum(not r["same"] for r in rows if r["what"] == "broken" and r["how"] != "reset")
    return [
        claim("answers that were wrong, mixed or cut off", wrong, at_most=0),
        claim("ms that the gateway adds to the median until the first event, above the bare proxy", added, at_most=5),
        claim("MB that it holds after the load, above those in its second quarter",
              memory["late_mb"] - memory["early_mb"], at_most=max(10.0, 0.1 * memory["early_mb"])),
        claim("broken upstreams that look otherwise through it", other, at_most=0),
        claim("kills after which a file was unsound, an original torn, or an answer wrong",
              sum(not r["sound"] or r["torn"] > 0 or r["wrong"] + r["wrong_after"] > 0 for r in dead), at_most=0),
    ]  # fmt: skip


def _added(arms: dict[str, Row], place: int) -> float:
    ours, bare = (arms[name]["first_ms"]["plain"][place] for name in ("gateway", "bare proxy"))
    return float(ours - bare)


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows = document["rows"]
    of: Callable[[str], list[Row]] = lambda what: [r for r in rows if r["what"] == what]  # noqa: E731
    cells = [
        (
            r["arm"], kind, f"{r['answers']:,}", str(r["wrong"]), fixed(first[0], 1), fixed(first[1], 1),
            fixed(r["under_way_ms"][0], 2), fixed(r["under_way_ms"][1], 2), fixed(r["cpu_ms"], 1),
        )
        for r in of("load")
        for kind, first in sorted(r["first_ms"].items())
    ]  # fmt: skip
    heads = (
        "arm", "requests", "answers", "wrong", "first p50 ms", "p99", "under way p50 ms", "p99", "CPU ms a request",
    )  # fmt: skip
    (memory,) = of("memory")
    held = [("second quarter", fixed(memory["early_mb"], 0)), ("last quarter", fixed(memory["late_mb"], 0))]
    dead = of("killed")
    sums = [
        ("kills", str(len(dead))), ("clients cut off", str(sum(r["cut"] for r in dead))),
        ("rows in the ledger", f"{max(r['rows'] for r in dead):,}"),
        ("originals", f"{max(r['originals'] for r in dead):,}"),
        ("files unsound", str(sum(not r["sound"] for r in dead))),
        ("originals torn", str(sum(r["torn"] for r in dead))),
        ("right answers after the next start", f"{sum(r['answers_after'] for r in dead):,}"),
        ("wrong answers", str(sum(r["wrong"] + r["wrong_after"] for r in dead))),
    ]  # fmt: skip
    clients, seconds = (document["settings"][name] for name in ("clients", "seconds"))
    broken = [(r["how"], r["without"][:90], "the same" if r["same"] else r["with"][:110]) for r in of("broken")]
    return [
        Table(f"{clients} clients, {seconds:g} s an arm, the gateway twice that", heads, cells, 2),
        Table("memory of the gateway", ("", "MB"), held),
        Table("broken upstreams", ("how", "heard without the gateway", "with it"), broken, 3),
        Table("killed while it worked", ("", "n"), sums),
    ]


def _quantiles(times: Sequence[float]) -> list[float]:
    """Median and 99th percentile, in milliseconds."""
    return [round(1000 * float(q), 3) for q in np.quantile(times, (0.5, 0.99))] if len(times) else [0.0, 0.0]


def _seconds(process: psutil.Process | None) -> float:
    return 0.0 if process is None else sum(process.cpu_times()[:2])


if __name__ == "__main__":
    main()
