"""What small models learn by the layer they are made of: length, recall, and retrieval from far away.

`length`: models of characters learn from rows of 128 and predict rows of up to 16 times as many. `recall`: one layer is
asked for the values of keys that stand before. `far`: pairs are hidden in rows of 96 and then of up to 1,536 ids.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks import record
from benchmarks.record import BUILD, Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, percent, show
from tokenry.attend.layers.language_model import LayerModel
from tokenry.attend.layers.training import TEST_SEED, train
from tokenry.core.schooling import Schooling
from tokenry.data.tasks.asked import Asked, Task
from tokenry.data.tasks.passages import Passages
from tokenry.data.tasks.recall import AssociativeRecall, FarRetrieval

NAME = "attend/layers"
TITLE = "Layers of attention that are learned"
SUBJECTS = ("attend/softplus", "attend/test_time_regression", "attend/nats_linear", "attend/landmark")
ABOUT = (
    "Small models are trained from the start with one kind of layer, all in the same way and on the same rows. "
    "Length: three layers of width 64 learn the characters of the sample documents in rows of 128; the loss is on "
    "their last tenths, in longer and longer rows. Recall: one layer of one head of width 32 reads 32 pairs and is "
    "asked for each. Far: two layers over embeddings of three tokens learn to find eight pairs in rows of 96 and "
    "search rows of up to 1,536, of which `landmark` fetches two blocks of 8 tokens at each step. The models are "
    "tiny and the steps few: what is compared is the layers, not what is best for a task. Sharpened softplus is "
    "better the longer the rows, but not flat as in the paper, whose models have a thousand times as many weights and "
    "texts: these ones never learn to do without what positions beyond their rows do to products. Sharpening what was "
    "learned without it ruins a model. The delta rule learns slowly: in as few steps it is where linear attention is. "
    "`landmark` gives every value when it reads all blocks of a row, and few when it fetches two: with twelve blocks "
    "in a row the model finds a pair within its block and never has to learn which block, so its marks say little."
)

SOFTMAX = "softplus:kernel=exp,scale=root,unit=false,power=1,offset=0"
REGRESSION = "test_time_regression:heads=1"


@dataclass(frozen=True)
class Experiment:
    """One question: its arms by the layers of a model, how they learn, and what is then measured."""

    arms: Mapping[str, tuple[str, ...]]
    task: Task
    width: int
    steps: int
    how: Schooling
    measure: Callable[[LayerModel], list[Row]]
    claims: Callable[[list[Row]], list[dict[str, Any]]]
    hidden: int = 4
    conv: int = 0


def main() -> None:
    """All experiments, or some of their arms; what is measured already is not measured again."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=EXPERIMENTS, help="these experiments")
    given = options.parse_args()
    torch.set_num_threads(1)
    for name in given.only or EXPERIMENTS:
        e = EXPERIMENTS[name]
        rows = Record(
            f"{NAME}/{name}", script=NAME, options=f"--only {name}", dtype="float32", save=True, grows=True,
            settings={"arms": {arm: [*layers, e.steps, f"{e.task}", e.width] for arm, layers in e.arms.items()}},
        )  # fmt: skip
        for arm in e.arms:
            if rows.find(arm=arm) is None:
                rows.add(*run(name, e, arm))
                print(rows.rows[-1], flush=True)
        rows.finish(e.claims(rows.rows))
    document = record.read(NAME)
    assert document is not None
    show(document, tables)


def run(name: str, e: Experiment, arm: str) -> list[Row]:
    """Train one arm, from its last checkpoint on, and measure it."""
    model = LayerModel(layers=e.arms[arm], hidden=e.hidden, conv=e.conv)
    model.build(vocabulary=e.task.size, width=e.width, generator=torch.Generator().manual_seed(0))
    folder = BUILD / "layers" / name / "".join(c if c.isalnum() else "_" for c in arm)
    began = time.process_time()
    model, log = train(model, e.task, e.steps, folder, e.how)
    took = time.process_time() - began
    with torch.no_grad():
        found = e.measure(model)
    same = {"experiment": name, "arm": arm, "train_loss": round(log[-1]["loss"], 4), "seconds": round(took, 1)}
    return [same | row for row in found]


LENGTHS = (128, 256, 512, 1024, 2048)


def by_length(model: LayerModel) -> list[Row]:
    """The loss of held-out rows, longer and longer, of 14,336 characters each time."""
    found = []
    for length in LENGTHS:
        rows = Passages().held_out(14336 // length, length)
        parts = [
            float(Asked(i, t).loss(model(i))) for i, t in zip(rows.ids.split(1), rows.labels.split(1), strict=True)
        ]
        found.append({"length": length, "loss": round(sum(parts) / len(parts), 4)})
    return found


def length_claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Sharpened softplus hardly rises with the length, softmax does."""
    loss = {(r["arm"], r["length"]): r["loss"] for r in rows}
    last, eighth = LENGTHS[-1], LENGTHS[3]
    rise = {arm: loss[arm, last] - loss[arm, LENGTHS[0]] for arm, _ in loss}
    best = "LSSAR, power 15"
    return [
        claim("softplus: rise of the loss at 16 times the length, nats", rise[best], at_most=0.1),
        claim("softplus: this rise as a share of that of softmax", rise[best] / rise["softmax"], at_most=0.25),
        claim("softplus: loss at 8 times the length below that of LSSA, nats",
              loss["LSSA", eighth] - loss[best, eighth], at_least=0.0),
        claim("softplus: loss of LSSA at 8 times the length below that of softmax, nats",
              loss["softmax", eighth] - loss["LSSA", eighth], at_least=0.0),
    ]  # fmt: skip


def by_pairs(model: LayerModel) -> list[Row]:
    """Right answers about as many pairs as were learned with, and fewer."""
    found = []
    for pairs in (8, 16, 32):
        drawn = replace(RECALL, pairs=pairs).sample(256, torch.Generator().manual_seed(TEST_SEED))
        row: Row = {"pairs": pairs, "right": round(drawn.right(model(drawn.ids)), 4)}
        share = getattr(model.blocks[0].layer, "share", None)
        found.append(row if share is None else row | {"share": round(float(share), 4)})
    return found


def recall_claims(rows: list[Row]) -> list[dict[str, Any]]:
    """What looks at how keys are alike recalls more pairs than what takes them for different."""
    right = {r["arm"]: r["right"] for r in rows if r["pairs"] == 32}
    return [
        claim("test_time_regression: right answers of least squares to 32 pairs", right["least squares"], at_least=0.9),
        claim("test_time_regression: right answers of least squares above those of linear attention",
              right["least squares"] - right["linear attention"], at_least=0.1),
        claim("test_time_regression: right answers of the delta rule above those of linear attention",
              right["delta rule"] - right["linear attention"], at_least=0.05),
        claim("test_time_regression: right answers of softmax above those of gated linear attention",
              right["softmax"] - right["gated linear"], at_least=0.1),
        claim("test_time_regression: right answers of softmax without convolution, the control",
              right["softmax, no convolution"], at_most=0.2),
        claim("nats_linear: right answers of the hybrid above those with all chunks sent to the delta rule",
              right["hybrid"] - right["hybrid, all to the delta rule"], at_least=0.05),
        claim("nats_linear: share of chunks that the hybrid sends to softmax",
              next(r["share"] for r in rows if r["arm"] == "hybrid" and r["pairs"] == 32), at_most=0.9),
    ]  # fmt: skip


def by_distance(model: LayerModel) -> list[Row]:
    """Right answers about pairs far away, read in pieces as decoding reads, where a layer fetches few blocks."""
    found = []
    for length in (96, 192, 384, 768, 1536):
        drawn = replace(FAR, length=length).sample(32, torch.Generator().manual_seed(TEST_SEED))
        reading = model.begin(len(drawn.ids))
        logits = torch.cat([model.read(part, reading) for part in drawn.ids.split(64, 1)], 1)
        found.append({"length": length, "right": round(drawn.right(logits), 4)})
    return found


def far_claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Landmarks find pairs far beyond the trained length, with few blocks read."""
    right = {(r["arm"], r["length"]): r["right"] for r in rows}
    return [
        claim("landmark: right answers at the trained length", right["landmark", 96], at_least=0.9),
        claim("landmark: right answers at 16 times the trained length", right["landmark", 1536], at_least=0.7),
        claim("landmark: these above those of softmax attention",
              right["landmark", 1536] - right["softmax", 1536], at_least=0.3),
    ]  # fmt: skip


FAR = FarRetrieval(pairs=8, asked=8, length=96, keys=32, values=32, fillers=8)
RECALL = AssociativeRecall(pairs=32, length=160, keys=64, values=64)
LEARNING = Schooling(rate=3e-3, rise=50, clip=1.0, every=200)
EXPERIMENTS: Mapping[str, Experiment] = {
    "length": Experiment(
        {
            "softmax": (SOFTMAX,) * 3,
            "softmax, sharpened by 15": (SOFTMAX.replace("power=1,offset=0", "power=15"),) * 3,
            "LSSA": ("softplus:power=1,offset=0",) * 3,
            "LSSAR, power 3": ("softplus:power=3",) * 3,
            "LSSAR, power 15": ("softplus",) * 3,
            "LSSAR, power 15 when reading only": ("softplus:sharpen=reading",) * 3,
        },
        Passages(), 64, 1500, replace(LEARNING, batch=16), by_length, length_claims,
    ),
    "recall": Experiment(
        {
            "least squares": (REGRESSION,),
            "linear attention": (f"{REGRESSION},regressor=linear_attention",),
            "gated linear": (f"{REGRESSION},regressor=gated_linear",),
            "delta rule": (f"{REGRESSION},regressor=delta_rule",),
            "longhorn": (f"{REGRESSION},regressor=longhorn",),
            "softmax": (f"{REGRESSION},regressor=local_constant,temperature=learned",),
            "softmax, no convolution": (f"{REGRESSION},regressor=local_constant,temperature=learned,conv=0",),
            "hybrid": ("nats_linear:heads=1,each=1,chunk=16",),
            "hybrid, all to the delta rule": ("nats_linear:heads=1,each=1,chunk=16,route=linear",),
            "hybrid, all to softmax": ("nats_linear:heads=1,each=1,chunk=16,route=softmax",),
        },
        RECALL, 32, 1500, replace(LEARNING, batch=16), by_pairs, recall_claims,
    ),
    "far": Experiment(
        {"landmark": ("landmark:heads=2,block=8,blocks=2",) * 2, "softmax": (SOFTMAX.replace(":", ":heads=2,"),) * 2},
        FAR, 48, 1200, replace(LEARNING, batch=16, rate=4e-3), by_distance, far_claims, hidden=2, conv=3,
    ),
}  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    about = {
        "length": ("length", "loss", 3, "loss of held-out characters in nats, by the length of rows"),
        "recall": ("pairs", "right", 1, "right answers to all pairs of a row, by their number"),
        "far": ("length", "right", 1, "right answers about pairs in rows of so many ids"),
    }
    found = []
    for name, rows in by(document["rows"], "experiment"):
        key, value, digits, title = about[name]
        columns = sorted({r[key] for r in rows})
        cells = []
        for arm, own in by(rows, "arm"):
            at = {r[key]: r[value] for r in own}
            shown = [percent(at.get(c)) if value == "right" else fixed(at.get(c), digits) for c in columns]
            cells.append((arm, *shown))
        found.append(Table(title, (name, *map(str, columns)), cells))
    return found


if __name__ == "__main__":
    main()
