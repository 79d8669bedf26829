"""Models of chunks beside a transformer of BPE tokens, one of bytes, and chunks of equal length, at equal compute.

All have six blocks of the same width, learn from the same rows of ten languages in the same order, and get the same
number of floating-point operations; a model that needs fewer for a row reads more rows. What a byte costs counts all
ids that spell it, marks included.
A run that was interrupted goes on from the last checkpoint, and a recorded result that lacks arms gets them.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.multilingual import LANGUAGES, LAST, articles, files
from benchmarks.record import BUILD, Record, Row, claim
from benchmarks.segment.flat import Flat
from benchmarks.tables import Result, Table, fixed, percent, show
from tokenry.core.schooling import Schooling
from tokenry.data.tasks.texts import Texts
from tokenry.segment.bpe import Bpe
from tokenry.segment.hierarchy.model import MARK, HierarchicalLM
from tokenry.segment.hierarchy.splitter import words
from tokenry.segment.hierarchy.training import batch, bits_per_byte, made, train

NAME = "segment/hierarchical"
TITLE = "Models of chunks of bytes"
SUBJECTS = ("segment/hnet", "segment/magnet", "segment/hierarchical_ar", "segment/word_pool")
ABOUT = (
    "Ten languages in six scripts: the Declaration of Human Rights, catalogues of messages, and the sample documents. "
    "All models have six blocks of width 128 and get the same number of floating-point operations, less than two "
    "minutes of one core; who needs fewer for a row reads more rows. A byte's price counts everything that spells it, "
    "also the marks with which words end. `noise` is what a byte costs more where one letter in ten is swapped with "
    "the next, doubled or left out. A word is right when each of its ids is the most likely one; models of words must "
    "say where it ends as well, the others need not. What goes on in Turkish learned English first, its vocabulary "
    "too, and then gets half as many operations again. Models this small and this short in training say how the "
    "recipes behave, not how they scale."
)

WIDTH, LENGTH, OPERATIONS = 128, 256, 4e12
VOCABULARY = 4096
HOW = Schooling(rate=2e-3, decay=0.1, rise=50, clip=1.0, batch=16, every=100)
MEASURED = 16
"""Rows of each language that are measured."""
BYTES, BPE, STRIDE = "bytes", "BPE", "chunks of 6 bytes"
RATES = "latin+cyrillic+indic+han+kana+hangul,rates=0.2+0.105+0.077+0.215+0.12+0.165"
"""A fifth for Latin letters, and for others less by as much as they write longer texts."""
ARMS: Mapping[str, str] = {
    BPE: "",
    "hnet": "hnet:layers=1+4+1,boundaries=cosine[ratio=6,weight=0.2]",
    STRIDE: "hnet:layers=1+4+1,boundaries=stride[every=6]",
    "hierarchical_ar": "hierarchical_ar:layers=1+4+1",
    "magnet": f"magnet:layers=1+4+1,boundaries=by_script[scripts={RATES}]",
    "magnet, one predictor": "magnet:layers=1+4+1,boundaries=by_script[scripts=latin,rates=0.15]",
    "word_pool": "word_pool:layers=1+4+1,vectors=2",
    BYTES: "",
    "hnet, two levels": "hnet:layers=1+1+2+1+1,boundaries=cosine[ratio=3,weight=0.2]",
    "hierarchical_ar, stream": "hierarchical_ar:layers=1+4+1,variant=stream",
    "word_pool, at once": "word_pool:layers=1+4+1,vectors=2,spelling=at_once",
}  # fmt: skip
CONTINUED = {f"{arm}, English then Turkish": arm for arm in (BPE, "hierarchical_ar")}
FIRST, THEN = "en", "tr"
GOES_ON = 0.5
"""Operations of the second language for one of the first."""
COUNTED: Mapping[str, str] = {
    "hnet": ARMS[STRIDE],
    "hnet, two levels": "hnet:layers=1+1+2+1+1,boundaries=stride[every=3]",
    "magnet": "magnet:layers=1+4+1,boundaries=stride[every=6]",
    "magnet, one predictor": "magnet:layers=1+4+1,boundaries=stride[every=6]",
}
"""Steps of what learns where to cut are counted as if it cut evenly, as often as it aims at."""


def main() -> None:
    """Train and measure all arms; those that are recorded are not measured again."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arms", type=int, default=len(ARMS) + len(CONTINUED), help="only so many, from the first")
    given = options.parse_args()
    torch.set_num_threads(1)
    arms = dict(list({**ARMS, **CONTINUED}.items())[: given.arms])
    settings = {
        "width": WIDTH, "length": LENGTH, "operations": OPERATIONS, "vocabulary": VOCABULARY, "languages": [*LANGUAGES],
        "measured": MEASURED, "rate": HOW.rate, "batch": HOW.batch, "arms": arms,
    }  # fmt: skip
    record = Record(NAME, dtype="float32", settings=settings, save=True, grows=True)
    for arm in arms:
        if record.find(arm=arm) is None:
            record.add(continued(arm) if arm in CONTINUED else measured(arm))
            print(record.rows[-1], flush=True)
    show(record.finish(claims(record.rows)), tables)


@cache
def texts() -> Texts:
    return Texts(files=tuple(files()), length=LENGTH)


@cache
def language(name: str) -> Texts:
    return Texts(files=tuple(file for file in files() if Path(file).stem == name), length=LENGTH)


def fresh(arm: str, of: Texts | None = None) -> Any:
    """A model that knows nothing."""
    if arm in (BYTES, BPE):
        return Flat(source=_tokenizer(of or texts()) if arm == BPE else "").build(width=WIDTH)
    return made(ARMS[arm]).build(width=WIDTH)


def _tokenizer(of: Texts) -> str:
    """A vocabulary that was learnt from what the models learn from."""
    folder = BUILD / "hierarchical" / "_".join(("tokenizer", *(of.parts if len(of.parts) == 1 else ())))
    if not folder.exists():
        Bpe.train([first.decode() for first, _ in of.parts.values()], vocab_size=VOCABULARY, out=folder)
    return str(folder)


def steps(arm: str) -> int:
    """As many as the operations are enough for."""
    model = made(COUNTED[arm]).build(width=WIDTH) if arm in COUNTED else fresh(arm)
    return round(OPERATIONS / operations(model) / 10) * 10


@torch.no_grad()
def operations(model: Any, of: Texts | None = None) -> float:
    """Floating-point operations of a step: three times those of reading its rows, the mean of four steps."""
    total = 0
    for step in range(4):
        rows = batch(model, (of or texts()).sample(HOW.batch, HOW.draws(step)))
        with FlopCounterMode(display=False) as counted:
            model.loss(*rows)
        total += counted.get_total_flops()
    return 3 * total / 4


def trained(arm: str) -> Any:
    """A model that has learned, from its last checkpoint on."""
    folder: Path = BUILD / "hierarchical" / "".join(c if c.isalnum() else "_" for c in arm)
    return train(fresh(arm), texts(), steps(arm), folder, HOW)[0]


def continued(arm: str) -> Row:
    """What a byte of two languages costs a model of one of them, before and after it went on in the other."""
    model = fresh(CONTINUED[arm], language(FIRST))
    bits: dict[str, list[float]] = {FIRST: [], THEN: []}
    made_steps = []
    for name, share in ((FIRST, 1.0), (THEN, GOES_ON)):
        made_steps.append(round(share * OPERATIONS / operations(model, language(name)) / 10) * 10)
        folder = BUILD / "hierarchical" / "_".join((*CONTINUED[arm].split(), "from", FIRST, name))
        model = train(model, language(name), made_steps[-1], folder, HOW)[0]
        for one, found in bits.items():
            found.append(round(bits_per_byte(model, language(one).held_out(4 * MEASURED)[one]), 4))
    size = sum(p.numel() for p in model.parameters())
    return {"part": "continued", "arm": arm, "parameters": size, "steps": made_steps, "bits": bits}


def measured(arm: str) -> Row:
    """What an arm learned."""
    model = trained(arm)
    kept = texts().held_out(MEASURED)
    bits = {name: round(bits_per_byte(model, rows), 4) for name, rows in kept.items()}
    clean = [row for rows in kept.values() for row in rows]
    noisy = [noise(row, i) for i, row in enumerate(clean)]
    began = time.process_time()
    for step in range(3):
        model.train().loss(*batch(model, texts().sample(HOW.batch, HOW.draws(step))))[0].backward()
    seconds = (time.process_time() - began) / 3
    model.eval()
    right, rare = words_right(model, clean)
    found = {
        "arm": arm, "parameters": sum(p.numel() for p in model.parameters()), "steps": steps(arm),
        "operations_per_row": operations(model) / HOW.batch, "seconds_per_step": round(seconds, 3),
        "bits_per_byte": round(bits_per_byte(model, clean), 4), "languages": bits,
        "noisy": round(bits_per_byte(model, noisy), 4), "words_right": round(right, 4), "rare_right": round(rare, 4),
    }  # fmt: skip
    return found | (cutting(model, clean) if isinstance(model, HierarchicalLM) else tokens(model, clean))


def cutting(model: HierarchicalLM, rows: Sequence[bytes]) -> Row:
    """How long chunks are, how many begin where words do, and how many a text has beside its English original."""
    chunks = hits = starts = chance = 0
    for row in rows:
        begin = {0, *model.ends(row)} - {len(row)}
        word = {0}
        for piece in words(row):
            word.add(max(word) + len(piece))
        # A chunk may begin with the space or right behind it.
        near = {at for at in word if at < len(row)} | {at + 1 for at in word if row[at : at + 1].isspace()}
        chunks += len(begin)
        hits += len((begin - {0}) & near)
        starts += len(begin - {0})
        chance += (len(begin) - 1) * len(near - {0}) / max(1, len(row) - 1)
    counts = {name: sum(len(model.ends(article.encode())) for article in articles(name)[-LAST:]) for name in LANGUAGES}
    return {
        "bytes_per_chunk": round(sum(map(len, rows)) / chunks, 3), "at_words": round(hits / max(1, starts), 4),
        "at_words_by_chance": round(chance / max(1, starts), 4),
        "to_english": {name: round(count / counts["en"], 3) for name, count in counts.items()},
    }  # fmt: skip


def tokens(model: Flat, rows: Sequence[bytes]) -> Row:
    """The same of tokens, as far as they have it."""
    counts = {
        name: sum(len(model.ids(article.encode())) - 1 for article in articles(name)[-LAST:]) for name in LANGUAGES
    }
    made = sum(len(model.ids(row)) - 1 for row in rows)
    return {
        "bytes_per_chunk": round(sum(map(len, rows)) / made, 3),
        "to_english": {name: round(count / counts["en"], 3) for name, count in counts.items()},
    }


@torch.no_grad()
def words_right(model: Any, rows: Sequence[bytes]) -> tuple[float, float]:
    """The share of words of which each id is the most likely, of all and of those seen at most three times."""
    seen = Counter(word for first, _ in texts().parts.values() for word in words(first))
    found: list[tuple[bool, bool]] = []
    for i in range(0, len(rows), 16):
        ids, real = batch(model, rows[i : i + 16])
        best = model(ids, real).argmax(-1)
        for j, row in enumerate(rows[i : i + 16]):
            own = ids[j][real[j]].tolist()
            good = [True, *(best[j, : len(own) - 1] == ids[j, 1 : len(own)]).tolist()]
            pieces = model.pieces(own) if isinstance(model, Flat) else [b"" if id == MARK else b"." for id in own]
            wrong, at = set[int](), 0
            for piece, fine in zip(pieces, good, strict=True):
                # A mark is of the word that it ends.
                wrong |= set() if fine else set(range(at, at + len(piece))) if piece else {at - 1}
                at += len(piece)
            begin = 0
            split = words(row)
            for word in split[:-1]:
                end = begin + len(word)
                if begin:
                    found.append((wrong.isdisjoint(range(begin, end)), seen[word] <= 3))
                begin = end
    rare = [right for right, few in found if few]
    return sum(right for right, _ in found) / len(found), sum(rare) / max(1, len(rare))


def noise(row: bytes, seed: int) -> bytes:
    """One letter in ten swapped with the next, doubled or left out."""
    drawn, text = random.Random(seed), list(row.decode())
    for i in range(len(text) - 1):
        if text[i].isalpha() and drawn.random() < 0.1:
            kind = drawn.randrange(3)
            if kind == 0:
                text[i], text[i + 1] = text[i + 1], text[i]
            else:
                text[i] = text[i] * 2 if kind == 1 else ""
    return "".join(text).encode()


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What was to be shown."""
    later = {r["arm"]: r["bits"][THEN][-1] for r in rows if "part" in r}
    of = {r["arm"]: r for r in rows if "part" not in r}
    bits = {arm: r["bits_per_byte"] for arm, r in of.items()}
    worse = {arm: r["noisy"] - r["bits_per_byte"] for arm, r in of.items()}

    def spread(arm: str) -> float:
        return max(of[arm]["to_english"].values())

    found = [
        claim("hnet: bits a byte below chunks of equal length", bits[STRIDE] - bits["hnet"], at_least=0.0),
        claim("hnet: bits a byte below BPE", bits[BPE] - bits["hnet"], at_least=0.0),
        claim("hnet: how far the length of chunks is from the 6 aimed at, as a share",
              abs(of["hnet"]["bytes_per_chunk"] / 6 - 1), at_most=0.15),
        claim("hnet: share of chunks that begin where words do", of["hnet"]["at_words"], at_least=0.6),
        claim("hnet: this share above that of chunks of equal length",
              of["hnet"]["at_words"] - of[STRIDE]["at_words"], at_least=0.0),
        claim("magnet: bytes of a chunk", of["magnet"]["bytes_per_chunk"], at_most=20.0),
        claim("hierarchical_ar: bits a byte below BPE", bits[BPE] - bits["hierarchical_ar"], at_least=0.0),
        claim("hierarchical_ar: what noise costs, as a share of what it costs BPE",
              worse["hierarchical_ar"] / worse[BPE], at_most=0.5),
        claim("word_pool: bits a byte below BPE", bits[BPE] - bits["word_pool"], at_least=0.0),
        claim("word_pool: rare words right above BPE",
              of["word_pool"]["rare_right"] - of[BPE]["rare_right"], at_least=0.0),
    ]  # fmt: skip
    if found[5]["holds"]:  # Rows that nothing cuts have as many chunks as each other.
        found += [
            claim("magnet: largest ratio of chunks of a language to English", spread("magnet"), at_most=1.3),
            claim("magnet: this ratio below that with one predictor",
                  spread("magnet, one predictor") - spread("magnet"), at_least=0.0),
        ]  # fmt: skip
    levels = "hnet, two levels"
    if levels in of:
        found.append(claim(f"{levels}: bits a byte below one level", bits["hnet"] - bits[levels], at_least=0.0))
    if later:
        less = later[f"{BPE}, English then Turkish"] - later["hierarchical_ar, English then Turkish"]
        found.append(claim("hierarchical_ar: bits a byte below BPE after going on in Turkish", less, at_least=0.0))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    names = document["settings"]["languages"]
    rows = [r for r in document["rows"] if "part" not in r]
    later = [
        (
            r["arm"], f"{r['parameters'] / 1e6:.2f}", " + ".join(f"{n:,}" for n in r["steps"]),
            *(fixed(bit, 3) for name in (FIRST, THEN) for bit in r["bits"][name]),
        )
        for r in document["rows"] if "part" in r
    ]  # fmt: skip
    costs = [
        (
            r["arm"], fixed(r["bits_per_byte"], 3), fixed(r["noisy"] - r["bits_per_byte"], 3),
            percent(r["words_right"]), percent(r["rare_right"]), f"{r['parameters'] / 1e6:.2f}", f"{r['steps']:,}",
            fixed(r["operations_per_row"] / 1e9, 2), fixed(r["seconds_per_step"], 2),
        )
        for r in rows
    ]  # fmt: skip
    heads = (
        "arm", "bits a byte", "noise", "words right", "rare words right", "million parameters", "steps",
        "GFLOP a row, trained", "seconds a step",
    )  # fmt: skip
    cuts = [
        (
            r["arm"], fixed(r["bytes_per_chunk"], 2), percent(r.get("at_words")), percent(r.get("at_words_by_chance")),
            *(fixed(r["to_english"][name], 2) for name in names),
        )
        for r in rows
    ]  # fmt: skip
    bits = [(r["arm"], *(fixed(r["languages"][name], 2) for name in names)) for r in rows]
    return [
        Table("what a byte costs that no step has seen", heads, costs),
        Table("bits a byte by language", ("arm", *names), bits),
        Table(
            "chunks or tokens: their length, how many begin where words do, and how many there are for one in English",
            ("arm", "bytes", "at words", "by chance", *names), cuts,
        ),
        Table(
            "bits a byte of what learned English and went on in Turkish",
            ("arm", "million parameters", "steps", "English", "after Turkish", "Turkish", "after Turkish"), later,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
