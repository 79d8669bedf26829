"""`tokenry train`: learn a vocabulary from files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import bars, warn
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import entries, load, named

TRAIN_SCHEMA = "tokenry.train/0"


def train(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="A tokenizer of `tokenry list`, such as bpe or kl3m:longest=3.",
            autocompletion=complete.methods,
        ),
    ],
    corpus: Annotated[list[Path], typer.Argument(metavar="CORPUS...", help="Text files, and folders of them.")],
    vocab_size: Annotated[int, typer.Option(help="Ids there shall be.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    seed: o.Seed = 0,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Count words on Ray: local, auto, or an address."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that count on Ray.")] = 2,
    as_json: o.Json = False,
) -> None:
    """Learn a vocabulary from text and write it to a folder."""
    names = {n: e.full_name for e in entries() if e.room == "segment" for n in (e.name, e.full_name)}
    entry, fields = named(kind)
    if entry is None or entry.full_name not in names:
        raise InvalidValue(f"train: must be one of {', '.join(n for n in names if '/' not in n)}; got {kind!r}.")

    files = o.corpus_files(corpus)

    from tokenry.core.learned import Learned
    from tokenry.segment.base import Tokenizer

    method = load(entry.full_name)
    if issubclass(method, Learned):
        raise InvalidValue(
            f"train: must be a tokenizer with a vocabulary; {kind} is a model; use python -m "
            f"tokenry.segment.hierarchy.training {kind} {out} FILES..."
        )
    if not issubclass(method, Tokenizer):
        raise InvalidValue(f"train: must be a tokenizer; {kind} changes tokens that there are.")
    count = None
    if ray is not None:
        from tokenry.pipeline.counting import counting_on_ray

        count = counting_on_ray(ray, workers)
    start = time.perf_counter()
    with bars() as progress:
        tokenizer = method.train(
            files, vocab_size=vocab_size, out=out, seed=seed, progress=progress, count=count, **fields
        )
    found = {
        "schema": TRAIN_SCHEMA, "kind": kind, "vocab_size": tokenizer.vocab_size, "files": len(files), "out": str(out),
        "lossless": {"level": tokenizer.lossless.level, "why": tokenizer.lossless.why},
        "seconds": round(time.perf_counter() - start, 3),
    }  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    if tokenizer.vocab_size < vocab_size:
        warn(f"the corpus gives no more than {tokenizer.vocab_size} ids")
    sys.stdout.write(f"{out}: {tokenizer.vocab_size} ids from {len(files)} files in {found['seconds']} s\n")
