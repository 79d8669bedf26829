"""Seconds until the first token of the answer, compression included, beside the model alone.

Loading is left out for all: the model and the encoder of a compressor are in memory before a clock starts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.record import Record, Row, claim, take_turns
from benchmarks.tables import Result, Table, by, fixed, fold, show
from tokenry import Document, Pipeline, data
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import Sampling
from tokenry.pipeline.receipt import Receipt

TITLE = "Time to the first token"
SUBJECTS = ("compress/dense_relevance", "compress/lexical_relevance")
ABOUT = (
    "SmolLM2-135M answers a question over a whole document, compressed to a quarter. Compression counts; loading "
    "does not, neither of the model nor of the encoder."
)

BUDGET, NEEDED = 0.25, 2.5
METHODS = ("dense_relevance", "lexical_relevance", "self_information", "compress/random")
CLAIMED = METHODS[:2]
DEMO = "sotu_1975"
DOCUMENTS = (DEMO, "sotu_1930", "moby_dick", "in_the_year_2889")
REPEATS = 3


def main() -> None:
    """Measure every document; one document alone is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--document", choices=DOCUMENTS, help="only this one")
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    language = load("smollm2")
    settings = {"model": "smollm2", "budget": BUDGET, "methods": METHODS, "documents": DOCUMENTS, "repeats": REPEATS}
    record = Record(
        "compress/first_token", dtype=str(language.dtype).removeprefix("torch."),
        settings=settings, save=given.document is None,
    )  # fmt: skip
    pipelines = {"dense": Pipeline()} | {name: Pipeline([f"{name}:budget={BUDGET}"]) for name in METHODS}
    warm(language, pipelines)
    for name in DOCUMENTS if given.document is None else (given.document,):
        if record.find(document=name) is None:
            record.add(*measure(language, name, pipelines))
    show(record.finish(claims(record)), tables)


def warm(language: LanguageModel, pipelines: dict[str, Pipeline]) -> None:
    """Load what compressors need, on a text of a few sentences."""
    text = Document(" ".join(data.read(DEMO).split()[:120]))
    for pipeline in pipelines.values():
        pipeline.run(text, language, "What is asked?", Sampling(max_new_tokens=1))


def measure(language: LanguageModel, name: str, pipelines: dict[str, Pipeline]) -> list[Row]:
    """All arms on one document with its first question."""
    question = next(q for q in data.questions() if q.document == name)
    document = Document(data.read(name), name)

    def turn(pipeline: Pipeline) -> Callable[[], Receipt]:
        return lambda: pipeline.run(document, language, question.ask, Sampling(max_new_tokens=1))[0].receipt

    receipts = take_turns({arm: turn(pipeline) for arm, pipeline in pipelines.items()}, REPEATS)
    seconds = {arm: median(r.seconds.first_token for r in turns) for arm, turns in receipts.items()}
    return [
        {
            "document": name, "arm": arm, "prompt_tokens": turns[0].prompt_tokens,
            "compress_s": round(median(sum(s.seconds for s in r.steps) for r in turns), 3),
            "prefill_s": round(median(r.seconds.prefill for r in turns), 3),
            "first_token_s": round(seconds[arm], 3),
            "all_s": [round(r.seconds.first_token, 3) for r in turns],
            "times_faster": round(seconds["dense"] / seconds[arm], 2),
        }
        for arm, turns in receipts.items()
    ]  # fmt: skip


def claims(record: Record) -> list[dict[str, Any]]:
    """Compression pays for itself on the demo document."""
    found = []
    for arm in CLAIMED:
        row = record.find(document=DEMO, arm=arm)
        if row:
            text = f"{arm} at {BUDGET} on {DEMO}: times faster to the first token"
            found.append(claim(text, row["times_faster"], at_least=NEEDED))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("document", "arm", "prompt tokens", "compression s", "prompt s", "first token s", "times faster")
    each = [
        (
            r["document"], r["arm"], f"{r['prompt_tokens']:,}", fixed(r["compress_s"], 2), fixed(r["prefill_s"], 2),
            fixed(r["first_token_s"], 2), fold(r["times_faster"]),
        )
        for r in document["rows"]
    ]  # fmt: skip
    whole = [
        (arm, fold(median(r["times_faster"] for r in rows)), fold(min(r["times_faster"] for r in rows)))
        for arm, rows in by(document["rows"], "arm")
        if arm != "dense"
    ]
    return [
        Table("time to the first token, times faster than dense", ("arm", "median document", "worst document"), whole),
        Table(f"median of {document['settings']['repeats']} turns", heads, each, words=2),
    ]


if __name__ == "__main__":
    main()
