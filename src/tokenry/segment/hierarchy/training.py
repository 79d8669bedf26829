"""Train a model of chunks on files of text: `python -m tokenry.segment.hierarchy.training hnet OUT FILE...`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.core.learned import Learned
from tokenry.core.registry import entries, parse
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.data.tasks.texts import Texts
from tokenry.segment.hierarchy.model import HierarchicalLM

MODEL = "model"
USUAL = Schooling(rate=2e-3, decay=0.1, rise=50, clip=1.0, batch=16)


class Reader(Protocol):
    """What reads bytes in ids of its own and says what they cost: models of chunks, and what they are compared with."""

    def ids(self, data: bytes) -> list[int]: ...

    def loss(
        self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]: ...


Pupil = TypeVar("Pupil", bound=Learned)


def train(
    model: Pupil,
    texts: Texts,
    steps: int,
    folder: Path | None = None,
    how: Schooling | None = None,
    *,
    tell: Callable[[int], None] | None = None,
) -> tuple[Pupil, list[Entry]]:
    """Train a built model up to a number of steps, from where the folder's last checkpoint ends.

    Returns:
        The model, and the log: at every entry the step, and the bits that a byte costs which no step learns from; of
        models of chunks also how long these are.
    """
    how = how or USUAL

    def loss(model: Pupil, generator: torch.Generator) -> Tensor:
        rows = texts.sample(how.batch, generator)
        nats, price = cast(Reader, model).loss(*batch(cast(Reader, model), rows))
        return nats / sum(map(len, rows)) + price

    def measure(model: Pupil) -> Entry:
        rows = [row for of in texts.held_out(4).values() for row in of]
        found: Entry = {"bits_per_byte": round(bits_per_byte(cast(Reader, model), rows), 4)}
        if isinstance(model, HierarchicalLM):
            chunks = sum(len(model.ends(row)) for row in rows)
            found["bytes_per_chunk"] = round(sum(map(len, rows)) / max(1, chunks), 2)
        return found

    return school(
        model, steps, loss, how, measure=measure, folder=folder, called=MODEL,
        settings={"files": [Path(f).name for f in texts.files], "length": texts.length}, tell=tell,
    )  # fmt: skip


def batch(model: Reader, rows: Sequence[bytes]) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Ids of rows, and which of them are real."""
    ids = [torch.tensor(model.ids(row)) for row in rows]
    real = [torch.ones_like(row, dtype=torch.bool) for row in ids]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.nn.utils.rnn.pad_sequence(
        real, batch_first=True
    )


@torch.no_grad()
def bits_per_byte(model: Reader, rows: Sequence[bytes], at_once: int = 16) -> float:
    """What the bytes of rows cost, each row read by itself."""
    nats = 0.0
    for i in range(0, len(rows), at_once):
        nats += float(model.loss(*batch(model, rows[i : i + at_once]))[0])
    return nats / math.log(2) / max(1, sum(map(len, rows)))


def main() -> None:
    """Train, and print the last entry of the log as JSON."""
    options = argparse.ArgumentParser(prog="python -m tokenry.segment.hierarchy.training", description=__doc__)
    options.add_argument("model", help="hnet, magnet, hierarchical_ar or word_pool, as in hnet:layers=1+4+1")
    options.add_argument("out", type=Path, help="folder of the model and its checkpoint")
    options.add_argument("files", nargs="*", help="UTF-8 texts; the sample documents where there are none")
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--length", type=int, default=256, help="bytes of a row")
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--rate", type=float, default=USUAL.rate)
    options.add_argument("--batch", type=int, default=USUAL.batch)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    try:
        how = Schooling(rate=given.rate, decay=USUAL.decay, rise=50, clip=1.0, batch=given.batch, seed=given.seed)
        model = made(given.model).build(width=given.width, generator=torch.Generator().manual_seed(given.seed))
        texts = Texts(files=tuple(given.files), length=given.length)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            shown = bar.add_task("train", total=given.steps)
            _, log = train(
                model, texts, given.steps, given.out, how, tell=lambda step: bar.update(shown, completed=step)
            )
    except (TokenryError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")
    sys.stdout.write(json.dumps(log[-1]) + "\n")


def made(form: str) -> HierarchicalLM:
    """A model of chunks from its one-line form.

    Raises:
        InvalidValue: another method, or a model that was trained before.
    """
    model = parse(form)
    if not isinstance(model, HierarchicalLM) or model.built:
        known = ", ".join(e.name for e in entries() if e.room == "segment" and e.card.training)
        raise InvalidValue(f"train: model must be one of {known}, not trained before; got {form}.")
    return model


if __name__ == "__main__":
    main()
