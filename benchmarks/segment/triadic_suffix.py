"""What a small model learns of numbers that are written in digits, in groups of three, and with triadic suffixes.

A new model reads questions of three kinds: sums of two numbers, which of two numbers is larger, and how many digits
stand before the point. Every arm gets the same questions in its own tokens, and an answer is right when all of its
tokens are. The rows of groups begin as the mean of their digits' rows, as `extended` gives them, in every arm.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry.segment.numbers.literals import literals
from tokenry.segment.numbers.triads import signs, suffix

TITLE = "Arithmetic with triadic suffixes"
SUBJECTS = ("segment/triadic_suffix",)
ABOUT = (
    "A new model of two layers learns sums, comparisons and the number of digits before the point, all at once. "
    "Numbers are written in single digits, in groups of three without labels, with fused ids of groups and labels, or "
    "with digits and a label behind each group; `random labels` is the last with labels drawn anew for every group. "
    "Comparisons are learnt up to six digits and tested up to nine as well; sums have up to four, and the model counts "
    "digits of up to nine. The mean of the seeds, with the lowest and the highest in brackets."
)

DIGITS, GROUPS, FUSED, MARKED, RANDOM = "digits", "groups of three", "fused", "marked", "random labels"
ARMS = (DIGITS, GROUPS, FUSED, MARKED, RANDOM)
SEEDS = (0, 1, 2)
WIDTH, LAYERS, HEADS, BATCH, STEPS, RATE, TESTS = 64, 2, 4, 64, 750, 3e-3, 1000
SUM, LARGER, LONGER, COUNT = "sum", "comparison", "comparison of 7 to 9 digits", "digits before the point"
KINDS = (SUM, LARGER, LONGER, COUNT)
END = "end"

Question = tuple[str, list[str], list[str]]
"""Its kind, what is asked, and the answer, in numbers and signs."""


def main() -> None:
    """Train every arm with every seed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=STEPS, help="fewer for a quick look, which is not recorded")
    given = options.parse_args()
    torch.set_num_threads(1)
    settings = {
        "arms": ARMS, "seeds": SEEDS, "width": WIDTH, "layers": LAYERS, "heads": HEADS, "batch": BATCH,
        "steps": given.steps, "rate": RATE, "tests": TESTS,
    }  # fmt: skip
    record = Record("segment/triadic_suffix", dtype="float32", settings=settings, save=given.steps == STEPS)
    for seed in SEEDS:
        for arm in ARMS:
            if record.find(arm=arm, seed=seed) is None:
                record.add({"arm": arm, "seed": seed} | learned(arm, seed, given.steps))
    show(record.finish(claims(record)), tables)


def question(draw: random.Random, kind: str) -> Question:
    """One question."""
    if kind == SUM:
        one, two = (draw.randrange(10 ** draw.randint(1, 4)) for _ in "ab")
        return kind, [str(one), "+", str(two), "="], [str(one + two)]
    if kind == COUNT:
        whole = str(_of_length(draw, draw.randint(1, 9)))
        return kind, [whole + _fraction(draw), "#"], [f"count {len(whole)}"]
    least, most = (7, 9) if kind == LONGER else (1, 6)
    length = draw.randint(least, most)
    a, b = (
        str(_of_length(draw, length if draw.random() < 0.7 else draw.randint(least, most))) + _fraction(draw)
        for _ in "ab"
    )
    return kind, [a, "?", b, "="], ["<" if float(a) < float(b) else ">"]


def _of_length(draw: random.Random, length: int) -> int:
    return draw.randrange(10 ** (length - 1) if length > 1 else 0, 10**length)


def _fraction(draw: random.Random) -> str:
    digits = draw.choice((0, 0, 1, 2, 3))
    return "." + "".join(draw.choices("0123456789", k=digits)) if digits else ""


def written(arm: str, part: str, draw: random.Random) -> list[str]:
    """A number, or a sign, in the tokens of an arm."""
    if not part[0].isdigit():
        return [part]
    if arm == DIGITS:
        return list(part)
    [literal] = literals(part, ".", 6, 5)
    found: list[str] = []
    for sign in signs(literal, exact=False):
        label = suffix(sign.order) if arm != RANDOM else draw.choice(("k", "m", "p", ""))
        if sign.kind == "point":
            found.append(".")
        elif arm == GROUPS:
            found.append(sign.digits)
        elif arm == FUSED:
            found.append(f"{int(sign.digits) if sign.order >= 0 else sign.digits}{label}")
        else:
            found += [*sign.digits, *([label] if label else [])]
    return found


def vocabulary(arm: str) -> list[str]:
    """All tokens of an arm."""
    rest = [END, "+", "=", "?", "#", "<", ">", ".", *(f"count {n}" for n in range(1, 10))]
    rest += [str(d) for d in range(10)]
    if arm == GROUPS:
        rest += [str(v).zfill(n) for n in (1, 2, 3) for v in range(10**n)]
    if arm == FUSED:
        rest += [f"{v}{o}" for o in ("", "k", "m") for v in range(1000)] + [f"{v:03}p" for v in range(1000)]
    return list(dict.fromkeys([*rest, "k", "m", "p"]))


def learned(arm: str, seed: int, steps: int) -> Row:
    """The share of right answers after training."""
    tokens = {token: i for i, token in enumerate(vocabulary(arm))}
    draw, begun = random.Random(seed), time.process_time()
    model = network(tokens, seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    read = 0
    for _ in range(steps):
        rows = [question(draw, draw.choice((SUM, LARGER, COUNT))) for _ in range(BATCH)]
        ids, answers = batch(arm, rows, tokens, draw)
        read += int((ids >= 0).sum())
        loss = cross_entropy(logits(model, ids)[:, :-1].flatten(0, 1), answers[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        rate.step()
    right = {kind: tested(model, arm, kind, tokens) for kind in KINDS}
    return {
        "right": right, "loss": loss.item(), "tokens": len(tokens), "tokens_read": read,
        "seconds": time.process_time() - begun,
    }  # fmt: skip


def network(tokens: dict[str, int], seed: int) -> LlamaForCausalLM:
    """A new model in which groups begin as the mean of their digits."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows = model.state_dict()["model.embed_tokens.weight"]  # the same memory
    old = rows.clone()
    for token, i in tokens.items():
        digits = [c for c in token if c.isdigit()]
        if len(token) > 1 and digits and " " not in token:
            label = token.lstrip("0123456789")
            rows[i] = torch.stack([old[tokens[d]] for d in digits]).mean(0) + (old[tokens[label]] if label else 0)
    return model


def batch(arm: str, rows: list[Question], tokens: dict[str, int], draw: random.Random) -> tuple[Tensor, Tensor]:
    """Ids with -1 for padding, and labels that hold the answers alone."""
    asked = [[tokens[t] for part in q[1] for t in written(arm, part, draw)] for q in rows]
    said = [[*(tokens[t] for part in q[2] for t in written(arm, part, draw)), tokens[END]] for q in rows]
    size = max(len(a) + len(s) for a, s in zip(asked, said, strict=True))
    ids, answers = torch.full((len(rows), size), -1), torch.full((len(rows), size), -100)
    for i, (a, s) in enumerate(zip(asked, said, strict=True)):
        ids[i, : len(a) + len(s)] = torch.tensor(a + s)
        answers[i, len(a) : len(a) + len(s)] = torch.tensor(s)
    return ids, answers


def logits(model: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Padding stands behind, where a causal model does not see it."""
    found: Tensor = model(input_ids=ids.clamp_min(0)).logits
    return found


@torch.no_grad()
def tested(model: LlamaForCausalLM, arm: str, kind: str, tokens: dict[str, int]) -> float:
    """The share of questions of which every token of the answer is the most likely one."""
    draw = random.Random(1000)
    ids, answers = batch(arm, [question(draw, kind) for _ in range(TESTS)], tokens, draw)
    best = logits(model, ids)[:, :-1].argmax(-1)
    wanted = answers[:, 1:]
    return ((best == wanted) | (wanted == -100)).all(1).float().mean().item()


def claims(record: Record) -> list[dict[str, Any]]:
    """Labels are to help where the order of magnitude decides."""

    found = []
    for form, other, kind in (
        (FUSED, GROUPS, COUNT), (FUSED, GROUPS, LARGER), (MARKED, DIGITS, LARGER), (MARKED, DIGITS, LONGER),
        (MARKED, RANDOM, COUNT),
    ):  # fmt: skip
        gain = 100 * (mean(record.rows, form, kind)[0] - mean(record.rows, other, kind)[0])
        found.append(claim(f"triadic_suffix, {form}: points more right than {other} in {kind}", gain, at_least=5))
    return found


def mean(rows: list[Row], arm: str, kind: str) -> tuple[float, float, float]:
    """Mean, lowest and highest over the seeds."""
    found = [r["right"][kind] for r in rows if r["arm"] == arm]
    return sum(found) / len(found), min(found), max(found)


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    percent: Callable[[float], str] = lambda share: f"{100 * share:.1f}"  # noqa: E731
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        shares = [mean(document["rows"], arm, kind) for kind in KINDS]
        cells.append(
            (
                arm, *(f"{percent(m)} % ({percent(low)} to {percent(high)})" for m, low, high in shares),
                f"{rows[0]['tokens']:,}", fixed(sum(r["tokens_read"] for r in rows) / len(rows) / 1e6, 2),
                fixed(sum(r["seconds"] for r in rows) / len(rows), 0),
            )
        )  # fmt: skip
    heads = ("arm", *KINDS, "ids", "million tokens read", "seconds")
    return [
        Table(
            f"right answers to {TESTS:,} questions of each kind; a guess compares right in half of them", heads, cells
        )
    ]


if __name__ == "__main__":
    main()
