"""Twice the text takes at most about twice the time, whatever it is made of."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest

from tests.compress.code_samples import CODE
from tokenry.core.registry import parse
from tokenry.models.text.counting import Counter

pytestmark = pytest.mark.slow
MEGABYTE = 1_000_000


def words(rng, n):
    return " ".join(f"word{rng.randrange(500)}" for _ in range(n))


def prose(rng):
    return f"{words(rng, rng.randrange(5, 20)).capitalize()}." + ("\n\n" if rng.random() < 0.2 else " ")


def log(rng):
    when = f"2026-11-30 10:{rng.randrange(60):02d}:{rng.randrange(60):02d}"
    if rng.random() < 0.01:
        return f'{when} ERROR broke\nTraceback (most recent call last):\n  File "a.py", line 3\nIndexError: gone\n'
    return f"{when} INFO worker-{rng.randrange(9)} did {rng.randrange(10**6)} of {words(rng, 1)}\n"


def record(rng):
    return {"id": rng.randrange(10**6), "name": words(rng, 2), "size": rng.random(), "tags": words(rng, 2).split()}


def markdown(rng):
    return f"## {words(rng, 3)}\n\n{prose(rng).strip()}\n\n- {words(rng, 4)}\n  - {words(rng, 3)}\n\n"


def html(rng):
    return f"<div><h2>{words(rng, 3)}</h2>\n<p>{prose(rng).strip()}</p><ul><li>{words(rng, 3)}<li>b</ul></div>\n"


def diff(rng):
    return f"diff --git a/{rng.random()} b/b\n--- a/b\n+++ b/b\n" + f"@@ -1,2 +1,2 @@\n {words(rng, 6)}\n-b\n+c\n" * 4


def row(rng):
    return f"{rng.random()},{words(rng, 1)},{words(rng, 2)}\n"


def lines_of(make, size, seed):
    rng, found, length = random.Random(seed), [], 0
    while length < size:
        found.append(make(rng))
        length += len(found[-1]) if isinstance(found[-1], str) else len(json.dumps(found[-1])) + 2
    return found


TEXTS = {
    **{make.__name__: (lambda size, seed, make=make: "".join(lines_of(make, size, seed)))
       for make in (prose, log, markdown, html, diff)},
    "json": lambda size, seed: json.dumps({"found": lines_of(record, size, seed)}),
    "indented": lambda size, seed: json.dumps({"found": lines_of(record, size // 2, seed)}, indent=2),
    "csv": lambda size, seed: "id,a,b\n" + "".join(lines_of(row, size, seed)),
    "code": lambda size, seed: f"SEED = {seed}\n\n\n" + CODE["python"] * (size // len(CODE["python"])),
    "one line": lambda size, seed: words(random.Random(seed), size // 8),
    "numbers": lambda size, seed: " ".join(f"{seed + i / 7}" for i in range(size // 18)),
}  # fmt: skip
LEXICAL, RANDOM, WORDS = (
    "lexical_relevance:budget=0.25,units=auto", "compress/random:budget=0.5,units=auto",
    "compress/random:budget=0.5,units=word",
)  # fmt: skip
CASES = [
    *((kind, LEXICAL) for kind in TEXTS),
    *((kind, RANDOM) for kind in ("prose", "log", "csv", "diff", "html")),
    *((kind, "fold") for kind in ("log", "json", "indented", "code")),
    *((kind, WORDS) for kind in ("prose", "log", "numbers")),
]
SPACES = Counter("spaces", lambda texts: np.array([text.count(" ") + 1 for text in texts]))


@pytest.mark.parametrize(("kind", "use"), CASES)
def test_time_is_linear(kind, use):
    method, seconds = parse(use), {}
    for size in (MEGABYTE, 2 * MEGABYTE):
        for seed in range(2):
            text = TEXTS[kind](size, seed)
            start = time.process_time()
            found = method.shorten(text, SPACES, "which of word17 is gone?")
            seconds[size] = min(seconds.get(size, 1e9), time.process_time() - start)
            assert found.tokens_out <= found.tokens_in
    assert seconds[2 * MEGABYTE] < 3 * seconds[MEGABYTE]
