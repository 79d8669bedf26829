"""A Gaussian kernel through few points: how near it is, what it costs, and what an encoder of pictures learns."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import BUILD, Record, Row, claim, take_turns
from benchmarks.tables import Result, Table, fixed, fold, percent, show
from tokenry.attend.layers.gaussian import exact, supported
from tokenry.attend.layers.vision_model import TEST_SEED, VisionModel, train
from tokenry.attend.softmax_free import SoftmaxFree, kernel_error
from tokenry.core.schooling import Schooling
from tokenry.data.tasks.shapes import SHAPES, Shapes

NAME = "attend/softmax_free"
TITLE = "Pictures without softmax"
SUBJECTS = ("attend/softmax_free",)
ABOUT = (
    "Encoders of two stages name one of eight shapes in noisy pictures of 16 by 16 pixels: 64 patches of width 32, "
    "then 16 of width 64. They differ in how many patches a point of the kernel stands for. Errors of the kernel are "
    "relative to that of all pairs, for the queries of an untrained layer over patches of pictures that were smoothed, "
    "and over random ones. Times are of the kernel alone, two heads of width 32 with 49 points, in one thread."
)
STEPS = 1200
SIDE, NOISE = 16, 0.1
ARMS = {
    "2 patches a side": ("softmax_free:ratio=2",) * 2,
    "2 patches a side, not normed": ("softmax_free:ratio=2,normed=false",) * 2,
    "all pairs": ("softmax_free:ratio=1",) * 2,
}
EXACT = "all pairs"
SHOWN = Shapes(side=SIDE, noise=NOISE)
SIZES = (256, 1024, 4096)


def main() -> None:
    """All arms; what is measured already is not measured again."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    record = Record(
        NAME,
        dtype="float32",
        save=True,
        grows=True,
        settings={"steps": STEPS, "side": SIDE, "noise": NOISE, "sizes": SIZES, "arms": ARMS},
    )
    if record.find(part="error") is None:
        record.add(*errors())
    if record.find(part="time") is None:
        record.add(*times())
    for arm, stages in ARMS.items():
        if record.find(arm=arm) is None:
            began = time.process_time()
            model = VisionModel(stages=stages).build(classes=len(SHAPES), width=32)
            folder = BUILD / "softmax_free" / "".join(c if c.isalnum() else "_" for c in arm)
            model, _ = train(model, SHOWN, STEPS, folder, Schooling(rate=5e-3, rise=30, clip=1.0, every=200))
            record.add({
                "arm": arm, "right": round(right(model), 4), "seconds": round(time.process_time() - began, 1)
            })  # fmt: skip
            print(record.rows[-1], flush=True)
    show(record.finish(claims(record.rows)), tables)


@torch.no_grad()
def right(model: VisionModel) -> float:
    """The share of 2,048 pictures that a model names right."""
    drawn = SHOWN.sample(2048, torch.Generator().manual_seed(TEST_SEED))
    said = torch.cat([model(part).argmax(-1) for part in drawn.pixels.split(128)])
    return float((said == drawn.labels).float().mean())


def errors() -> list[Row]:
    """The error of the kernel by the number of points, for smooth patches and for random ones."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 32, 16, 16, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(noise, (3, 3, 3, 3), mode="circular"), 7, 1) * 5
    found = []
    for kind, picture in (("smooth", smooth), ("random", noise)):
        for ratio in (8, 4, 2):
            layer = SoftmaxFree(heads=1, ratio=ratio, points="mean").build(width=32).eval()
            error = kernel_error(layer, picture.flatten(2).mT)
            found.append({"part": "error", "patches": kind, "points": (16 // ratio) ** 2, "error": round(error, 4)})
    return found


def times() -> list[Row]:
    """Seconds of the kernel through 49 points and of that of all pairs, by the number of patches."""
    found = []
    for n in SIZES:
        q, v = torch.randn(1, 2, n, 32), torch.randn(1, 2, n, 32)
        points = q[:, :, :: max(1, n // 49)][:, :, :49]

        def timed(run: Any) -> float:
            began = time.process_time()
            run()
            return time.process_time() - began

        def few(q: Tensor = q, points: Tensor = points, v: Tensor = v) -> float:
            return timed(lambda: supported(q, points, v))

        def all_pairs(q: Tensor = q, v: Tensor = v) -> float:
            return timed(lambda: exact(q, v))

        taken = take_turns({"points": few, "all pairs": all_pairs}, 7)
        row = {kind: round(statistics.median(seconds), 6) for kind, seconds in taken.items()}
        found.append({"part": "time", "patches": n, **row})
    return found


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """The error falls with points, time grows linearly, and pictures are told apart nearly as well."""
    error = {(r["patches"], r["points"]): r["error"] for r in rows if r.get("part") == "error"}
    took = {r["patches"]: r for r in rows if r.get("part") == "time"}
    named = {r["arm"]: r["right"] for r in rows if "arm" in r}
    most, least = SIZES[-1], SIZES[1]
    return [
        claim("softmax_free: error of the kernel with 64 points as a share of that with 4, smooth patches",
              error["smooth", 64] / error["smooth", 4], at_most=0.5),
        claim("softmax_free: the same, random patches", error["random", 64] / error["random", 4], at_most=1.0),
        claim("softmax_free: times as long for four times the patches, 49 points",
              took[most]["points"] / took[least]["points"], at_most=5.0),
        claim("softmax_free: times as long for four times the patches, all pairs",
              took[most]["all pairs"] / took[least]["all pairs"], at_least=10.0),
        claim("softmax_free: pictures named right below the exact twin's share",
              named[EXACT] - named["2 patches a side"], at_most=0.02),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows = document["rows"]
    learned = [(r["arm"], percent(r["right"]), fixed(r["seconds"], 0)) for r in rows if "arm" in r]
    error = {(r["patches"], r["points"]): r["error"] for r in rows if r.get("part") == "error"}
    counts = sorted({points for _, points in error})
    kinds = dict.fromkeys(kind for kind, _ in error)
    near = [(kind, *(fixed(error[kind, points], 3) for points in counts)) for kind in kinds]
    cost = [
        (
            str(r["patches"]), fixed(1e3 * r["points"], 2), fixed(1e3 * r["all pairs"], 2),
            fold(r["all pairs"] / r["points"]),
        )
        for r in rows if r.get("part") == "time"
    ]  # fmt: skip
    return [
        Table("pictures named right, by what a point stands for", ("points", "right", "seconds"), learned),
        Table("error of the kernel by the number of points", ("patches", *map(str, counts)), near),
        Table("milliseconds of the kernel", ("patches", "49 points", "all pairs", "times faster"), cost),
    ]


if __name__ == "__main__":
    main()
