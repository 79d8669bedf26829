"""`tokenry hypernetwork`: teach a network to give a model rows for any vocabulary."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import bars, working
from tokenry.core.errors import InvalidValue

HYPERNETWORK_SCHEMA = "tokenry.hypernetwork/0"


def hypernetwork(
    corpus: Annotated[list[Path], typer.Argument(metavar="CORPUS...", help="Text files, and folders of them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder; --use zett:hypernetwork=DIR reads it.")],
    model: o.Model = "smollm2",
    first: Annotated[int, typer.Option(min=0, help="Steps in which it learns the rows that there are.")] = 0,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps in which the model reads text over drawn vocabularies.")
    ] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Texts in such a step.")] = 8,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of each text.")] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate of these steps.")] = 5e-4,
    pieces: Annotated[int, typer.Option(min=300, help="Pieces of a drawn vocabulary.")] = 32768,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Teach a hypernetwork from text; an interrupted training goes on when the command is given again."""
    o.check(model=model, dtype=dtype)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidValue(f"out: must be a new or an empty folder; got {out}; choose another.")
    files = o.corpus_files(corpus)
    texts = [document.text for document in o.read_documents([str(f) for f in files])]

    from tokenry.embed.hypernetwork.sampling import Sampling
    from tokenry.embed.hypernetwork.training import Course, train
    from tokenry.models.files.load import load

    course = Course(first=first, steps=steps, rows=batch, tokens=tokens, rate=rate, every=every, seed=seed)
    start = time.perf_counter()
    with working():
        language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    with bars() as tell:
        network, log = train(
            language, texts, course, sampling=Sampling(pieces=pieces), folder=out.with_name(f".{out.name}.training"),
            tell=tell,
        )  # fmt: skip
    network.save(out)
    found = {
        "schema": HYPERNETWORK_SCHEMA, "model": model, "out": str(out), "files": len(files), "log": log,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    said = f"{log[0]['bits_per_byte']} bits per byte before, {log[-1]['bits_per_byte']} after" if log else "no steps"
    sys.stdout.write(f"{said}\nwritten to {out} in {found['seconds']} s; --use zett:hypernetwork={out} reads it\n")
