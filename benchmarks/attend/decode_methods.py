"""One decoding step in one layer by every method that chooses, in two shapes of heads, up to 128K cached tokens."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.attend.decode_layer import (
    BASE,
    DENSE,
    DTYPES,
    LAYER_BYTES,
    LAYERS,
    STACK_BYTES,
    Arm,
    Tokenry,
    Transformers,
    ms_of,
    step_of,
)
from benchmarks.record import Record, Row, claim, take_turns
from benchmarks.tables import Result, Table, by, fixed, fold, show

TITLE = "One decoding step by method"
SUBJECTS = ("the cache", "attend/token_select", "attend/quest", "attend/fasa", "attend/recycled", "attend/dhsa")
ABOUT = (
    "Attention over random keys in the geometry of SmolLM2-135M (9 query heads, 3 KV heads of width 64) and of "
    "Llama-3-8B (32, 8 and 128). A step appends one token and attends. `transformers` is its default cache, which "
    "concatenates, with the SDPA call it makes itself; all other arms write in place. The weights of a layer are read "
    "between two steps, so no arm finds its keys in the processor's cache. Every arm takes turns with a dense one that "
    "reads in place, and `times faster` is against that one; shown is the best round, which nobody else on the machine "
    "disturbed. `bound` is what the bytes of keys, values and what stands for keys would allow, those of the dense "
    "step over those of the arm. Methods choose 256 rows at every step; where it says reused, they read a choice "
    "again, and how often a text allows that stands under fidelity. By the rule, `dense_below=auto`, everything is "
    "read in caches that are shorter than where choosing pays on such a processor."
)

SHAPES = {"SmolLM2-135M": (9, 3, 64), "Llama-3-8B": (32, 8, 128)}
"""Query heads, KV heads and head width."""
METHODS = {
    "token_select": "token_select:budget=256,reuse=1.01",
    "token_select, reused choice": "token_select:budget=256,reuse=0.9",
    "quest": "quest:budget=256,dense_layers=0",
    "fasa": "fasa:budget=256,dense_layers=0,pairing=adjacent",
    "dhsa": "dhsa:budget=256:sink=4:recent=32",
    "recycled, between full steps": "recycled:budget=256,refresh=never",
    "window": "window:budget=256",
}
NEW = ("token_select", "quest", "fasa", "dhsa")
"""Those that choose anew at every step."""
RULED = {f"{name}, by the rule": f"{METHODS[name]},dense_below=auto" for name in NEW}
ARMS = METHODS | RULED
LENGTHS = (2048, 8192, 32768, 131072)
REPEATS = 21

Tensors = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]
"""Cached keys and values, and the query, key and value of a step."""


def main() -> None:
    """Measure every length in both dtypes, or quickly, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the shortest cache and few rounds, not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch; one is disturbed least")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    lengths, repeats = (LENGTHS[:1], 5) if given.quick else (LENGTHS, REPEATS)
    record = Record(
        "attend/decode_methods", options=f"--threads {given.threads}" if given.threads != 1 else "",
        dtype="float32 and bfloat16",
        settings={"shapes": SHAPES, "lengths": lengths, "repeats": repeats, "methods": ARMS}, save=not given.quick,
    )  # fmt: skip
    for (dtype, (kind, tolerance)), length, shape in product(DTYPES.items(), lengths, SHAPES):
        key = {"dtype": dtype, "shape": shape, "length": length}
        arms = [arm for arm in (BASE, *ARMS) if record.find(**key, arm=arm) is None]
        if arms:
            tensors = draw(SHAPES[shape], length, kind)
            for arm in arms:
                if arm == BASE:
                    prove(tensors, tolerance)
                record.add(*({**key, **row} for row in measure(arm, tensors, repeats)))
    show(record.finish([] if given.quick else claims(record.rows)), tables)


@torch.inference_mode()
def prove(tensors: Tensors, tolerance: float) -> None:
    """Every arm that is exact must give what transformers gives; without this no time is printed."""
    k, v, step = tensors
    base = Transformers(k, v, step[0].shape[1])
    expected = [step_of(base, *step)[0] for _ in range(3)]
    exact = {name: f"{spec.partition(':')[0]}:budget=1000000" for name, spec in METHODS.items()}
    for name, spec in {DENSE: None, **exact}.items():
        arm = Tokenry(k, v, spec)
        error = max((step_of(arm, *step)[0] - out).abs().max().item() for out in expected)
        if not error <= tolerance:
            raise SystemExit(f"decode_methods: {name} must equal transformers within {tolerance:g}; got {error:.2g}.")


@torch.inference_mode()
def measure(name: str, tensors: Tensors, repeats: int) -> list[Row]:
    """Milliseconds of append and attention in one layer for an arm and a dense one, which take turns."""
    k, v, step = tensors
    count = min(LAYERS, max(1, STACK_BYTES // (k.nbytes + v.nbytes)))
    arms: dict[str, list[Arm]] = {DENSE: [Tokenry(k, v) for _ in range(count)]}
    arms[name] = [
        Transformers(k, v, step[0].shape[1]) if name == BASE else Tokenry(k, v, ARMS[name]) for _ in range(count)
    ]
    weights = torch.zeros(max(count, STACK_BYTES // LAYER_BYTES), LAYER_BYTES // 4)

    def timed(layers: list[Arm]) -> tuple[float, float]:
        parts = []
        for i, layer in enumerate(layers):
            # Where few layers stand between two steps of one, more weights are read in their place.
            for passing in weights[i :: len(layers)]:
                passing.sum()
            parts.append(step_of(layer, *step)[1])
        return sum(a for a, _ in parts) / count, sum(b for _, b in parts) / count

    turns = {arm: (lambda layers=layers: timed(layers)) for arm, layers in arms.items()}
    take_turns(turns, 3)
    before = [_read_by(layer) for layer in arms[name]]
    times = take_turns(turns, repeats)
    # The best round is the one that nobody else on the machine disturbed; append and attention are those of it.
    best = {arm: min(pairs, key=sum) for arm, pairs in times.items()}
    read = sum(_read_by(layer) - was for layer, was in zip(arms[name], before, strict=True)) / count / repeats
    whole = k.nbytes + v.nbytes
    row = {
        "arm": name, "append_ms": ms_of(best[name][0]), "attention_ms": ms_of(best[name][1]),
        "step_ms": ms_of(sum(best[name])), "median_step_ms": ms_of(median(map(sum, times[name]))),
        "dense_ms": ms_of(sum(best[DENSE])), "times_faster": round(sum(best[DENSE]) / sum(best[name]), 3),
        "bound": round(whole / read, 2) if read else None,
    }  # fmt: skip
    if name != BASE:
        return [row]
    append, attention = best[DENSE]
    dense = {"arm": DENSE, "append_ms": ms_of(append), "attention_ms": ms_of(attention), "step_ms": row["dense_ms"],
             "median_step_ms": ms_of(median(map(sum, times[DENSE]))), "times_faster": 1.0, "bound": 1.0}  # fmt: skip
    return [row, dense]


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Reading in place is no slower than transformers, and a new choice is not slower than reading everything."""
    found = []
    for dtype, shape in product(DTYPES, SHAPES):
        at = {(r["arm"], r["length"]): r for r in rows if (r["dtype"], r["shape"]) == (dtype, shape)}
        where = f"{dtype}, {shape}"
        slowest = max(at[BASE, length]["times_faster"] for length in LENGTHS)
        found.append(
            claim(f"{where}: step of {DENSE} as a share of transformers', the largest of all lengths", slowest,
                  at_most=1.05)
        )  # fmt: skip
        for arm in RULED:
            least = min(at[arm, length]["times_faster"] for length in LENGTHS)
            text = f"{arm.partition(',')[0]}: {where}, by the rule, times faster than dense, the least of all lengths"
            found.append(claim(text, least, at_least=0.95))
        for arm in NEW:
            for lengths, needed in ((LENGTHS[:1], 1.0), (LENGTHS[1:], 1.5)):
                least = min(at[arm, length]["times_faster"] for length in lengths)
                span = f"{lengths[0]:,} cached tokens" + (" and more, the least" if len(lengths) > 1 else "")
                found.append(claim(f"{arm}: {where}, times faster than dense at {span}", least, at_least=needed))
        if dtype == "float32":
            for arm, needed in (("fasa", 8.0), ("quest", 15.0)):
                text = f"{arm}: {where}, times faster than dense at {LENGTHS[-1]:,} cached tokens"
                found.append(claim(text, at[arm, LENGTHS[-1]]["times_faster"], at_least=needed))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("cached tokens", "arm", "append ms", "attention ms", "step ms", "times faster", "bound")
    return [
        Table(
            f"{dtype}, {shape}, one layer, best of {document['settings']['repeats']} rounds",
            heads,
            [
                (f"{r['length']:,}", r["arm"], *(fixed(r[ms], 3) for ms in ("append_ms", "attention_ms", "step_ms")),
                 fold(r["times_faster"]), fold(r["bound"]))
                for r in mine
            ],
            words=2,
        )
        for dtype, rows in by(document["rows"], "dtype") for shape, mine in by(rows, "shape")
    ]  # fmt: skip


def draw(shape: tuple[int, int, int], length: int, kind: torch.dtype) -> Tensors:
    """Random keys and values of so many tokens, and the query, key and value of a step."""
    heads, groups, width = shape
    dice = torch.Generator().manual_seed(length)

    def some(heads: int, tokens: int) -> Tensor:
        return torch.randn(1, heads, tokens, width, generator=dice).to(kind)

    return some(groups, length), some(groups, length), (some(heads, 1), some(groups, 1), some(groups, 1))


def _read_by(arm: Arm) -> int:
    """Bytes that a method has read so far."""
    return arm.run.reads.bytes if isinstance(arm, Tokenry) and arm.run is not None else 0


if __name__ == "__main__":
    main()
