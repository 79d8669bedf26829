"""From how many cached tokens on a new choice at every step takes less time than reading everything, by method."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from benchmarks.attend.decode_layer import DTYPES
from benchmarks.attend.decode_methods import METHODS, NEW, SHAPES, draw, measure
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fold, show
from tokenry.attend.rows.worth import pays_from

TITLE = "Where choosing pays"
SUBJECTS = tuple(f"attend/{name}" for name in NEW)
ABOUT = (
    "One layer and one decoding step, as under decode_methods: a method that chooses 256 rows anew, and a dense read "
    "of the same cache, which take turns. `times faster` is against that dense read. A method pays from the shortest "
    "length on from which it was not slower at any longer one, with the heads of either model. Methods with "
    "`dense_below=auto` read everything below what stands in the table of `tokenry.attend.rows.worth` for this kind of "
    "processor, which is made from this result."
)
LENGTHS = tuple(1024 << i for i in range(7))
REPEATS = 15
NEVER = 2 * LENGTHS[-1]


def main() -> None:
    """Measure every length in both dtypes, or quickly, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the shortest caches and few rounds, not recorded")
    quick = options.parse_args().quick
    torch.set_num_threads(1)
    lengths, repeats = (LENGTHS[:2], 5) if quick else (LENGTHS, REPEATS)
    record = Record(
        "attend/where_choosing_pays", dtype="float32 and bfloat16", save=not quick,
        settings={"shapes": SHAPES, "lengths": lengths, "repeats": repeats, "methods": {n: METHODS[n] for n in NEW}},
    )  # fmt: skip
    for (dtype, (kind, _)), length, shape in product(DTYPES.items(), lengths, SHAPES):
        key = {"dtype": dtype, "shape": shape, "length": length}
        arms = [arm for arm in NEW if record.find(**key, arm=arm) is None]
        if arms:
            tensors = draw(SHAPES[shape], length, kind)
            for arm in arms:
                (row,) = measure(arm, tensors, repeats)
                record.add({**key, **row})
    show(record.finish([] if quick else claims(record.rows)), tables)


def found(rows: Sequence[Row], dtype: str, arm: str) -> int:
    """The length from which the method is not slower than dense, with the heads of either model."""
    slower = [r["length"] for r in rows if (r["dtype"], r["arm"]) == (dtype, arm) and r["times_faster"] < 1]
    return 2 * max(slower) if slower else LENGTHS[0]


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What the table says of this kind of processor is not below what is measured."""
    return [
        claim(f"{arm}: {dtype}, the length of the table over the measured one, {found(rows, dtype, arm):,}",
              max(LENGTHS[0], pays_from(arm, torch.device("cpu"), kind)) / found(rows, dtype, arm), at_least=1.0)
        for (dtype, (kind, _)), arm in product(DTYPES.items(), NEW)
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    lengths = document["settings"]["lengths"]
    shown = []
    for dtype, rows in by(document["rows"], "dtype"):
        at = {(r["arm"], r["shape"], r["length"]): r["times_faster"] for r in rows}
        lines = [
            (arm, shape, *(fold(at[arm, shape, length]) for length in lengths), f"{found(rows, dtype, arm):,}")
            for arm, shape in product(NEW, document["settings"]["shapes"])
        ]
        heads = ("method", "heads of", *(f"{length:,}" for length in lengths), "pays from")
        shown.append(Table(f"{dtype}: times faster than dense, by cached tokens", heads, lines, words=2))
    return shown


if __name__ == "__main__":
    main()
