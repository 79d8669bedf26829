"""How surely a model knows the next byte of a prompt that ends inside a word, by how the end is read.

Passages are from the sample documents, cut at random inside a word. `as given` reads the tokens of the cut prompt and
sums over the first bytes of what follows. Token healing takes the last token back and allows those that begin with it.
`exact` sums over all tokens that may cover the end. Two models with different vocabularies are then read together.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from math import log
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry.data import documents, read
from tokenry.decode.bytes.reader import ByteReader, Cover
from tokenry.decode.bytes.spelling import Spelling
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load

TITLE = "Prompts that end inside a token"
SUBJECTS = ("decode/byte_exact",)
ABOUT = (
    "Passages of the sample documents are cut at random inside a word, and SmolLM2-135M says the next byte. `as given` "
    "reads the tokens of the cut text; `token healing` takes the last of them back and allows what begins with it; "
    "`exact` sums over all tokens that may cover the end. Bits are -log2 of the probability of the byte that stands "
    "there; the interval is by bootstrap over prompts."
)

PROMPTS, CHARACTERS, SEED = 40, 400, 0
GIVEN, HEALED, EXACT = "as given", "token healing", "exact"
ARMS = (GIVEN, HEALED, EXACT)


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
    settings = {"model": "smollm2", "prompts": given.prompts, "characters": CHARACTERS, "seed": SEED, "arms": ARMS}
    record = Record("decode/byte_exact", dtype="bfloat16", settings=settings, save=given.prompts == PROMPTS)
    language = load("smollm2", dtype="bfloat16", device="cpu")
    spelling = Spelling.of(language.tokenizer)
    for n, prompt in enumerate(prompts(given.prompts)):
        if record.find(prompt=n) is None:
            record.add(*({"prompt": n, **row} for row in measured(language, spelling, prompt)))
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


def claims(record: Record) -> list[dict[str, Any]]:
    """What the pilot found."""
    bits = {arm: torch.tensor([r["bits"] for r in record.rows if r["arm"] == arm]) for arm in ARMS}
    less = bits[HEALED] - bits[EXACT]
    return [
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
    cells = [
        (arm, fixed(mean(r["bits"] for r in rows), 2), f"{100 * mean(r['right'] for r in rows):.0f} %")
        for arm, rows in by(document["rows"], "arm")
    ]
    count = len(document["rows"]) // len(ARMS)
    return [
        Table(f"{count} prompts cut inside a word", ("how the end is read", "bits of the next byte", "right"), cells)
    ]


if __name__ == "__main__":
    main()
