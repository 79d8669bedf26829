"""Quantizers learned from frames of speech: distortion on files that none of them has seen, at equal bits.

Frames are 64 bands of the logarithm of a mel spectrum, 62.5 a second, of the prompts of a telephone system.
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import pairwise
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.arms import others
from benchmarks.record import Record, Row, claim
from benchmarks.speech import PACKAGE, RATE, prompts, spoken
from benchmarks.tables import Result, Table, fixed, percent, show, span
from tokenry.core.registry import parse
from tokenry.quantize.usage.distortion import Distortion
from tokenry.quantize.usage.monitor import CodebookMonitor

TITLE = "Codes for speech"
SUBJECTS = ("quantize/vq", "quantize/rvq", "quantize/pq", "quantize/qinco", "quantize/multi_scale")
ABOUT = (
    "Frames of 64 mel bands, 62.5 a second, of telephone prompts by one speaker. Quantizers are fitted on 30,000 "
    "frames; what is shown is of whole files that no frame came from. SQNR is 10 log10 of the variance of these "
    "frames over their mean squared error. `stays` is the share of codes that come again when the values are "
    "quantized once more. Seconds are of processor time, on one thread. Of several codebooks the least and the "
    "most are shown. `multi_scale 4, 2, 1` has one code for four frames, one for two and one for each; it and the "
    "`rvq` beside it were fitted on runs of four frames, and `any order` shows it held-out frames at random. "
    "`qinco` has networks of one block of 64 before its levels."
)

WINDOW, HOP = 256, 128
BANDS, LOWEST, HIGHEST, FLOOR = 64, 60.0, 4000.0, 1e-6
EVERY = 10
"""Every so many files, one is held out."""
FRAMES, SEED = 30_000, 0
RUN = 4
"""Frames that follow each other, where neighbours matter."""

PQ, OPQ, RVQ, BEAM = "pq, 8 codebooks", "pq, 8 codebooks, opq", "rvq, 8 codebooks", "rvq, 8 codebooks, beam of 8"
NETWORKS = "qinco, 8 codebooks"
ARMS = {
    "vq": "vq:codes=256",
    "rvq, 2 codebooks": "rvq:of=vq[codes=256],levels=2",
    "rvq, 4 codebooks": "rvq:of=vq[codes=256],levels=4",
    RVQ: "rvq:of=vq[codes=256],levels=8",
    BEAM: "rvq:of=vq[codes=256],levels=8,beam=8",
    "pq, 4 codebooks": "pq:of=vq[codes=256],blocks=4",
    PQ: "pq:of=vq[codes=256],blocks=8",
    OPQ: "pq:of=vq[codes=256],blocks=8,rotation=opq",
    NETWORKS: "qinco:levels=8,hidden=64,depth=1,rate=0.003,batch=256",
}
CHANCE = "rvq, 8 codebooks, random codes"
SCALES, LEVELS, ANY_ORDER = "multi_scale 4, 2, 1", "rvq, 2 codebooks of 128", "multi_scale 4, 2, 1, any order"
NEIGHBOURS = {
    SCALES: "multi_scale:of=vq[codes=256],strides=4+2+1",
    "multi_scale 2, 2, 1": "multi_scale:of=vq[codes=256],strides=2+2+1",
    LEVELS: "rvq:of=vq[codes=128],levels=2",
    ANY_ORDER: "multi_scale:of=vq[codes=256],strides=4+2+1",
}
"""Fitted on frames that follow each other; the last one is shown frames in any order."""
KNOWN = {
    "vq": 10.24, "rvq, 2 codebooks": 12.36, "rvq, 4 codebooks": 14.75, RVQ: 17.84, BEAM: 18.81,
    "pq, 4 codebooks": 13.71, PQ: 15.93, OPQ: 16.56,
}  # fmt: skip
"""SQNR in dB of faiss 1.15 on the same frames."""
NEAR = 0.3

OTHERS = others("quantize", ARMS | NEIGHBOURS)
"""All other methods of the room, at whatever bits their defaults have."""


def main() -> None:
    """Measure all, or some, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", metavar="ARM", help="these arms")
    given = options.parse_args()
    torch.set_num_threads(1)
    arms = [arm for arm in (*ARMS, CHANCE, *NEIGHBOURS, *OTHERS) if given.only is None or arm in given.only]
    settings = {
        "package": PACKAGE, "rate": RATE, "window": WINDOW, "hop": HOP, "bands": [BANDS, LOWEST, HIGHEST],
        "floor": FLOOR, "held_out": f"every {EVERY}th file", "frames": FRAMES, "seed": SEED, "arms": arms,
    }  # fmt: skip
    record = Record(
        "quantize/speech", dtype="float32", settings=settings,
        save=given.only is None, grows=True,
    )  # fmt: skip
    drawn, runs, held_out = speech()
    for arm in track(arms, "quantizers"):
        if record.find(arm=arm) is None:
            fitting = runs if arm in NEIGHBOURS else drawn
            record.add(chance(fitting, held_out) if arm == CHANCE else measure(arm, fitting, held_out))
    show(record.finish(claims(record) if given.only is None else []), tables)


def measure(arm: str, fitting: Tensor, held_out: Tensor) -> Row:
    """Fit one quantizer and let the monitor look at frames it has not seen."""
    spec = (ARMS | NEIGHBOURS | OTHERS)[arm]
    if arm == ANY_ORDER:
        held_out = held_out[torch.randperm(len(held_out), generator=torch.Generator().manual_seed(SEED))]
    start = time.process_time()
    quantizer = parse(spec).fit(fitting, seed=SEED)
    fitted = time.process_time()
    quantizer.quantize(held_out)
    encoded = time.process_time()
    monitor = CodebookMonitor(quantizer)
    monitor.add(held_out)
    found = monitor.report()
    return {
        "arm": arm, "spec": spec, "frames": len(held_out), "bits": found["bits_per_vector"],
        "coded_bits": round(found["entropy_coded_bits_per_vector"], 2), "mse": round(found["mse"], 4),
        "sqnr_db": round(found["sqnr_db"], 3), "usage": [round(c["usage"], 4) for c in found["codebooks"]],
        "perplexity": [round(c["perplexity"], 1) for c in found["codebooks"]], "stays": round(found["idempotence"], 4),
        "fit_s": round(fitted - start, 2), "encode_s": round(encoded - fitted, 3),
    }  # fmt: skip


def chance(fitting: Tensor, held_out: Tensor) -> Row:
    """The same tables with codes drawn at random."""
    quantizer = parse(ARMS[RVQ]).fit(fitting, seed=SEED)
    generator = torch.Generator().manual_seed(SEED)
    codes = torch.stack(
        [torch.randint(size, (len(held_out),), generator=generator) for size in quantizer.codebook_sizes], 1
    )
    distortion = Distortion()
    distortion.add(held_out, quantizer.dequantize(codes))
    monitor = CodebookMonitor(quantizer)
    monitor.add_codes(codes)
    found = monitor.report()
    return {
        "arm": CHANCE, "spec": ARMS[RVQ], "frames": len(held_out), "bits": found["bits_per_vector"],
        "coded_bits": round(found["entropy_coded_bits_per_vector"], 2), "mse": round(distortion.mse, 4),
        "sqnr_db": round(distortion.sqnr, 3), "usage": [round(c["usage"], 4) for c in found["codebooks"]],
        "perplexity": [round(c["perplexity"], 1) for c in found["codebooks"]], "stays": None, "fit_s": None,
        "encode_s": None,
    }  # fmt: skip


def claims(record: Record) -> list[dict[str, Any]]:
    """The order of the methods at 64 bits, and how near each is to what is known."""
    found = {r["arm"]: r["sqnr_db"] for r in record.rows}
    order = (CHANCE, PQ, OPQ, RVQ, BEAM)
    return [
        *(
            claim(f"{better}: dB better than {worse}", found[better] - found[worse], at_least=0.05)
            for worse, better in pairwise(order)
        ),
        *(
            claim(f"{arm}: SQNR in dB; faiss on the same frames: {known}", found[arm], at_least=round(known - NEAR, 2))
            for arm, known in KNOWN.items()
        ),
        claim(f"{NETWORKS}: dB better than {RVQ}", found[NETWORKS] - found[RVQ], at_least=0.5),
        claim(f"{SCALES}: dB better than {LEVELS}, at as many bits", found[SCALES] - found[LEVELS], at_least=0.2),
        claim(f"{ANY_ORDER}: dB below {SCALES}", found[SCALES] - found[ANY_ORDER], at_least=3.0),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    cells = [
        (
            r["arm"], fixed(r["bits"], 0), fixed(r["coded_bits"], 1), fixed(r["mse"], 3), fixed(r["sqnr_db"], 2),
            span(r["usage"], 3), span(r["perplexity"], 0), percent(r["stays"]), fixed(r["fit_s"], 1),
            fixed(r["encode_s"], 2),
        )
        for r in document["rows"]
    ]  # fmt: skip
    heads = (
        "quantizer", "bits/frame", "entropy-coded", "MSE", "SQNR, dB", "usage", "perplexity", "stays", "fit s",
        "encode s",
    )  # fmt: skip
    frames = document["rows"][0]["frames"]
    title = f"{frames:,} frames of held-out files; codebooks of 256 codes where no number is said"
    return [Table(title, heads, cells)]


def speech() -> tuple[Tensor, Tensor, Tensor]:
    """Frames to fit on, as many in short runs, and frames of whole other files; all without the mean of the first."""
    spectra = [spectrum(spoken(file).samples) for file in prompts().values()]
    known = torch.cat([frames for i, frames in enumerate(spectra) if i % EVERY])
    held_out = torch.cat(spectra[::EVERY])
    chosen = torch.randperm(len(known), generator=torch.Generator().manual_seed(SEED))[:FRAMES]
    first = torch.randperm(len(known) // RUN, generator=torch.Generator().manual_seed(SEED))[: FRAMES // RUN] * RUN
    runs = (first.unsqueeze(1) + torch.arange(RUN)).flatten()
    mean = known.mean(0)
    return known[chosen] - mean, known[runs] - mean, held_out - mean


def spectrum(samples: Tensor) -> Tensor:
    """Frames (T, 64): log(mel filters . |FFT of a Hann window|^2 + floor)."""
    power = torch.fft.rfft(samples.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)).abs().square()
    return (power @ filters() + FLOOR).log()


def filters() -> Tensor:
    """Triangles (129, 64) of height one, evenly spaced on the mel scale 2595 log10(1 + f / 700)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    corners = 700 * (10 ** (torch.linspace(low, high, BANDS + 2, dtype=torch.float64) / 2595) - 1)
    f = torch.arange(WINDOW // 2 + 1, dtype=torch.float64).unsqueeze(1) * RATE / WINDOW
    rising = (f - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - f) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).float()


if __name__ == "__main__":
    main()
