"""What it costs to choose by less than all: a part of the channels, or the choice of a step that is gone."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.forced import dense, feed, ids, read, using
from benchmarks.record import BUILD, Record, claim
from benchmarks.tables import Result, Table, by, fixed, interval, show
from tokenry.attend.calibrated.frequencies import Frequencies
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import divergence

TITLE = "Choosing by less"
SUBJECTS = ("attend/token_select", "attend/fasa", "attend/recycled")
ABOUT = (
    "SmolLM2-135M in 32-bit floats reads 768 tokens of prose densely, then 64 given tokens one by one. Every arm reads "
    "64 rows per KV head at each step: four sinks, the 16 newest tokens, and 44 that it chooses. The exact vote asks "
    "all channels of all keys; `fasa` a quarter of the channels, which the prompt names or a calibration on eight "
    "samples of another document; `random channels` are as many that were drawn once; `recycled` reads everything at "
    "one step in so many, and between them the rows that this step attended to. "
    "KL is from the dense next-token distribution, in nats, with intervals by bootstrap over eight passages."
)

DOCUMENTS, PLACES = ("moby_dick", "sotu_1930", "sotu_1975", "in_the_year_2889"), (0.5, 1.0)
PREFIX, FED = 768, 64
ROWS = "budget=64:sink=4:recent=16:per=head"
STRIDES = (2, 4, 8, 16, 32)
CALIBRATED_ON = ("constitution", 8)
"""A document, and how many samples of it, each as long as a passage."""
EXACT, QUARTER, CHANCE, WINDOW = "exact vote", "fasa", "fasa, random channels", "window"
CALIBRATED = "fasa, calibrated"
ARMS = {
    EXACT: f"token_select:{ROWS},chunk=0,reuse=1.01",
    "fasa, all channels": f"fasa:{ROWS},dense_layers=0,share=1",
    QUARTER: f"fasa:{ROWS},dense_layers=0",
    "fasa, 32 queries say by which": f"fasa:{ROWS},dense_layers=0,window=32",
    "fasa, votes added": f"fasa:{ROWS},dense_layers=0,vote=sum",
    CALIBRATED: f"fasa:{ROWS},dense_layers=0,calibration={{calibrated}}",
    CHANCE: f"fasa:{ROWS},dense_layers=0,calibration={{random}}",
    **{f"recycled, one step in {n}": f"recycled:{ROWS},refresh=stride[steps={n}]" for n in STRIDES},
    "random rows": f"attend/random:{ROWS}",
    WINDOW: "window:budget=64:sink=4",
}


def main() -> None:
    """Measure every arm on every passage."""
    settings = {"model": "smollm2", "documents": DOCUMENTS, "places": PLACES, "fed": FED, "arms": ARMS}
    record = Record("attend/choices", dtype="float32", settings=settings, save=True, grows=True)
    language = load("smollm2", dtype="float32")
    folders = {
        "random": drawn(language, BUILD / "random_channels"),
        "calibrated": calibrated(language, BUILD / "calibrated_channels"),
    }
    for name, place in product(DOCUMENTS, PLACES):
        lacking = [arm for arm in ARMS if record.find(document=name, place=place, arm=arm) is None]
        text = ids(language, name)
        start = int(place * (len(text) - PREFIX - FED))
        prompt, rest = text[start : start + PREFIX], text[start + PREFIX : start + PREFIX + FED]
        with dense(language)(PREFIX):
            own = feed(language, read(language, prompt)[0], rest).logits
        for arm in lacking:
            with using(language, ARMS[arm].format(**folders))(PREFIX) as run:
                said = feed(language, read(language, prompt)[0], rest).logits
            kl = divergence(own, said)[0].clamp_min(0).mean().item()
            row = {"kl": round(kl, 6), "rows_read": round(mean(run.reads.per_step), 1)}
            record.add({"document": name, "place": place, "arm": arm} | row)
    show(record.finish(claims(record)), tables)


def drawn(language: LanguageModel, folder: Path) -> Path:
    """Agreements of frequency chunks that are drawn, so that `fasa` predicts by random ones."""
    config = language.model.config
    found = Frequencies()
    found.build(layers=config.num_hidden_layers, heads=config.num_key_value_heads, chunks=config.head_dim // 2)
    found.remember(language.model)
    found.agreement.copy_(torch.rand(found.agreement.shape, generator=torch.Generator().manual_seed(0)))
    found.save(folder)
    return folder


def calibrated(language: LanguageModel, folder: Path) -> Path:
    """Agreements that were found on samples of another document."""
    name, samples = CALIBRATED_ON
    long = PREFIX + FED
    text = ids(language, name)[: samples * long]
    Frequencies.calibrate(language.model, text.split(long)).save(folder)
    return folder


def claims(record: Record) -> list[dict[str, Any]]:
    """The vote keeps the prediction, a quarter of the channels votes nearly so, and older choices are worse ones."""
    kl = {arm: torch.tensor([r["kl"] for r in rows]) for arm, rows in by(record.rows, "arm")}

    def times(more: str, less: str) -> tuple[float, dict[str, Any]]:
        ends = intervals.of_ratio(kl[more], kl[less])
        return (kl[more].mean() / kl[less].mean()).item(), {"interval": [round(end, 2) for end in ends]}

    beside, ends = times(QUARTER, EXACT)
    chance, far = times(CHANCE, QUARTER)
    strides = [f"recycled, one step in {n}" for n in STRIDES]
    rising = [kl[EXACT], *(kl[arm] for arm in strides), kl[WINDOW]]
    steps = [(after.mean() - before.mean()).item() for before, after in pairwise(rising)]
    return [
        claim("exact vote: KL from dense on prose, in nats", kl[EXACT].mean().item(), at_most=0.05)
        | {"interval": [round(end, 3) for end in intervals.of_mean(kl[EXACT])]},
        claim("fasa: its KL beside that of the exact vote, times", beside, at_most=1.5) | ends,
        claim("fasa: times closer to dense than random channels", chance, at_least=3.0) | far,
        claim("recycled: least growth of KL from the exact vote through all strides to the window", min(steps),
              at_least=0.0),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        kl = torch.tensor([r["kl"] for r in rows])
        read = fixed(mean(r["rows_read"] for r in rows), 1)
        cells.append((arm, read, f"{kl.mean():.4f} ({interval(intervals.of_mean(kl), 4)})"))
    return [Table("64 rows of 768 to 832", ("arm", "rows read", "KL (95 %)"), cells)]


if __name__ == "__main__":
    main()
