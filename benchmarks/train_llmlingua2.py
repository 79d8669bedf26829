"""Train the head that ships with llmlingua2, and say how well heads do on texts that they have not seen.

The teacher is self-information by SmolLM2: in every stretch of 400 words the half with the most of it stays. First
each sample document is judged by a head trained on the others; then the head that ships is trained on three of them
and judged on the two it has not seen. Everything is printed; the same command gives the same head.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tokenry import data
from tokenry.compress.base import Compressor
from tokenry.compress.keep_drop_training import better_half, holder, train, words
from tokenry.compress.llmlingua2 import SHIPPED, LLMLingua2
from tokenry.compress.random import RandomUnits
from tokenry.compress.ranking import Ranking
from tokenry.compress.self_information import SelfInformation
from tokenry.core.tokens import TokenBatch
from tokenry.models.load import LanguageModel, load
from tokenry.models.prompt import Document, plain

LEARN = ("constitution", "in_the_year_2889", "sotu_1930")
"""Documents of which the head that ships was made; the two others test it."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A document, what the teacher says of it, and how long that took."""

    text: str
    batch: TokenBatch
    taught: Ranking
    seconds: float

    @property
    def labels(self) -> list[bool]:
        """Whether each word of the text stays."""
        heads = [start for start, _ in self.taught.documents[0].words.bounds]
        unit = holder(heads, [start for start, _ in words(self.text)])
        return better_half(self.taught.scores[0])[torch.from_numpy(unit)].tolist()


def main() -> None:
    """Label, cross-validate, train, test, and save the head."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=SHIPPED["minilm"], help="folder of the head")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    language = load("smollm2")
    samples = {name: taught(name, language) for name in track(data.documents(), "teacher")}
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name in track(samples, "each by a head of the others"):
            fit(samples, [n for n in samples if n != name], Path(folder) / name, given.seed)
            rows.append((name, *judged(samples[name], LLMLingua2(head=str(Path(folder) / name)))))
    show("each document by a head trained on the four others", rows)
    fit(samples, LEARN, given.out, given.seed)
    method = LLMLingua2(head=str(given.out))
    held = [name for name in samples if name not in LEARN]
    show("the head that ships", [(name, *judged(samples[name], method)) for name in held])
    show("random words (control)", [(n, *judged(samples[n], RandomUnits(units="word"))) for n in held])
    show("the teacher itself", [(n, *judged(samples[n], None)) for n in held])


def taught(name: str, language: LanguageModel) -> Sample:
    """A document with the self-information of its words."""
    text = data.read(name)
    batch = plain(language.tokenizer, [Document(text, name)])
    start = time.perf_counter()
    ranking = SelfInformation(units="word").rank(batch, model=language)
    return Sample(text, batch, ranking, time.perf_counter() - start)


def fit(samples: Mapping[str, Sample], names: object, folder: Path, seed: int) -> None:
    """Train a head on some documents and save it."""
    used = [samples[name] for name in names]  # type: ignore[attr-defined]
    head = train([s.text for s in used], [s.labels for s in used], seed=seed, progress=False)
    head.save(folder)


def judged(sample: Sample, method: Compressor | None) -> tuple[float, ...]:
    """Area under the ROC curve, accuracy, that of the more frequent label, information kept, tokens a second."""
    keep = better_half(sample.taught.scores[0])
    start = time.perf_counter()
    ranking = sample.taught if method is None else method.rank(sample.batch)
    seconds = sample.seconds if method is None else time.perf_counter() - start
    scores = ranking.scores[0].double()
    majority = float(keep.double().mean())
    return (
        auc(scores, keep),
        float(((scores > (scores.median() if method is None else 0.5)) == keep).double().mean()),
        max(majority, 1 - majority),
        kept_information(sample, ranking),
        sample.batch.shape[1] / seconds,
    )


def auc(scores: torch.Tensor, keep: torch.Tensor) -> float:
    """How often a word that stays has a higher score than one that goes."""
    rank = scores.argsort().argsort().double() + 1
    stay, go = int(keep.sum()), int((~keep).sum())
    return float((rank[keep].sum() - stay * (stay + 1) / 2) / (stay * go))


def kept_information(sample: Sample, ranking: Ranking) -> float:
    """Part of the self-information of all words that stays with half of the tokens."""
    nats = sample.taught.columns(sample.batch)
    stays = LLMLingua2(budget=0.5).fit(sample.batch, ranking).survival() > 0
    return float(nats[stays].sum() / nats.sum())


def show(title: str, rows: list[tuple[object, ...]]) -> None:
    """Print a table, with the mean of every column below it."""
    table = Table("document", "AUC", "accuracy", "majority", "information kept at 50 %", "tokens/s", title=title)
    means = [sum(float(str(row[i])) for row in rows) / len(rows) for i in range(1, 6)]
    for name, *values in [*rows, ("mean", *means)]:
        *ratios, speed = (float(str(v)) for v in values)
        table.add_row(str(name), *(f"{v:.3f}" for v in ratios), f"{speed:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
