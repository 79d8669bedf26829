"""Train ZeTT's hypernetwork for SmolLM2; an interrupted training goes on when the command is given again.

The texts are those that the fresh vocabulary of `benchmarks.embed.token_adapt` is trained on, which hold no passage that
is measured there: the first half of every sample document, so often that half of what is read is of them, and what
Python's own library says of itself. `benchmarks.embed.token_adapt` measures what comes out.
"""

from __future__ import annotations

import argparse
from pydoc_data.topics import topics

import torch

from benchmarks.embed.token_adapt import docstrings
from benchmarks.record import BUILD
from tokenry.data import documents, read
from tokenry.embed.hypernetwork.training import Course, train
from tokenry.models.files.load import load

FOLDER = BUILD / "zett" / "smollm2"
"""The trained hypernetwork; its checkpoints are beside it."""

OFTEN = 40
"""How often the halves of the sample documents are among the texts."""

COURSE = Course(steps=600, rows=4, rate=7e-4, every=25)


def main() -> None:
    """Both stages, or as many steps as asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    language = load("smollm2", dtype="bfloat16", device="cpu")
    halves = [text[: len(text) // 2] for text in map(read, documents())]
    texts = [*halves * OFTEN, *topics.values(), "\n\n".join(docstrings())]
    checkpoints = FOLDER.with_name(f".{FOLDER.name}.training")
    network, log = train(language, texts, COURSE, folder=checkpoints, tell=said)
    network.save(FOLDER)
    for entry in log:
        print(entry)


def said(stage: str, step: int, steps: int) -> None:
    """A line now and then."""
    if step % 10 == 0:
        print(f"{stage}: {step} of {steps}", flush=True)


if __name__ == "__main__":
    main()
