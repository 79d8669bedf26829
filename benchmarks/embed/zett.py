"""Train ZeTT's hypernetwork for SmolLM2; an interrupted training goes on when the command is given again.

The texts are those that the fresh vocabulary of `benchmarks.embed.token_adapt` is trained on, which hold no passage
that is measured there: the first half of every sample document, so often that half of what is read is of them, and
what Python's own library says of itself. `benchmarks.embed.token_adapt` measures what comes out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from pydoc_data.topics import topics

import torch

from benchmarks.embed.token_adapt import docstrings
from benchmarks.record import BUILD
from tokenry.data import documents, read
from tokenry.embed.hypernetwork.network import Hypernetwork
from tokenry.embed.hypernetwork.training import Course, train
from tokenry.models.files.load import load

FOLDER = BUILD / "zett"
"""The network after each course; checkpoints of a course that goes on are beside it."""

OFTEN = 40
"""How often the halves of the sample documents are among the texts."""

COURSES = (Course(steps=600, rows=4, rate=7e-4, every=25),)
"""One after the other. A second one of 500 steps learned the halves by heart: it did not help with what is measured."""


def main() -> None:
    """All courses that are not done yet."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    network = None
    for number, course in enumerate(COURSES, 1):
        folder = done(number)
        if not folder.exists():
            language = load("smollm2", dtype="bfloat16", device="cpu")
            checkpoints = folder.with_name(f".{folder.name}.training")
            found, log = train(language, texts(), course, network=network, folder=checkpoints, tell=said)
            found.save(folder)
            print(*log, sep="\n", flush=True)
        network = Hypernetwork.load(folder)


def done(number: int) -> Path:
    """The folder of the network after a course."""
    return FOLDER / f"smollm2-{number}"


def texts() -> list[str]:
    """What the model reads, and no passage that is measured."""
    halves = [text[: len(text) // 2] for text in map(read, documents())]
    return [*halves * OFTEN, *topics.values(), "\n\n".join(docstrings())]


def said(stage: str, step: int, steps: int) -> None:
    """A line now and then."""
    if step % 10 == 0:
        print(f"{stage}: {step} of {steps}", flush=True)


if __name__ == "__main__":
    main()
