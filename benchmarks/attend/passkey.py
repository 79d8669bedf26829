"""A number hidden in filler text, within the model's context and at twice its length.

The number stands somewhere in a text that says nothing, the one this test is usually made of, and the model is asked
for it behind the text. All arms decode greedily. `random` reads as many rows as `token_select`, of a prompt that was
read densely.
"""

from __future__ import annotations

import argparse
import random
import time
from itertools import product
from statistics import mean, median
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers.cache_utils import DynamicCache

from benchmarks.forced import again, dense, read, tokens, using
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel, load

TITLE = "A number hidden in filler text, beyond the trained length"
SUBJECTS = ("attend/token_select",)
ABOUT = (
    "SmolLM2-135M was trained for 8,192 tokens. A number of five digits stands at some depth of a filler text "
    "of 4,096 or 16,384 tokens, and the model is asked for it behind the text. `slots` numbers the rows that are "
    "read anew, so no distance exceeds the trained one; without it positions are those of the text. `random` reads "
    "its prompt densely and as many random rows at each step. Seconds are for one prompt and its answer."
)

LENGTHS = (4096, 16384)
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
ROWS = "2048:sink=128:recent=512"
DENSE, SLOTS = "dense", "token_select, slots"
ARMS = {
    SLOTS: f"token_select:budget={ROWS}:per=layer,reuse=1.01,slots=true",
    "token_select": f"token_select:budget={ROWS}:per=layer,reuse=1.01",
    "random": f"attend/random:budget={ROWS}",
}
READ_DENSELY = (DENSE, "random")
"""Arms whose prompt is read densely, and for both in one reading."""
MAX_NEW = 8

BEFORE = (
    "There is important information hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you "
    "about it.\n\n"
)
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
NEEDLE = "\n\nThe pass key is {key}. Remember it. {key} is the pass key.\n\n"
SIGN = "<text>"
AFTER, ANSWER = "\n\nWhat is the pass key? Answer with the number.", "The pass key is"


def main() -> None:
    """Ask for all numbers, or for one at one length for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--length", type=int, choices=LENGTHS, help="only prompts of this length")
    options.add_argument("--place", type=float, choices=PLACES, help="only the number at this depth")
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    settings = {
        "model": "smollm2", "lengths": LENGTHS, "places": PLACES, "filler": FILLER, "max_new": MAX_NEW,
        "arms": ARMS, "before": BEFORE, "needle": NEEDLE, "after": AFTER, "answer": ANSWER,
    }  # fmt: skip
    whole = given.length is None and given.place is None
    record = Record("attend/passkey", dtype="bfloat16", settings=settings, save=whole)
    language = load("smollm2", dtype="bfloat16")
    work = [
        (length, place)
        for length, place in product(LENGTHS, PLACES)
        if given.length in (None, length) and given.place in (None, place)
        and record.find(length=length, place=place) is None
    ]  # fmt: skip
    for length, place in track(work, "pass keys"):
        record.add(*ask(language, length, place))
    show(record.finish(claims(record) if whole else []), tables)


@torch.inference_mode()
def ask(language: LanguageModel, length: int, place: float) -> list[Row]:
    """What all arms answer when a number stands at one depth of a prompt."""
    prompt, key = hidden(language, length, place)
    whole, reading = read(language, prompt[:-1])
    rows = []
    for arm in (DENSE, *ARMS):
        before = again(language, whole) if arm in READ_DENSELY else DynamicCache(config=language.model.config)
        attach = using(language, ARMS[arm]) if arm in ARMS else dense(language)
        start = time.perf_counter()
        with attach(length) as run:
            out = language.model.generate(
                prompt[None], attention_mask=torch.ones_like(prompt[None]), **with_cache(before),
                max_new_tokens=MAX_NEW, do_sample=False,
            )  # fmt: skip
        seconds = time.perf_counter() - start + (reading if arm in READ_DENSELY else 0)
        said = language.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
        assert said
        reads = run.reads.per_step if arm in ARMS else []
        rows.append(
            {
                "length": length, "place": place, "arm": arm, "key": key, "answer": said, "correct": key in said,
                "rows_read": round(mean(reads), 1) if reads else length, "seconds": round(seconds, 1),
            }
        )  # fmt: skip
    return rows


def hidden(language: LanguageModel, length: int, place: float) -> tuple[Tensor, str]:
    """A prompt of exactly `length` tokens, and the number in it."""
    key = str(random.Random(f"{length} {place}").randint(10000, 99999))
    turn = {"role": "user", "content": f"{BEFORE}{SIGN}{AFTER}"}
    asked = language.tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    before, after = asked.split(SIGN)
    head, needle, tail = (tokens(language, t) for t in (before, NEEDLE.format(key=key), after + ANSWER))
    room = length - len(head) - len(needle) - len(tail)
    filler = tokens(language, FILLER * (room // 16))
    at = round(place * room)
    prompt = torch.cat((head, filler[:at], needle, filler[at:room], tail))
    assert len(prompt) == length
    return prompt, key


def claims(record: Record) -> list[dict[str, Any]]:
    """Slots find what the model alone cannot."""
    right = {
        (arm, length): mean(r["correct"] for r in record.rows if (r["arm"], r["length"]) == (arm, length))
        for arm, length in product((DENSE, SLOTS), LENGTHS)
    }
    near, far = LENGTHS
    return [
        claim(f"{DENSE}: share of numbers found at {near:,} tokens", right[DENSE, near], at_least=0.8),
        claim(f"{DENSE}: share of numbers found at {far:,} tokens, twice the context", right[DENSE, far], at_most=0.2),
        claim(f"{SLOTS}: share of numbers found at {far:,} tokens", right[SLOTS, far], at_least=0.8),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    places = document["settings"]["places"]
    heads = ("arm", "rows read", *(f"at {place:.0%}" for place in places), "found", "seconds")
    found = []
    for length in document["settings"]["lengths"]:
        cells = []
        for arm, rows in by([r for r in document["rows"] if r["length"] == length], "arm"):
            right = {r["place"]: "yes" if r["correct"] else "no" for r in rows}
            cells.append(
                (
                    arm, fixed(mean(r["rows_read"] for r in rows), 0), *(right.get(p, "") for p in places),
                    f"{sum(r['correct'] for r in rows)} of {len(rows)}", fixed(median(r["seconds"] for r in rows), 1),
                )
            )  # fmt: skip
        if cells:
            found.append(Table(f"{length:,} tokens", heads, cells))
    return found


if __name__ == "__main__":
    main()
