"""Train the head that ships with llmlingua2, and say how well heads do on texts that they have not seen.

The teacher is self-information by SmolLM2: in every stretch of 400 words the half with the most of it stays. First
each sample document is judged by a head trained on the four others; then the head that ships is trained on three of
them and judged on the two it has not seen. The same command gives the same head, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, show
from tokenry import data
from tokenry.compress.base import Compressor
from tokenry.compress.heads.keep_drop import holder
from tokenry.compress.heads.training import better_half, train
from tokenry.compress.llmlingua2 import SHIPPED, LLMLingua2
from tokenry.compress.parts.kind import Word
from tokenry.compress.random import RandomUnits
from tokenry.compress.scores.ranking import Ranking
from tokenry.compress.self_information import SelfInformation
from tokenry.compress.units.document import documents
from tokenry.compress.units.sentences import words
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import plain

TITLE = "A head that tells which words carry information"
SUBJECTS = ("compress/llmlingua2",)
ABOUT = (
    "The head that ships with `llmlingua2` learns from self-information by SmolLM2: in every stretch of 400 words the "
    "half with the most of it stays. It is made of three sample documents and judged on the two others; `head of the "
    "four others` is one that has not seen the document. AUC is how often a word that the teacher keeps has a higher "
    "score than one that it drops, `majority` the accuracy of one answer for all words, and kept the share of the "
    "information that stays with half of the tokens."
)

LEARN = ("constitution", "in_the_year_2889", "sotu_1930")
"""Documents of which the head that ships is made; the two others test it."""


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
    record = Record(
        "compress/train_llmlingua2", save=given.out == SHIPPED["minilm"],
        dtype=str(language.dtype).removeprefix("torch."), settings={"learn": LEARN, "seed": given.seed},
    )  # fmt: skip
    samples = {name: taught(name, language, record) for name in track(list(data.documents()), "teacher")}
    record.rows = [row for row in record.rows if "nats" not in row]
    with tempfile.TemporaryDirectory() as folder:
        for name in track(samples, "each by a head of the others"):
            fit([s for n, s in samples.items() if n != name], Path(folder) / name, given.seed)
            record.add(judged("head of the four others", name, samples, LLMLingua2(head=str(Path(folder) / name))))
    fit([samples[name] for name in LEARN], given.out, given.seed)
    for name in samples.keys() - LEARN:
        for arm, method in (
            ("head that ships", LLMLingua2(head=str(given.out))),
            ("random words", RandomUnits(units="word")),
            ("longest words", None),
        ):
            record.add(judged(arm, name, samples, method))
    show(record.finish(claims(record)), tables)


def taught(name: str, language: LanguageModel, record: Record) -> Sample:
    """A document with the self-information of its words, which the record remembers."""
    text = data.read(name)
    batch = plain(language.tokenizer, [Document(text, name)])
    row = record.find(arm="teacher", document=name)
    if row is None:
        start = time.perf_counter()
        scores = SelfInformation(units="word").rank(batch, model=language).scores[0]
        seconds = time.perf_counter() - start
        record.add({"arm": "teacher", "document": name, "seconds": seconds, "nats": scores.tolist()})
        row = record.rows[-1]
    found = tuple(documents(batch, Word(), "train_llmlingua2"))
    return Sample(text, batch, Ranking(found, (torch.tensor(row["nats"]),)), row["seconds"])


def fit(samples: Sequence[Sample], folder: Path, seed: int) -> None:
    """Train a head on some documents and save it."""
    train([s.text for s in samples], [s.labels for s in samples], seed=seed, progress=False).save(folder)


def judged(arm: str, name: str, samples: Mapping[str, Sample], method: Compressor | None) -> Row:
    """One method on one document, beside its teacher."""
    sample = samples[name]
    keep = better_half(sample.taught.scores[0])
    start = time.perf_counter()
    ranking = longest(sample) if method is None else method.rank(sample.batch)
    seconds = time.perf_counter() - start
    share = float(keep.double().mean())
    n = sample.batch.shape[1]
    return {
        "arm": arm,
        "document": name,
        "auc": auc(ranking.scores[0], keep),
        "accuracy": float((better_half(ranking.scores[0]) == keep).double().mean()),
        "majority": max(share, 1 - share),
        "kept": kept(sample, ranking),
        "teacher_kept": kept(sample, sample.taught),
        "tokens_per_second": n / seconds,
        "teacher_tokens_per_second": n / sample.seconds,
    }


def longest(sample: Sample) -> Ranking:
    """The number of letters of each word: what anyone would try first."""
    found = sample.taught.documents
    return Ranking(found, (torch.tensor([float(len(t)) for t in found[0].texts]),))


def auc(scores: Tensor, keep: Tensor) -> float:
    """How often a word that stays has a higher score than one that goes; equal scores count half."""
    _, group, size = scores.unique(return_inverse=True, return_counts=True)
    rank = (size.cumsum(0) - (size - 1) / 2)[group].double()
    stay, go = int(keep.sum()), int((~keep).sum())
    return float((rank[keep].sum() - stay * (stay + 1) / 2) / (stay * go))


def kept(sample: Sample, ranking: Ranking) -> float:
    """Part of the self-information of all words that stays with half of the tokens."""
    nats = sample.taught.columns(sample.batch)
    stays = LLMLingua2(budget=0.5).fit(sample.batch, ranking).survival() > 0
    return float(nats[stays].sum() / nats.sum())


def claims(record: Record) -> list[dict[str, Any]]:
    """The head knows texts that it has not seen, and is much faster than its teacher."""
    ours, chance = (held_out(record, arm) for arm in ("head that ships", "random words"))
    return [
        claim("AUC on the two documents that the head has not seen, the lower one", min(r["auc"] for r in ours),
              at_least=0.75),
        claim("information kept at half the tokens, beside that kept by random words; the lower ratio",
              min(a["kept"] / b["kept"] for a, b in zip(ours, chance, strict=True)), at_least=1.2),
        claim("times as many tokens a second as the teacher, the lower one",
              min(r["tokens_per_second"] / r["teacher_tokens_per_second"] for r in ours), at_least=5),
    ]  # fmt: skip


def held_out(record: Record, arm: str) -> list[Row]:
    """The rows of one arm on the documents that test the head that ships, in the order of their names."""
    return sorted((r for r in record.rows if r["arm"] == arm), key=lambda r: str(r["document"]))


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("arm", "document", "AUC", "accuracy", "majority", "kept at 50 %", "teacher's", "tokens/s", "teacher's")
    cells = [
        (
            r["arm"], r["document"],
            *(fixed(r[key], 3) for key in ("auc", "accuracy", "majority", "kept", "teacher_kept")),
            *(fixed(r[key], 0) for key in ("tokens_per_second", "teacher_tokens_per_second")),
        )
        for r in sorted(document["rows"], key=lambda r: (r["arm"], r["document"]))
    ]  # fmt: skip
    return [Table("Heads and controls on documents that they were not made of", heads, cells, words=2)]


if __name__ == "__main__":
    main()
