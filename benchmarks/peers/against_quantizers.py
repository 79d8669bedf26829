"""vector-quantize-pytorch and faiss beside ours: the time and memory of looking up codes, and codebooks that learn.

Every arm has a process of its own with one thread. Where a library holds a number for each pair of vectors and codes
it is given the vectors in slices; at the largest table it is timed on a part of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from itertools import product
from typing import Any

import torch
from rich.progress import track

from benchmarks.peers.folder import PeerFolder
from benchmarks.peers.quantizers_child import CODES, EQUAL, PAIRS, ROUNDS, SEED
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, fold, show

TITLE = "Quantizers beside ours"
SUBJECTS = ("quantize/vq",)
ABOUT = (
    "Looking up the nearest of many codes for random vectors: seconds of processor time of the best of up to "
    "three rounds, memory beyond vectors and table. `addmm + argmax` and `nearest_code` give codes alone; "
    "`tokenry vq` and `their vq`, of vector-quantize-pytorch 1.32, are whole quantizers in evaluation mode, which "
    "check and give values too. Theirs holds numbers for all pairs of vectors and codes, so it gets slices of 16 "
    "million pairs; at 65,536 codes it is timed on a part of the vectors and its seconds are multiplied. `other "
    "codes` differ from those of the first row, `farther` are those among them that are not as near. Below, both "
    "learn in the autoencoder of `Codes for photographs`: theirs as it comes, and with the decay, k-means start, "
    "restart, weight and gradient that ours has."
)

HOME = PeerFolder("quantizers", (
    "vector-quantize-pytorch==1.32.0", "einx==0.4.3", "einops==0.8.2", "frozendict", "loguru",
    "torch-einops-utils", "faiss-cpu==1.15.1",
))  # fmt: skip
SIZES, WIDTHS, VECTORS, STEPS = (1024, 16_384, 65_536), (64, 256), 65_536, 600
PART = {("theirs", 65_536): 8192}
"""Vectors on which a slow arm is timed."""
PLAIN, NEAREST, OURS, THEIRS = "addmm + argmax, 1,024 rows at a time", "nearest_code", "tokenry vq", "their vq"
LOOKUP = {PLAIN: "plain", "faiss, flat index": "faiss", NEAREST: "nearest", OURS: "ours", THEIRS: "theirs"}
LEARN = {"their vq, its defaults": "theirs", "their vq, set as ours": "theirs as ours", "tokenry vq": "ours"}


def main() -> None:
    """Measure all, or the smallest table alone, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the smallest table and few steps")
    quick = options.parse_args().quick
    torch.set_num_threads(1)
    settings = {
        "packages": HOME.packages, "sizes": SIZES, "widths": WIDTHS, "vectors": VECTORS, "rounds": ROUNDS,
        "pairs": PAIRS, "codes": CODES, "steps": STEPS, "set_as_ours": EQUAL,
    }  # fmt: skip
    record = Record(
        "peers/against_quantizers", dtype="float32", settings=settings,
        save=not quick,
    )  # fmt: skip
    HOME.install()
    for size, width in track(list(product(SIZES[:1] if quick else SIZES, WIDTHS)), "looking up"):
        if record.find(part="lookup", codes=size, width=width) is None:
            record.add(*looked_up(size, width))
    for arm, name in track(LEARN.items(), "learning"):
        if record.find(part="learn", arm=arm) is None:
            found = _child("learn", name, 20 if quick else STEPS)
            record.add({"part": "learn", "arm": arm} | {k: round(v, 4) for k, v in found.items()})
    show(record.finish([] if quick else claims(record.rows)), tables)


def looked_up(size: int, width: int) -> list[Row]:
    """All arms on one table; `wrong` counts vectors for which another code is nearer than the one that was found."""
    rows, right = [], None
    for arm, name in LOOKUP.items():
        vectors = PART.get((name, size), VECTORS)
        file = HOME.path / "found.bin"
        said = _child("lookup", name, size, width, vectors, file)
        found = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.int32).long()
        right = found if right is None else right
        rows.append(
            {
                "part": "lookup", "codes": size, "width": width, "arm": arm, "timed_on": vectors,
                "slice": min(vectors, PAIRS // size) if name == "theirs" else None,
                "seconds": round(said["seconds"] * VECTORS / vectors, 3), "rounds": said["rounds"],
                "extra_mib": round(said["extra_mib"], 1), "other": int((found != right[: len(found)]).sum()),
                "wrong": _wrong(found, right[: len(found)], size, width),
            }
        )  # fmt: skip
    return rows


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Faster than theirs, no slower than plain products, little memory, right."""
    found = {(r["arm"], r["codes"], r["width"]): r for r in rows if r["part"] == "lookup"}
    learned = {r["arm"]: r for r in rows if r["part"] == "learn"}

    def times(one: str, other: str, size: int, width: int) -> float:
        return float(found[one, size, width]["seconds"] / found[other, size, width]["seconds"])

    mine = [r for r in rows if r["part"] == "lookup" and r["arm"] in (NEAREST, OURS)]
    ours, theirs = (learned[arm] for arm in ("tokenry vq", "their vq, its defaults"))
    return [
        *(
            claim(f"{OURS}: times faster than {THEIRS} at 16,384 codes of width {width}",
                  times(THEIRS, OURS, 16_384, width), at_least=4.0)
            for width in WIDTHS
        ),
        claim(f"{NEAREST}: largest share of the time of plain products, over all tables",
              max(times(NEAREST, PLAIN, size, width) for size, width in product(SIZES, WIDTHS)), at_most=1.2),
        claim(f"{NEAREST}: most MiB beyond vectors and table",
              max(r["extra_mib"] for r in mine if r["arm"] == NEAREST), at_most=64),
        claim("tokenry: vectors for which another code is nearer", sum(r["wrong"] for r in mine), at_most=0),
        claim("tokenry vq: dB better than their vq with its defaults", ours["psnr"] - theirs["psnr"], at_least=0.0),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    found = []
    for size in document["settings"]["sizes"]:
        for width in document["settings"]["widths"]:
            rows = [r for r in document["rows"] if (r.get("codes"), r.get("width")) == (size, width)]
            cells = [
                (
                    r["arm"], fixed(r["seconds"], 2), fold(r["seconds"] / rows[0]["seconds"]), fixed(r["extra_mib"], 0),
                    str(r["slice"] or ""), f"{r['timed_on']:,}", str(r["other"]), str(r["wrong"]),
                )
                for r in rows
            ]  # fmt: skip
            heads = (
                "arm", "seconds", "of plain products", "MiB extra", "slices of", "timed on", "other codes", "farther",
            )  # fmt: skip
            if cells:
                title = f"{document['settings']['vectors']:,} vectors of width {width}, {size:,} codes"
                found.append(Table(title, heads, cells))
    learned = [
        (r["arm"], fixed(r["psnr"], 2), fixed(r["usage"], 3), fixed(r["perplexity"], 1), fixed(r["seconds"], 0))
        for r in document["rows"]
        if r["part"] == "learn"
    ]
    heads = ("arm", "PSNR held out, dB", "usage", "perplexity", "seconds")
    return [*found, Table(f"{document['settings']['codes']} codes in the autoencoder of photographs", heads, learned)]


def _wrong(found: torch.Tensor, right: torch.Tensor, size: int, width: int) -> int:
    """Where two arms disagree, how often the first one's code is the farther one by more than rounding."""
    generator = torch.Generator().manual_seed(SEED)
    table = torch.randn(size, width, generator=generator).double()
    rows = torch.randn(VECTORS, width, generator=generator).double()
    at = (found != right).nonzero()[:, 0]
    far, near = ((rows[at] - table[codes[at]]).square().sum(1) for codes in (found, right))
    return int((far > near * (1 + 1e-5)).sum())


def _child(*arguments: object) -> dict[str, Any]:
    process = HOME.process("quantizers_child", *arguments)
    done = subprocess.run(**process, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(process['args'])} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
