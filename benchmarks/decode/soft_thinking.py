"""What thinking in mixtures does to a small model that solves arithmetic word problems.

SmolLM2-135M-Instruct has no mark that ends its thinking, so every arm thinks for 64 tokens and then says up to 32 more.
All arms think at the paper's temperature of 0.6. Mixtures are read instead of the likeliest token; `random` reads the
same weights with random tokens in place of all but the largest. Cold Stop is scaled to these short texts. A problem
counts as solved when the last number said is its answer.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry import parse
from tokenry.decode.base import Decoder, View
from tokenry.decode.sampling.candidates import Candidates, Cut
from tokenry.decode.soft_thinking import SoftThinking
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.session import Session

TITLE = "Thinking in mixtures"
SUBJECTS = ("decode/soft_thinking",)
ABOUT = (
    "SmolLM2-135M solves arithmetic word problems of one or two steps. It has no mark that ends its thinking, so "
    "all arms think for 64 tokens, at the paper's temperature of 0.6, and then say up to 32 more, greedily but for "
    "`sampled`. `soft k` reads mixtures of k tokens while it thinks; `random 5` the weights of five with random "
    "tokens in place of all but the largest. Cold Stop is scaled to these texts: 16 steps in a row with an entropy "
    "below 0.1 nats. A problem is right when the last number said is its answer. Repeated is the share of runs of "
    "four tokens that stood in the text before. The paper reports gains for models of 32 to 70 billion parameters "
    "and its authors none that are consistent for small ones; this is a small one."
)

PROBLEMS, BATCH, SEED = 36, 18, 0
THINKING, MAX_NEW = 64, 96
COLD = "certain=0.1,certain_steps=16"
GREEDY, SAMPLED, RANDOM = "greedy", "sampled", "random 5"
_SOFT = f"soft_thinking:end=none,soft_steps={THINKING},answer_temperature=0,max_topk="
ARMS = {
    GREEDY: f"{_SOFT}1,certain=0",
    f"{GREEDY}, Cold Stop": f"{_SOFT}1,{COLD}",
    SAMPLED: "soft_thinking:end=none,soft_steps=0,certain=0",
    **{f"soft {k}": f"{_SOFT}{k},certain=0" for k in (2, 5, 10)},
    **{f"soft {k}, Cold Stop": f"{_SOFT}{k},{COLD}" for k in (2, 5, 10)},
    RANDOM: f"{_SOFT}5,certain=0",
}
ASK = " Think step by step. End with the answer as a number."
PROBE, PREFIXES, MIXED = "probe", 2, 3
"""The probe takes up to this many places in each greedy text, where the model is not sure, and mixes three tokens."""

TEMPLATES = (
    ("{n} has {a} apples and buys {b} more. How many apples does {n} have now?", lambda a, b, c: a + b),
    ("{n} has {s} marbles and gives {b} of them away. How many marbles are left?", lambda a, b, c: a),
    ("A box holds {a} pens. How many pens do {c} boxes hold?", lambda a, b, c: a * c),
    ("{c} children share {p} cookies equally. How many cookies does each child get?", lambda a, b, c: a),
    ("{n} had {a} coins, found {b} and then spent {c}. How many coins does {n} have?", lambda a, b, c: a + b - c),
    ("{n} fills {c} bags with {a} nuts each and eats {b} nuts. How many nuts are left?", lambda a, b, c: a * c - b),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and the number that answers it."""

    ask: str
    answer: int


@dataclass(frozen=True, kw_only=True)
class RandomMixture(SoftThinking):
    """The same weights, but only the largest token is the model's own."""

    def mix(self, thought: Candidates, view: View) -> Tensor:
        ids = (view.uniform(thought.ids.shape[1]) * view.scores.shape[-1]).long()
        ids[:, 0] = thought.ids[:, 0]
        return Candidates(ids, thought.weights, thought.entropy).embeds(view.lookup)


def problems(count: int, seed: int = SEED) -> list[Problem]:
    """The same problems for the same seed."""
    chance = random.Random(seed)
    found = []
    for i in range(count):
        text, solve = TEMPLATES[i % len(TEMPLATES)]
        a, b, c = chance.randint(6, 20), chance.randint(2, 5), chance.randint(2, 5)
        name = chance.choice(("Tom", "Anna", "Ben", "Mia", "Sam", "Lena"))
        found.append(Problem(text.format(n=name, a=a, b=b, c=c, s=a + b, p=a * c), solve(a, b, c)))
    return found


def main() -> None:
    """All arms on all problems, or on fewer for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--problems", type=int, default=PROBLEMS, help="how many")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    settings = {
        "model": "smollm2", "problems": given.problems, "seed": SEED, "thinking": THINKING, "max_new": MAX_NEW,
        "batch": BATCH, "arms": ARMS,
    }  # fmt: skip
    language = load("smollm2", dtype="bfloat16", device="cpu")
    language.tokenizer.padding_side = "left"
    record = Record(
        "decode/soft_thinking", dtype="bfloat16", settings=settings,
        save=given.problems == PROBLEMS,
    )  # fmt: skip
    found = problems(given.problems)
    for start in range(0, len(found), BATCH):
        chosen = found[start : start + BATCH]
        inputs = encode(language, chosen)
        if start == 0:
            prove(language, inputs)
        for arm in ARMS:
            if record.find(arm=arm, problem=start) is None:
                rows = solve(language, arm, inputs, chosen, start)
                record.add(*({"arm": arm, "problem": start + i} | row for i, row in enumerate(rows)))
                print(arm, start, f"{mean(row['right'] for row in rows):.2f}", flush=True)
        for i, problem in enumerate(chosen):
            if record.find(arm=PROBE, problem=start + i) is None:
                places = list(probe(language, problem))
                record.add({"arm": PROBE, "problem": start + i, "places": places})
    show(record.finish(claims(record)), tables)


def encode(language: LanguageModel, chosen: list[Problem]) -> Any:
    """The problems in the model's template, padded on the left."""
    talks = [[{"role": "user", "content": problem.ask + ASK}] for problem in chosen]
    texts = [language.tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in talks]
    return language.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


@torch.inference_mode()
def solve(language: LanguageModel, arm: str, inputs: Any, chosen: list[Problem], seed: int) -> list[Row]:
    """One row for each problem of a batch."""
    decoder = parse(ARMS[arm])
    if arm == RANDOM:
        decoder = RandomMixture.from_dict(decoder.to_dict())
    assert isinstance(decoder, Decoder)
    out = decoder.generate(language, **inputs, max_new_tokens=MAX_NEW, return_dict_in_generate=True, seed=seed)
    entropy = torch.stack([n["entropy"] for n in out.notes], 1)
    said = out.sequences[:, inputs["input_ids"].shape[1] :]
    rows = []
    for i, problem in enumerate(chosen):
        ids = whole(said[i], language)
        numbers = re.findall(r"-?\d+(?:\.\d+)?", language.tokenizer.decode(ids).replace(",", ""))
        rows.append(
            {
                "right": bool(numbers) and float(numbers[-1]) == problem.answer,
                "tokens": len(ids),
                "entropy": round(float(entropy[i, : min(THINKING, len(ids))].mean()), 4),
                "repeated": round(repeated(ids), 4),
                "ids": ids,
            }
        )
    return rows


def whole(said: Tensor, language: LanguageModel) -> list[int]:
    """Ids up to the end of the text, which is left out."""
    ids = said.tolist()
    end = language.model.generation_config.eos_token_id
    return ids[: ids.index(end)] if end in ids else ids


def repeated(ids: list[int], n: int = 4) -> float:
    """The share of runs of n tokens that stood in the text before."""
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def prove(language: LanguageModel, inputs: Any) -> None:
    """The greedy arm must be the model's own greedy text; without this nothing is measured."""
    own = language.model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW)
    ours = parse(ARMS[GREEDY]).generate(language, **inputs, max_new_tokens=MAX_NEW)
    if not torch.equal(own, ours):
        raise SystemExit("soft_thinking: a mixture of one token must be greedy decoding; it is not.")


@torch.inference_mode()
def probe(language: LanguageModel, problem: Problem) -> Iterator[Row]:
    """How far the next distribution after a mixture is from those after its tokens, in nats of Jensen and Shannon."""
    inputs = encode(language, [problem])
    greedy = parse(ARMS[GREEDY])
    out = greedy.generate(language, **inputs, max_new_tokens=THINKING, return_dict_in_generate=True, output_scores=True)
    found = [Candidates.of(s, [Cut(1.0, MIXED, 1.0, 0.0)]) for s in out.scores]
    unsure = [t for t, c in enumerate(found) if float(c.weights[0, 0]) < 0.9][:PREFIXES]
    width = inputs["input_ids"].shape[1]
    chance = torch.Generator().manual_seed(SEED)
    for t in unsure:
        ids, weights = found[t].ids, found[t].weights
        other = torch.randint(out.scores[0].shape[-1], ids.shape, generator=chance)
        other[:, 0] = ids[:, 0]
        session = Session.open(language.model, out.sequences[:, : width + t])
        embeds = [session.lookup(ids)[0]]
        embeds += [Candidates(i, weights, found[t].entropy).embeds(session.lookup) for i in (ids, other)]
        after = session.repeat(MIXED + 2).read(ids[:, :1].expand(MIXED + 2, 1), torch.cat(embeds)[:, None])
        p = after[:, 0].softmax(-1)
        mixture = (weights[0, :, None] * p[:MIXED]).sum(0)
        yield {
            "weights": [round(v, 4) for v in weights[0].tolist()],
            "to_each": [round(distance(p[MIXED], p[i]), 4) for i in range(MIXED)],
            "to_mixture": round(distance(p[MIXED], mixture), 4),
            "random_to_first": round(distance(p[MIXED + 1], p[0]), 4),
        }


def distance(p: Tensor, q: Tensor) -> float:
    """Jensen-Shannon divergence in nats."""
    middle = torch.special.entr((p + q) / 2).sum()
    return float(middle - (torch.special.entr(p).sum() + torch.special.entr(q).sum()) / 2)


def claims(record: Record) -> list[dict[str, Any]]:
    """What the paper says of large models, and what its critics say of all."""
    right = {arm: [r["right"] for r in record.rows if r["arm"] == arm] for arm in ARMS}
    tokens = {arm: torch.tensor([float(r["tokens"]) for r in record.rows if r["arm"] == arm]) for arm in ARMS}
    places = [p for r in record.rows if r["arm"] == PROBE for p in r["places"]]
    nearest = [min(p["to_each"]) == p["to_each"][0] for p in places]
    ratio = (tokens["soft 10, Cold Stop"].mean() / tokens["soft 10"].mean()).item()
    return [
        claim("problems solved with mixtures of ten, above greedy", sum(right["soft 10"]) - sum(right[GREEDY]),
              at_least=1),
        claim("problems solved with mixtures of five, above random mixtures of the same weights",
              sum(right["soft 5"]) - sum(right[RANDOM]), at_least=1),
        claim("tokens of mixtures of ten with Cold Stop, as a share of those without", ratio, at_most=0.95)
        | {"interval": [round(e, 3) for e in intervals.of_ratio(tokens["soft 10, Cold Stop"], tokens["soft 10"])]},
        claim("share of places where what follows a mixture of three is nearest to what follows its largest token",
              mean(nearest), at_least=0.5)
        | {"interval": [round(e, 3) for e in intervals.of_share(sum(nearest), len(nearest))]},
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    arms = [(arm, rows) for arm, rows in by(document["rows"], "arm") if arm != "probe"]
    greedy = [r["ids"] for r in arms[0][1]]
    cells = [
        (
            arm, f"{sum(r['right'] for r in rows)} of {len(rows)}", fixed(mean(r["entropy"] for r in rows), 2),
            f"{100 * mean(r['repeated'] for r in rows):.0f} %", fixed(mean(r["tokens"] for r in rows), 1),
            fixed(mean(_shared(r["ids"], ids) for r, ids in zip(rows, greedy, strict=True)), 1),
        )
        for arm, rows in arms
    ]  # fmt: skip
    heads = ("arm", "right", "entropy while thinking, nats", "repeated", "tokens", "first tokens as greedy's")
    places = [p for r in document["rows"] if r["arm"] == "probe" for p in r["places"]]
    first, second, third = (mean(p["to_each"][i] for p in places) for i in range(3))
    ways = [
        ("its largest token", fixed(first, 3)), ("its second token", fixed(second, 3)),
        ("its third token", fixed(third, 3)),
        ("the weighted mean of the three", fixed(mean(p["to_mixture"] for p in places), 3)),
        ("its largest token, with random others in the mixture", fixed(mean(p["random_to_first"] for p in places), 3)),
    ]  # fmt: skip
    weights = ", ".join(f"{mean(p['weights'][i] for p in places):.2f}" for i in range(3))
    title = f"distance of what follows a mixture of three (mean weights {weights}; {len(places)} places)"
    return [
        Table(f"{len(greedy)} word problems", heads, cells),
        Table(title, ("from what follows", "Jensen-Shannon, nats"), ways),
    ]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that two texts begin with together."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


if __name__ == "__main__":
    main()
