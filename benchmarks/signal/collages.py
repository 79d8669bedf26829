"""Collages: how often a small model names what is at a place, and what is left of it with fewer tokens of the picture.

Random dropping is the control that any choice of tokens must beat. Two other arms say what could be chosen at best and
at worst: tokens of the photograph that is asked for, and anything but these. Tokens are really gone; those that stay
keep their positions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from math import sqrt

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, percent, show
from tokenry.core.seeds import mixed
from tokenry.core.sequence import Modality
from tokenry.core.tokens import TokenBatch
from tokenry.data.collages import PLACES, QUARTER, Collage, collage, question
from tokenry.data.image import read_image
from tokenry.data.photographs import photographs
from tokenry.models.signals.vision_language import VisionLanguageModel, load_vision_language
from tokenry.recipes.collages import HELD_OUT

TITLE = "A model that sees"
SUBJECTS = ("a model that sees",)
ABOUT = (
    "DINOv2 and SmolLM2 joined by `tokenry models get collages`, asked what is at each of four places of a collage "
    "of photographs. An answer is right when it is the word, letter by letter. The model has seen the 19 "
    "photographs in training, each in other views and in other collages. `random` drops tokens without a look at "
    "them; `there` keeps those of the photograph that is asked for, as far as they go, and `elsewhere` keeps none "
    "of them. Dropped tokens are gone, the others keep their positions. Times are of the language model, from the "
    "tokens to the whole answer, in batches of eight."
)

COLLAGES, ROWS = 60, 8
TOKENS = (2 * QUARTER) ** 2
KEPT = (72, 36, 18, 9)
DENSE, RANDOM, THERE, ELSEWHERE, BLIND = "dense", "random", "there", "elsewhere", "no picture"


def main() -> None:
    """Measure everything; it takes some minutes and goes on where it was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    model = load_vision_language("collages")
    shown = {name: read_image(file) for name, file in photographs().items()}
    settings = {"collages": COLLAGES, "tokens": TOKENS, "kept": KEPT, "photographs": list(shown)}
    record = Record(
        "signal/collages", dtype=str(model.dtype).removeprefix("torch."),
        settings=settings, save=True,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(mixed(HELD_OUT))
    drawn = [collage(shown, generator) for _ in range(COLLAGES)]
    arms = [(DENSE, TOKENS), (BLIND, 0), *((arm, kept) for kept in KEPT for arm in (RANDOM, THERE, ELSEWHERE))]
    for arm, kept in arms:
        if record.find(arm=arm, kept=kept) is None:
            record.add(ask(model, drawn, arm, kept))
    show(record.finish(claims(record, len(shown))), tables)


def ask(model: VisionLanguageModel, drawn: list[Collage], arm: str, kept: int) -> Row:
    """Every collage, asked for every place."""
    generator = torch.Generator().manual_seed(0)
    asked = [(one, place) for one in drawn for place in range(len(PLACES))]
    right = elsewhere = 0
    seconds = 0.0
    for start in track(range(0, len(asked), ROWS), f"{arm} {kept}"):
        some = asked[start : start + ROWS]
        batch = model.read([one.image for one, _ in some], [question(place) for _, place in some])
        batch = CHOICES[arm](batch, some, kept, generator)
        began = time.perf_counter()
        said = model.say(batch, most=3)
        seconds += time.perf_counter() - began
        for answer, (one, place) in zip(said, some, strict=True):
            right += answer == one.names[place]
            elsewhere += answer != one.names[place] and answer in one.names
    share = right / len(asked)
    return {
        "arm": arm, "kept": kept, "share": kept / TOKENS, "accuracy": share, "questions": len(asked),
        "error": 1.96 * sqrt(share * (1 - share) / len(asked)), "another_place": elsewhere / len(asked),
        "seconds": seconds / len(asked),
    }  # fmt: skip


def everything(batch: TokenBatch, some: list[tuple[Collage, int]], kept: int, generator: torch.Generator) -> TokenBatch:
    """All tokens."""
    return batch


def at_random(batch: TokenBatch, some: list[tuple[Collage, int]], kept: int, generator: torch.Generator) -> TokenBatch:
    """Tokens of the picture, drawn without a look at them."""
    return _best(batch, torch.rand(len(some), TOKENS, generator=generator), kept)


def of_the_place(
    batch: TokenBatch, some: list[tuple[Collage, int]], kept: int, generator: torch.Generator
) -> TokenBatch:
    """Those of the photograph that is asked for, and others only when there are no more of them."""
    return _best(batch, torch.rand(len(some), TOKENS, generator=generator) + _there(some), kept)


def of_other_places(
    batch: TokenBatch, some: list[tuple[Collage, int]], kept: int, generator: torch.Generator
) -> TokenBatch:
    """As many, but none of the photograph that is asked for."""
    return _best(batch, torch.rand(len(some), TOKENS, generator=generator) - 2 * _there(some), kept)


CHOICES: Mapping[str, Callable[[TokenBatch, list[tuple[Collage, int]], int, torch.Generator], TokenBatch]] = {
    DENSE: everything, RANDOM: at_random, THERE: of_the_place, ELSEWHERE: of_other_places, BLIND: at_random,
}  # fmt: skip


def _there(some: list[tuple[Collage, int]]) -> Tensor:
    return torch.stack([one.covered(place) for one, place in some]).float()


def _best(batch: TokenBatch, worth: Tensor, kept: int) -> TokenBatch:
    """So many tokens of each picture, those of most worth."""
    chosen = torch.zeros_like(worth, dtype=torch.bool).scatter(1, worth.topk(kept).indices, True)
    stays = batch.mask.clone()
    stays[batch.modality == int(Modality.IMAGE)] = chosen.flatten()
    return batch.only(stays)


def claims(record: Record, words: int) -> list[Row]:
    """What was to be shown."""

    def accuracy(arm: str, kept: int) -> float:
        row = record.find(arm=arm, kept=kept)
        assert row is not None
        return float(row["accuracy"])

    dense, few = accuracy(DENSE, TOKENS), KEPT[-1]
    return [
        claim(f"share of places named rightly with all tokens (chance: {1 / words:.2f}; any of the four: 0.25)",
              dense, at_least=0.9),
        claim("the same without any token of the picture", accuracy(BLIND, 0), at_most=2 / words),
        claim(f"the same without the tokens of the photograph, {KEPT[0]} others", accuracy(ELSEWHERE, KEPT[0]),
              at_most=0.25),
        claim(f"with {few} random tokens, points lost", dense - accuracy(RANDOM, few), at_least=0.2),
        claim(f"with {few} tokens of the photograph, points above {few} random ones",
              accuracy(THERE, few) - accuracy(RANDOM, few), at_least=0.2),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows = [
        (
            r["arm"], str(r["kept"]), percent(r["share"]), percent(r["accuracy"]), f"± {100 * r['error']:.1f}",
            percent(r["another_place"]), fixed(1000 * r["seconds"], 0),
        )
        for r in document["rows"]
    ]  # fmt: skip
    asked, tokens = document["rows"][0]["questions"], document["settings"]["tokens"]
    heads = ("arm", "tokens of the picture", "share", "right", "95 %", "said of another place", "ms a question")
    return [Table(f"{asked} questions about collages of {tokens} tokens", heads, rows)]


if __name__ == "__main__":
    main()
