"""Vocabularies that are trained otherwise than by counting words: tokens saved, what coders leave, errors, and speed.

Prose is paragraphs of the documentation in Python's library and numpy, each once; licences are paragraphs of the
copyright files of Debian packages, each once, where the system has them. Every fourth paragraph is held out.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, percent, show
from tokenry.measure.statistics.controls import random_merges
from tokenry.segment.base import Tokenizer
from tokenry.segment.bpe import Bpe
from tokenry.segment.compression_bpe import CompressionBpe
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.kl3m import Kl3m
from tokenry.segment.supertokens import Supertokens
from tokenry.segment.training.pretokens import counted, words
from tokenry.segment.training.trainer import fresh, learn

TITLE = "Vocabularies trained otherwise"
SUBJECTS = ("segment/supertokens", "segment/kl3m", "segment/compression_bpe")
ABOUT = (
    "Each vocabulary is trained on three quarters of the paragraphs and measured on the others, beside plain byte "
    "pairs of the same size from the same text, and beside merges that are drawn at random. Paragraphs are each there "
    "once, but licences resemble each other, which helps whoever learns long pieces. `reach` is how many bytes of the "
    "text are cut otherwise after one letter was changed in the middle of a passage. Errors are those of reading "
    "print: rn becomes m, l becomes 1, O becomes 0, e becomes c, each in one of five places; a token is untouched when "
    "the damaged text has one with the same bytes in the same place. Trainers read the same files in a process each "
    "with one thread; rustbpe where it is installed. Seconds are of the processor, the best of three."
)

SIZES, CODED, SHORT, DOMAIN, SPEED = (4096, 8192, 16384), 1024, 8192, 16384, 32768
WIDTH, SAMPLE, READ = 8, 131_072, 1_000_000
MEGABYTES = 20
ERRORS = {"rn": "m", "l": "1", "O": "0", "e": "c"}
PLAIN, RANDOM = "bpe", "random merges"
TRAINERS = ("tokenry", "tokenizers", "rustbpe")


def main() -> None:
    """Train and measure them all."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.simplefilter("ignore")
    settings = {
        "sizes": SIZES, "coded": CODED, "short": SHORT, "domain": DOMAIN, "speed": SPEED, "width": WIDTH,
        "sample": SAMPLE, "read": READ, "megabytes": MEGABYTES, "errors": ERRORS,
    }  # fmt: skip
    record = Record("segment/trained", dtype="float64", settings=settings, save=True)
    for key, run in track(list(parts()), "parts"):
        if record.find(**key) is None:
            record.add(*({**key, **row} for row in run()))
    show(record.finish(claims(record)), tables)


def parts() -> Iterator[tuple[Row, Callable[[], list[Row]]]]:
    """Everything that is measured."""
    for size in SIZES:
        yield {"part": "words", "size": size}, partial(across_words, size)
    yield {"part": "coded"}, coded
    if licences():
        yield {"part": "domain"}, domain
        yield {"part": "errors"}, errors
    yield {"part": "speed"}, speed


def across_words(size: int) -> list[Row]:
    """Plain pairs, supertokens and random merges of one size, on prose."""
    read, held = halves(prose())
    arms: dict[str, Any] = {
        PLAIN: trained(Bpe, read, size), "supertokens": trained(Supertokens, read, size),
        "kl3m across words": trained(Kl3m, read, size, across="whitespace", add=(), nfkc=False),
    }  # fmt: skip
    if size == min(SIZES):
        arms[RANDOM] = random_merges(read, size)
    return [{"arm": name} | saved(found, held) | {"reach": reach(found, held)} for name, found in arms.items()]


def coded() -> list[Row]:
    """What gzip leaves of ids, by who chose the merges."""
    read, held = halves(prose())
    text = passages(read, READ)[0]
    rows: list[Row] = []
    for name, method, fields in (
        (PLAIN, Bpe, {}),
        (f"compression_bpe, width {WIDTH}", CompressionBpe, {"width": WIDTH, "sample": SAMPLE}),
        ("compression_bpe, width 1", CompressionBpe, {"width": 1}),
    ):
        start = time.process_time()
        made = trained(method, [text], CODED, **fields)
        rows.append({"arm": name, "seconds": time.process_time() - start} | left(partial(cut, made), held))
    drawn = learn(counted([text], words), CODED, score=Drawn())
    return [*rows, {"arm": f"any of the first {WIDTH}", "seconds": None} | left(cutting(drawn), held)]


class Drawn:
    """Chooses any of the most frequent pairs: the control."""

    width, name = WIDTH, "drawn"

    def __init__(self) -> None:
        self._draws = random.Random(0)

    def choose(self, pairs: Sequence[tuple[int, int]], made: int) -> int:
        """Any."""
        return self._draws.randrange(len(pairs))

    def merged(self, left: int, right: int, made: int) -> None:
        """Nothing to do."""


def domain() -> list[Row]:
    """Vocabularies of licences beside general ones."""
    read, held = halves(licences())
    arms = {
        "kl3m": trained(Kl3m, read, DOMAIN), PLAIN: trained(Bpe, read, DOMAIN),
        "bpe of prose": trained(Bpe, halves(prose())[0], DOMAIN), "smollm2": open_tokenizer("smollm2"),
    }  # fmt: skip
    rows = [{"arm": name} | saved(found, held) for name, found in arms.items()]
    return [row | {"ids": arms[row["arm"]].vocab_size} for row in rows]


def errors() -> list[Row]:
    """Tokens that errors of reading leave as they are."""
    read, held = halves(licences())
    arms: dict[str, Any] = {PLAIN: trained(Bpe, read, SHORT)} | {
        f"kl3m, up to {longest} characters": trained(Kl3m, read, SHORT, longest=longest, add=(), nfkc=False)
        for longest in (3, 4)
    }
    found = []
    for name, tokenizer in arms.items():
        ends = [untouched(tokenizer, text, seed) for seed, text in enumerate(passages(held, 4000)[:40])]
        whole = [sum(column) for column in zip(*ends, strict=True)]
        found.append({"arm": name, "untouched": whole[0] / whole[1], "bytes_in_them": whole[2] / whole[3]}
                     | saved(tokenizer, held))  # fmt: skip
    return found


def speed() -> list[Row]:
    """Seconds and memory of trainers."""
    found = []
    for name in TRAINERS:
        env = os.environ | {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        runs = []
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.segment.trainer_child", name, str(SPEED), str(MEGABYTES)],
                env=env, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                runs.append(json.loads(done.stdout))
        if runs:
            found.append({"arm": name} | min(runs, key=lambda run: float(run["seconds"])))
    return found


def trained(method: type[Tokenizer], texts: list[str], size: int, **fields: Any) -> Any:
    """A vocabulary, with how long it took; its folder stays until the end."""
    return method.train(texts, vocab_size=size, out=Path(_kept().name) / f"{len(list(Path(_kept().name).iterdir()))}",
                        **fields)  # fmt: skip


@lru_cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def saved(tokenizer: Any, texts: list[str]) -> Row:
    """Bytes of a token, and pieces that hold a space inside."""
    whole = passages(texts, 4000)
    tokens = sum(len(cut(tokenizer, text)) for text in whole)
    pieces = [piece for piece in tokenizer.vocabulary if piece]
    several = sum(b" " in piece.strip() for piece in pieces)
    return {"bytes_per_token": sum(len(t.encode()) for t in whole) / tokens, "several_words": several / len(pieces)}


def left(encode: Callable[[str], list[int]], texts: list[str]) -> Row:
    """Bits a byte of text that gzip leaves of ids at two bytes each."""
    whole = passages(texts, 1 << 30)[0]
    ids = np.array([i for text in passages(texts, 4000) for i in encode(text)], np.uint16)
    size = len(whole.encode())
    return {"bits_per_byte": 8 * len(zlib.compress(ids.tobytes(), 6)) / size, "bytes_per_token": size / len(ids)}


def cutting(found: Any) -> Callable[[str], list[int]]:
    """Encode with merges that have no file."""
    from tokenry.core.vocabulary import Vocabulary

    ids = {piece: i for i, piece in enumerate(found.pieces) if piece}
    merges = [(a, b, ids[found.pieces[a] + found.pieces[b]], rank) for rank, (a, b) in enumerate(found.pairs)]
    vocabulary = Vocabulary(tuple(found.pieces), merging=lambda: merges)
    letters = {b: ids[bytes([b])] for b in range(256)}
    word = lru_cache(1 << 16)(lambda w: vocabulary.merged([letters[b] for b in w.encode()]))
    assert len(fresh().pieces) == 257
    return lambda text: [i for w in words(text) for i in word(w)]


def cut(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text."""
    return list(tokenizer.ids(text) if hasattr(tokenizer, "ids") else tokenizer.encode(text))


def reach(tokenizer: Any, texts: list[str]) -> float:
    """Bytes that are cut otherwise after one letter was changed, on average."""
    found, vocabulary = [], tokenizer.vocabulary
    for text in passages(texts, 2000)[:100]:
        half = len(text) // 2
        one, two = (cut(tokenizer, t) for t in (text, text[:half] + "q" + text[half + 1 :]))
        same = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        rest = min(len(one), len(two)) - same
        behind = next((i for i in range(rest) if one[-1 - i] != two[-1 - i]), rest)
        found.append(len(vocabulary.spell(one[same : len(one) - behind])))
    return sum(found) / len(found)


def untouched(tokenizer: Any, text: str, seed: int) -> tuple[int, int, int, int]:
    """Tokens that errors leave as they are, all tokens, and the bytes in both."""
    draws, damaged, place, at = random.Random(seed), "", {}, 0
    while at < len(text):
        wrong = next((w for w in ERRORS if text.startswith(w, at)), None)
        if wrong and draws.random() < 0.2:
            damaged, at = damaged + ERRORS[wrong], at + len(wrong)
        else:
            place[at] = len(damaged)
            damaged, at = damaged + text[at], at + 1
    ends = [np.cumsum([0, *(len(c.encode()) for c in t)]) for t in (text, damaged)]
    where = {int(ends[0][a]): int(ends[1][b]) for a, b in place.items()} | {int(ends[0][-1]): int(ends[1][-1])}
    spans, others = (tokenizer.encode(t).spans[:, :2].tolist() for t in (text, damaged))
    bytes_, new, standing = text.encode(), damaged.encode(), {tuple(span) for span in others}
    good = [
        (a, b) for a, b in spans
        if (where.get(a), where.get(b)) in standing and bytes_[a:b] == new[where[a] : where[b]]
    ]  # fmt: skip
    return len(good), len(spans), sum(b - a for a, b in good), len(bytes_)


@lru_cache
def prose() -> tuple[str, ...]:
    """Paragraphs of documentation."""
    found: dict[str, None] = {}
    for root in (Path(sysconfig.get_paths()["stdlib"]), Path(np.__file__).parent):
        for file in sorted(root.rglob("*.py")):
            if not {"site-packages", "test", "tests"} & set(file.relative_to(root).parts):
                found |= dict.fromkeys(paragraphs("\n\n".join(documentation(file))))
    return tuple(found)


def documentation(file: Path) -> Iterator[str]:
    """The docstrings of a module."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


@lru_cache
def licences() -> tuple[str, ...]:
    """Paragraphs of copyright files."""
    found: dict[str, None] = {}
    for file in sorted(Path("/usr/share/doc").glob("*/copyright")):
        found |= dict.fromkeys(paragraphs(file.read_text(encoding="utf-8", errors="ignore")))
    return tuple(found)


def paragraphs(text: str) -> list[str]:
    """Those that are long enough to read."""
    return [whole for part in text.split("\n\n") if len(whole := " ".join(part.split())) >= 80]


def halves(texts: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """What is learnt from, and every fourth, which is held out."""
    return [text for i, text in enumerate(texts) if i % 4], list(texts[::4])


def passages(texts: Sequence[str], size: int) -> list[str]:
    """Paragraphs below each other, cut after so many characters."""
    whole = "\n\n".join(texts)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def claims(record: Record) -> list[dict[str, Any]]:
    """What the cards expect."""

    def value(name: str, **key: Any) -> float:
        row = record.find(**key)
        assert row is not None, key
        return float(row[name])

    found = []
    for size, limit in zip(SIZES, ({"at_most": 0.02}, {"at_least": 0.0}, {"at_least": 0.05}), strict=True):
        ours, plain = (value("bytes_per_token", part="words", size=size, arm=a) for a in ("supertokens", PLAIN))
        found.append(claim(f"{size:,} ids: share of tokens that supertokens save", 1 - plain / ours, **limit))
    ours, plain = (value("bits_per_byte", part="coded", arm=a) for a in (f"compression_bpe, width {WIDTH}", PLAIN))
    found.append(claim("1,024 ids chosen by gzip: share of what gzip leaves on text held out", 1 - ours / plain,
                       at_least=0.0))  # fmt: skip
    if licences():
        ours, general = (value("bytes_per_token", part="domain", arm=a) for a in ("kl3m", "smollm2"))
        found.append(claim(f"licences: share of tokens that {DOMAIN:,} ids of kl3m save beside smollm2's 49,152",
                           1 - general / ours, at_least=0.1))  # fmt: skip
        short, plain = (1 - value("bytes_in_them", part="errors", arm=a) for a in ("kl3m, up to 3 characters", PLAIN))
        found.append(claim("errors: text in touched tokens, of short pieces in shares of plain ones", short / plain,
                           at_most=0.75))  # fmt: skip
    if record.find(part="speed", arm="rustbpe"):
        ours, theirs = (value("seconds", part="speed", arm=arm) for arm in ("tokenry", "rustbpe"))
        found.append(claim("seconds of training in those of rustbpe", ours / theirs, at_most=2))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows = dict(by(document["rows"], "part"))
    found = [
        Table(
            "prose, by vocabulary", ("ids", "trained", "bytes/token", "pieces of several words", "reach, bytes"),
            [(f"{r['size']:,}", r["arm"], fixed(r["bytes_per_token"], 3), percent(r["several_words"]),
              fixed(r["reach"], 1)) for r in rows["words"]], words=2,
        ),
        Table(
            f"{CODED:,} ids from {READ / 1e6:g} MB of prose", ("trained", "bytes/token", "gzip of ids, bits/byte", "s"),
            [(r["arm"], fixed(r["bytes_per_token"], 3), fixed(r["bits_per_byte"], 3), fixed(r["seconds"], 1))
             for r in rows["coded"]],
        ),
    ]  # fmt: skip
    if "domain" in rows:
        found += [
            Table("licences", ("vocabulary", "ids", "bytes/token"),
                  [(r["arm"], f"{r['ids']:,}", fixed(r["bytes_per_token"], 3)) for r in rows["domain"]]),
            Table("licences with errors", ("vocabulary", "bytes/token", "tokens untouched", "text in them"),
                  [(r["arm"], fixed(r["bytes_per_token"], 3), percent(r["untouched"]), percent(r["bytes_in_them"]))
                   for r in rows["errors"]]),
        ]  # fmt: skip
    head = ("trainer", "s", "MB at most", "of which text and Python")
    cells = [(r["arm"], fixed(r["seconds"], 2), fixed(r["megabytes"], 0), fixed(r["before"], 0)) for r in rows["speed"]]
    return [*found, Table(f"{SPEED:,} ids from {rows['speed'][0]['text']:.0f} MB of code", head, cells)]


if __name__ == "__main__":
    main()
