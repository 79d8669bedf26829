"""`tokenry train`: learn a vocabulary from files."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import entries, load

if TYPE_CHECKING:
    from tokenry.segment.training.progress import Progress

TRAIN_SCHEMA = "tokenry.train/0"


def train(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="A tokenizer of `tokenry list`, such as bpe.")],
    corpus: Annotated[list[Path], typer.Argument(metavar="CORPUS...", help="Text files, and folders of them.")],
    vocab_size: Annotated[int, typer.Option(help="Ids there shall be.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    seed: o.Seed = 0,
    as_json: o.Json = False,
) -> None:
    """Learn a vocabulary from text and write it to a folder."""
    names = {n: e.full_name for e in entries() if e.room == "segment" for n in (e.name, e.full_name)}
    if kind not in names:
        raise InvalidValue(f"train: must be one of {', '.join(n for n in names if '/' not in n)}; got {kind!r}.")

    from tokenry.apps.cli.show import warn
    from tokenry.segment.base import Tokenizer

    method = load(names[kind])
    if not issubclass(method, Tokenizer):
        raise InvalidValue(f"train: must be a tokenizer; {kind} changes tokens that there are.")
    start = time.perf_counter()
    files = [file for path in corpus for file in _files(path)]
    if not files:
        raise InvalidValue(f"corpus: must hold files; found none in {', '.join(map(str, corpus))}.")
    with _bar() as progress:
        tokenizer = method.train(files, vocab_size=vocab_size, out=out, seed=seed, progress=progress)
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


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on standard error that follows the phases of training."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda phase, done, total: bar.update(task, description=phase, completed=done, total=total or None)
