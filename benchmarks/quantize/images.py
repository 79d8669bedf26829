"""Quantizers in the middle of a small autoencoder of photographs: what they cost, and how many of their codes live.

The same tiles, steps and seeds for all; nothing but the middle differs. `random codes` draws the codes, so that its
decoder learns nothing from them.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.arms import others
from benchmarks.autoencoder import (
    HELD_OUT,
    PHOTOGRAPHS,
    Autoencoder,
    Middle,
    Passed,
    Quantized,
    looks,
    photographs,
    psnr,
    trained,
)
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, percent, show, span
from tokenry.core.registry import parse
from tokenry.quantize.usage.monitor import CodebookMonitor

TITLE = "Codes for photographs"
SUBJECTS = ("quantize/vq", "quantize/rvq", "quantize/fsq")
ABOUT = (
    "An autoencoder of 0.14 million parameters turns a tile of 32 x 32 pixels into 8 x 8 vectors and back; only "
    "what stands between differs. It learns from overlapping tiles of ten photographs at half their resolution. "
    "PSNR is over all pixels of three others, usage and perplexity are of all counted tokens together; "
    "`entropy-coded` is the entropy of each codebook. `stays` is the share of codes that come again when the tile "
    "is decoded and encoded once more. Of several codebooks the least and the most are shown. Where a span "
    "stands in brackets PSNR is the mean of three seeds; all else is of one, and another can move a value by "
    "0.4 dB: smaller differences say nothing. `random codes` are drawn without a "
    "look at the tile, so its decoder can only learn the mean tile."
)

STEPS, SEED, CODE = 600, 0, 16
SEEDS = 3
"""Runs of the arms that most is said about; their PSNR is the mean, all else is of the first."""
STRIDES = {"training": 16, "held out": 32}
TILES = 512
"""Training tiles whose 32,768 codes are counted."""

NOTHING, CHANCE = "continuous", "random codes"
VQ, OLD, NO_RESTART, RVQ = "vq", "vq of 2017: by loss, uniform start", "vq, no restart", "rvq, 4 x 512"
FSQ = "fsq 8, 8, 8"
NAMED = {
    RVQ: "rvq:of=vq[codes=512],levels=4",
    VQ: "vq",
    "vq, rotation trick": "vq:gradient=rotation_trick",
    "vq, uniform start": "vq:start=uniform",
    "vq by loss, with restart": "vq:update=by_loss",
    NO_RESTART: "vq:revive=never",
    "vq, uniform start, no restart": "vq:start=uniform,revive=never",
    OLD: "vq:start=uniform,update=by_loss,revive=never",
    "vq, cosine of 8 numbers": "projected:of=vq[codes=512,metric=cosine],channels=8",
    "vq, cosine of 8 numbers, by loss, no restart":
        "projected:of=vq[codes=512,metric=cosine,update=by_loss,revive=never],channels=8",
    FSQ: "fsq:levels=8+8+8",
    "fsq 8, 8, 8, batch_moments": "fsq:levels=8+8+8,balance=batch_moments",
    "fsq 8, 8, 8, normal_grid, batch_moments": "fsq:levels=8+8+8,grid=normal_grid,balance=batch_moments",
    "fsq 8, 8, 8, logistic_grid, moment_loss": "fsq:levels=8+8+8,grid=logistic_grid,balance=moment_loss",
    "fsq 8, 5, 5, 5": "fsq:levels=8+5+5+5",
}  # fmt: skip
ARMS = NAMED | others("quantize", NAMED)
OFTEN = (NOTHING, VQ, FSQ, RVQ)
NEEDED = {VQ: 20.91, RVQ: 21.44, FSQ: 20.11}
"""PSNR in dB that was known for an autoencoder of this shape after as many steps, whose vectors alone gave 21.97 dB."""
BELOW = {VQ: 1.06, RVQ: 0.53, FSQ: 1.86}
"""How far these were below."""


class RandomCodes(Middle):
    """Rows of a random table, whatever comes."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(SEED)
        self.table = torch.randn(codes, width, generator=self.generator)

    def forward(self, z: Tensor) -> Passed:
        codes = torch.randint(len(self.table), z.shape[:-1], generator=self.generator)
        return Passed(self.table[codes], codes.unsqueeze(-1), 0.0)


def main() -> None:
    """Measure all, or some at fewer steps, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=STEPS, help="steps of training")
    options.add_argument("--only", nargs="+", metavar="ARM", help="these arms")
    given = options.parse_args()
    torch.set_num_threads(1)
    arms = [arm for arm in (NOTHING, *ARMS, CHANCE) if given.only is None or arm in given.only]
    settings = {
        "photographs": PHOTOGRAPHS, "held_out": HELD_OUT, "strides": STRIDES, "steps": given.steps, "seed": SEED,
        "seeds": dict.fromkeys(OFTEN, SEEDS), "tiles": TILES, "arms": arms,
    }  # fmt: skip
    record = Record(
        "quantize/images", dtype="float32", settings=settings,
        save=given.steps == STEPS and given.only is None, grows=True,
    )  # fmt: skip
    training = photographs(PHOTOGRAPHS, STRIDES["training"])
    held_out = photographs(HELD_OUT, STRIDES["held out"])
    for arm in track(arms, "quantizers"):
        if record.find(arm=arm) is None:
            record.add(measure(arm, training, held_out, given.steps))
    show(record.finish(claims(record) if given.only is None else []), tables)


def measure(arm: str, training: Tensor, held_out: Tensor, steps: int) -> Row:
    """Train an autoencoder around one quantizer, perhaps with several seeds, and look at both."""
    runs = []
    for seed in range(SEED, SEED + (SEEDS if arm in OFTEN else 1)):
        middle, code = build(arm, seed)
        model, seconds = trained(middle, code, training, steps=steps, seed=seed)
        runs.append((psnr(model, held_out), seconds))
        if seed == SEED:
            more = counted(model, training) if isinstance(middle, Quantized) else {}
    found, seconds = (sum(values) / len(runs) for values in zip(*runs, strict=True))
    each = {"psnr_of_seeds": [round(value, 3) for value, _ in runs]} if len(runs) > 1 else {}
    return {"arm": arm, "spec": ARMS.get(arm), "psnr": round(found, 3), **each, "seconds": round(seconds, 1)} | more


def build(arm: str, seed: int) -> tuple[Middle, int]:
    """The middle of one arm, and the width of the vectors it gets."""
    if arm == NOTHING:
        return Middle(), CODE
    if arm == CHANCE:
        return RandomCodes(512, CODE), CODE
    quantizer = parse(ARMS[arm])
    return Quantized(quantizer.build(width=CODE, generator=torch.Generator().manual_seed(seed))), CODE


@torch.no_grad()
def counted(model: Autoencoder, training: Tensor) -> Row:
    """What the monitor says of codes of training tiles, and of those that stay when the tile is decoded and encoded."""
    monitor = CodebookMonitor(model.middle.quantizer)
    for tiles in looks(training, TILES):
        monitor.add(model.encode(tiles), again=lambda values: model.encode(model.decode(values).clamp(0, 1)))
    found = monitor.report()
    books = found["codebooks"]
    return {
        "tokens": found["vectors"], "codes": [c["size"] for c in books],
        "usage": [round(c["usage"], 4) for c in books], "perplexity": [round(c["perplexity"], 1) for c in books],
        "bits": round(found["bits_per_vector"], 2),
        "coded_bits": round(found["entropy_coded_bits_per_vector"], 2), "stays": round(found["idempotence"], 4),
    }  # fmt: skip


def claims(record: Record) -> list[dict[str, Any]]:
    """A table that lives is worth decibels; without remedies most codes die."""
    found = {r["arm"]: r for r in record.rows}
    vq = found[VQ]
    better = ((VQ, OLD, 2.0), (VQ, NO_RESTART, 0.5), (VQ, CHANCE, 5.0), (RVQ, VQ, 0.5), (FSQ, CHANCE, 5.0))
    even = max(
        (r["psnr"] for arm, r in found.items() if arm.startswith(FSQ) and r["perplexity"][0] >= 120), default=0.0
    )
    return [
        *(
            claim(f"{arm}: PSNR of held-out photographs, in dB", found[arm]["psnr"], at_least=least)
            for arm, least in NEEDED.items()
        ),
        *(
            claim(f"{one}: dB better than {other}", found[one]["psnr"] - found[other]["psnr"], at_least=least)
            for one, other, least in better
        ),
        claim(f"{VQ}: share of codes in use", vq["usage"][0], at_least=0.99),
        *(claim(f"{arm}: share of codes in use", found[arm]["usage"][0], at_most=0.05) for arm in (NO_RESTART, OLD)),
        claim(f"{FSQ}: best PSNR of a setting with a perplexity of 120 or more, in dB", even, at_least=20.1),
        *(
            claim(f"{arm}: dB below {NOTHING}", round(found[NOTHING]["psnr"] - found[arm]["psnr"], 3), at_most=most)
            for arm, most in BELOW.items()
        ),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    cells = []
    for r in sorted(document["rows"], key=lambda r: document["settings"]["arms"].index(r["arm"])):
        counted = [""] * 5
        if "codes" in r:
            counted = [
                f"{r['bits']:g}", f"{r['coded_bits']:g}", span(r["usage"], 3), span(r["perplexity"], 1),
                percent(r["stays"]),
            ]  # fmt: skip
        seeds = f" ({span(r['psnr_of_seeds'], 2)})" if "psnr_of_seeds" in r else ""
        cells.append((r["arm"], fixed(r["psnr"], 2) + seeds, *counted, fixed(r["seconds"], 0)))
    heads = (
        "middle", "PSNR held out, dB", "bits/token", "entropy-coded", "usage", "perplexity", "stays", "seconds",
    )  # fmt: skip
    tokens = next(r["tokens"] for r in document["rows"] if "tokens" in r)
    return [Table(f"{document['settings']['steps']} steps; codes of {tokens:,} training tokens", heads, cells)]


if __name__ == "__main__":
    main()
