"""Decoding: one layer with caches of several lengths, then a whole model, beside transformers' own cache."""

from __future__ import annotations

import argparse

import decode_layer
import decode_model
import torch
from record import Record
from tables import show


def main() -> None:
    """Measure one part or both; anything shorter than the whole run is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--part", choices=("layer", "model", "both"), default="both")
    options.add_argument("--quick", action="store_true", help="shortest lengths and few steps, not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch; one is disturbed least")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.part in ("layer", "both"):
        layer(given.quick, given.threads)
    if given.part in ("model", "both"):
        model(given.quick, given.threads)


def layer(quick: bool, threads: int) -> None:
    """One layer."""
    lengths, repeats = (decode_layer.LENGTHS[:1], 5) if quick else (decode_layer.LENGTHS, decode_layer.REPEATS)
    settings = {"lengths": lengths, "repeats": repeats, "methods": decode_layer.METHODS}
    command = _command("layer", threads)
    record = Record("decode_layer", command, dtype="float32 and bfloat16", settings=settings, save=not quick)
    show(record.finish(decode_layer.run(record, lengths, repeats)))


def model(quick: bool, threads: int) -> None:
    """A whole model."""
    lengths, steps = (decode_model.LENGTHS[:1], 8) if quick else (decode_model.LENGTHS, decode_model.STEPS)
    settings = {
        "model": decode_model.MODEL, "documents": decode_model.DOCUMENTS, "lengths": lengths, "steps": steps,
        "methods": decode_model.METHODS,
    }  # fmt: skip
    command = _command("model", threads)
    record = Record("decode_model", command, dtype="float32 and bfloat16", settings=settings, save=not quick)
    show(record.finish(decode_model.run(record, lengths, steps)))


def _command(part: str, threads: int) -> str:
    return f"python benchmarks/decode.py --part {part}" + (f" --threads {threads}" if threads != 1 else "")


if __name__ == "__main__":
    main()
