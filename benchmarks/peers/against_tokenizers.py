"""Tokenizers beside ours: megabytes of real text per second of processor time, and whether the ids are right.

Every library has a process of its own with one thread. Two vocabularies: SmolLM2's, for which the ids of tokenizers
are right, and cl100k_base, for which those of tiktoken are. Libraries that are no dependency of this project are
installed into a folder under `build`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from benchmarks.peers.folder import PeerFolder
from benchmarks.peers.trainers_child import TRAINERS
from benchmarks.record import Record, Row, claim
from benchmarks.segment.trainer_child import code
from benchmarks.tables import Result, Table, by, fixed, fold, show
from tokenry import data
from tokenry.models.files.vocabularies.find import find_vocabulary
from tokenry.segment.engines.hostile import TEXTS

TITLE = "Tokenizers beside ours"
SUBJECTS = ("the tokenizers",)
ABOUT = (
    "Sample documents and sources of Python's standard library, encoded one by one, each library in a process of "
    "its own with one thread; megabytes are per second of processor time, which other users of the machine do not "
    "change much. Right are the ids of tokenizers for SmolLM2 and those of tiktoken for cl100k_base. Hostile texts "
    "are those of `tokenry.segment.engines.hostile`. `first` is the first pass over the texts, `then` the better "
    "one of two more, which caches of a library speed up. tokenry loads a fast library when a quarter of a million "
    "characters have come, checks its ids, and goes on with the library a vocabulary was made for where none is "
    "right; `first` includes that. Runs are 100,000 times `a`, `^`, a space or a Chinese sign; growth is how much "
    "longer such a run takes than one of a quarter of its length. Some libraries have the vocabulary built in. "
    "Trainers learn byte pairs from modules of Python's library, and then encode the same documents with them; "
    "their ids are held against another library that reads the same file, and where there is none against the text "
    "that comes back. tokenry trains plain pairs with tokenizers, and others with its own loops. rustbpe opens no "
    "vocabulary, and sentencepiece none of these two. Wall times are of a machine that others may use too."
)

HOME = PeerFolder("tokenizers", (
    "kitoken==0.11.1", "tokie==0.1.4", "iree-tokenizer==0.3.0", "gigatoken==0.10.0", "awkward", "awkward-cpp",
    "quicktok-v1==0.4.0", "rs_bpe==0.1.0", "bpe-openai==0.1.4", "rustbpe==0.1.0",
))  # fmt: skip
MEGABYTES = 3.0
OURS = ("tokenry, ids", "tokenry, ids and places", "tokenry without fast libraries")
ARMS = {
    "smollm2": ("tokenizers", *OURS, "fastokens", "splintr", "kitoken", "tokie", "iree", "gigatoken"),
    "cl100k_base": (
        "tokenizers", "tiktoken", *OURS, "fastokens", "splintr", "kitoken", "iree", "gigatoken", "quicktok", "rs_bpe",
        "bpe_openai",
    ),
}  # fmt: skip
RIGHT = {"smollm2": "tokenizers", "cl100k_base": "tiktoken"}
TRAINED = "trained"
RUN_KINDS = ("cold", "warm")
RUNS = {"a": "a", "^": "^", "space": " ", "中": "中"}
SHORT, LONG = 25_000, 100_000
NEEDED_TIMES = 10.0
TRAIN_MEGABYTES, PIECES = 20, 32_768
QUICK_MEGABYTES, QUICK_PIECES = 1, 4096


def main() -> None:
    """Measure all; some libraries, or less text, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="less text, and small vocabularies trained")
    options.add_argument("--only", nargs="+", metavar="NAME", help="these libraries beside the control")
    given = options.parse_args()
    torch.set_num_threads(1)
    megabytes, learnt, pieces = (
        (QUICK_MEGABYTES, QUICK_MEGABYTES, QUICK_PIECES) if given.quick else (MEGABYTES, TRAIN_MEGABYTES, PIECES)
    )
    texts = {
        "documents": documents(megabytes),
        "train": code(learnt),
        "hostile": list(TEXTS),
        "runs": {name: [c * SHORT, c * LONG] for name, c in RUNS.items()},
    }
    settings = {
        "megabytes": MEGABYTES, "runs": list(RUNS), "lengths": [SHORT, LONG], "arms": ARMS, "trained": TRAIN_MEGABYTES,
        "pieces": PIECES,
    }  # fmt: skip
    record = Record(
        "peers/against_tokenizers", dtype="text", settings=settings,
        save=given.only is None and not given.quick,
    )  # fmt: skip
    HOME.install()
    source = HOME.path / "texts.json"
    source.write_text(json.dumps(texts), encoding="utf-8")
    size = sum(len(text.encode()) for text in texts["documents"])
    for name, arms in ARMS.items():
        if given.only is not None:
            arms = tuple(a for a in arms if a in given.only or a in (RIGHT[name], "tokenizers"))
        if record.find(vocabulary=name) is None:
            found = {arm: _child("tokenizers_child", arm, _vocabulary(name), source) for arm in track(arms, name)}
            record.add(*(row(name, arm, found, size) for arm in arms))
    if record.find(vocabulary=TRAINED) is None:
        arms = [arm for arm in TRAINERS if given.only is None or arm in given.only]
        found = {arm: _child("trainers_child", arm, pieces, source) for arm in track(arms, TRAINED)}
        read = sum(len(text.encode()) for text in texts["train"])
        record.add(*(trained(arm, found[arm], read, size, len(texts["documents"])) for arm in arms))
    show(record.finish(claims(record.rows)), tables)


def documents(megabytes: float) -> list[str]:
    """The sample documents, and sources of Python's standard library up to a few megabytes."""
    found = [data.read(name) for name in data.documents()]
    left = megabytes * 1e6 - sum(len(text.encode()) for text in found)
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if left <= 0:
            break
        left -= len(text.encode())
        found.append(text)
    return found


def row(name: str, arm: str, found: dict[str, Any], size: int) -> Row:
    """What one library did; a library that does not take a vocabulary has an empty row."""
    mine, right, control = found[arm], found[RIGHT[name]], found["tokenizers"]
    if mine is None:
        return {"vocabulary": name, "arm": arm, "takes_it": False}
    slowest = max(times[1] for times in mine["runs_ms"].values())
    return {
        "vocabulary": name, "arm": arm, "takes_it": True, "documents": len(mine["documents"]), "bytes": size,
        "wrong": _wrong(mine["documents"], right["documents"]), "hostile": len(mine["hostile"]),
        "hostile_wrong": _wrong(mine["hostile"], right["hostile"]), "load_s": round(mine["load_s"], 3),
        "cold_mb_s": round(size / 1e6 / mine["cold_s"], 2), "warm_mb_s": round(size / 1e6 / mine["warm_s"], 2),
        "cold_wall_mb_s": round(size / 1e6 / mine["cold_wall_s"], 2),
        "warm_wall_mb_s": round(size / 1e6 / mine["warm_wall_s"], 2),
        "times_tokenizers": round(control["warm_s"] / mine["warm_s"], 2),
        "times_tokenizers_cold": round(control["cold_s"] / mine["cold_s"], 2),
        "peak_mb": round(mine["peak_mb"]), "slowest_run_ms": round(slowest, 1),
        "growth": round(max(long / max(short, 1.0) for short, long in mine["runs_ms"].values()), 1),
    }  # fmt: skip


def trained(arm: str, mine: dict[str, Any] | None, read: int, size: int, count: int) -> Row:
    """What one trainer did, and how fast what it learned encodes."""
    if mine is None:
        return {"vocabulary": TRAINED, "arm": arm, "takes_it": False}
    return {
        "vocabulary": TRAINED, "arm": arm, "takes_it": True, "read": read, "pieces": mine["pieces"],
        "train_s": round(mine["train_s"], 2), "train_wall_s": round(mine["train_wall_s"], 2),
        "train_mb_s": round(read / 1e6 / mine["train_s"], 2), "peak_mb": round(mine["peak_mb"]),
        "before_mb": round(mine["before_mb"]), "documents": count, "wrong": mine["wrong"],
        **{f"{run}_mb_s": round(size / 1e6 / mine[f"{run}_s"], 2) for run in RUN_KINDS},
    }  # fmt: skip


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Ours is right everywhere, faster than the control, never quadratic, and trains in twice rustbpe's time."""
    found = []
    seconds = {r["arm"]: r for r in rows if r["vocabulary"] == TRAINED and r["takes_it"]}
    for arm in TRAINERS:
        if arm in seconds and "rustbpe" in seconds and arm.startswith("tokenry"):
            over = seconds[arm]["train_s"] / seconds["rustbpe"]["train_s"]
            found.append(claim(f"processor time of training, {arm}'s over rustbpe's", over, at_most=2.0))
            found.append(claim(f"documents that what {arm} learned gets wrong", seconds[arm]["wrong"], at_most=0))
    for name in ARMS:
        mine = [r for r in rows if r["vocabulary"] == name and r["arm"] in OURS]
        quick = next((r for r in mine if r["arm"] == OURS[0]), None)
        if quick is None:
            continue
        wrong = max(r["wrong"] + r["hostile_wrong"] for r in mine)
        found.append(claim(f"{name}: texts for which tokenry gives other ids than {RIGHT[name]}", wrong, at_most=0))
        text = f"{name}: {OURS[0]}, times the speed of tokenizers"
        found.append(claim(text, quick["times_tokenizers"], at_least=NEEDED_TIMES))
        text = f"{name}: the same on the first pass, with the choice of a library"
        found.append(claim(text, quick["times_tokenizers_cold"], at_least=1.0))
        growth = max(r["growth"] for r in mine)
        text = (
            f"{name}: times longer that tokenry needs for a run of one character that is {LONG // SHORT} times longer"
        )
        found.append(claim(text, growth, at_most=2 * LONG / SHORT))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = (
        "library", "wrong documents", "wrong hostile texts", "load s", "first MB/s", "then MB/s", "wall MB/s, first",
        "wall MB/s, then", "times tokenizers", "peak MB", "slowest run ms", "growth",
    )  # fmt: skip
    found = []
    for name, rows in by(document["rows"], "vocabulary"):
        if name == TRAINED:
            found.append(_training(rows))
            continue
        cells = [
            (
                r["arm"], f"{r['wrong']} of {r['documents']}", f"{r['hostile_wrong']} of {r['hostile']}",
                fixed(r["load_s"], 2), fixed(r["cold_mb_s"], 1), fixed(r["warm_mb_s"], 1), *_walls(r),
                fold(r["times_tokenizers"]), str(r["peak_mb"]), fixed(r["slowest_run_ms"], 0), fixed(r["growth"], 1),
            )
            if r["takes_it"]
            else (r["arm"], "refuses the vocabulary", *[""] * 10)
            for r in rows
        ]  # fmt: skip
        found.append(Table(f"{name}, {rows[0]['bytes'] / 1e6:.1f} MB of text", heads, cells))
    return found


def _training(rows: list[Row]) -> Table:
    heads = (
        "library", "train s", "wall s", "MB/s", "peak MB", "before MB", "pieces", "wrong documents", "then MB/s",
        "again MB/s",
    )  # fmt: skip
    cells = [
        (
            r["arm"], fixed(r["train_s"], 1), fixed(r["train_wall_s"], 1), fixed(r["train_mb_s"], 1), str(r["peak_mb"]),
            str(r["before_mb"]), str(r["pieces"]), f"{r['wrong']} of {r['documents']}", fixed(r["cold_mb_s"], 1),
            fixed(r["warm_mb_s"], 1),
        )
        if r["takes_it"]
        else (r["arm"], "failed", *[""] * 8)
        for r in rows
    ]  # fmt: skip
    read = max((r["read"] for r in rows if r["takes_it"]), default=0)
    return Table(f"Trainers, {read / 1e6:.0f} MB of text", heads, cells)


def _walls(r: Row) -> tuple[str, str]:
    return fixed(r.get("cold_wall_mb_s"), 1), fixed(r.get("warm_wall_mb_s"), 1)


def _wrong(mine: list[str | None], right: list[str | None]) -> int:
    return sum(a != b for a, b in zip(mine, right, strict=True))


def _vocabulary(name: str) -> Path:
    if name == "smollm2":
        return find_vocabulary(name)
    file = HOME.path / "cl100k_base.tiktoken"
    if not file.exists():
        packed = HOME.path / "packages" / "bpe_openai" / "data" / "cl100k_base.tiktoken.gz"
        file.write_bytes(gzip.decompress(packed.read_bytes()))
    return file


def _child(module: str, arm: str, *places: object) -> dict[str, Any] | None:
    """What the child says, or None where the library does not take the vocabulary."""
    process = HOME.process(module, arm, *places)
    done = subprocess.run(**process, capture_output=True, check=False, timeout=600)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None


if __name__ == "__main__":
    main()
