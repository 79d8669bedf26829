"""Whether a model learns invented names of five tokens sooner when heads beside it predict the tokens after the next.

SmolLM2 with LoRA on its last layers reads what things are called, each said in two ways, and is then asked in a third.
All arms of a seed see the same sentences in the same order; only the tokens of the names are learned.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

import tokenry.data as samples
from benchmarks.learn.lora import LAYERS, RANK, adapted
from benchmarks.learn.options import options
from benchmarks.record import BUILD, Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, percent, show
from tokenry.core.registry import parse
from tokenry.learn.base import Objective
from tokenry.learn.concept_aware import ConceptAware
from tokenry.learn.selection.labels import IGNORED
from tokenry.learn.training.examples import Example
from tokenry.learn.training.fit import Schedule, fit
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load

TITLE = "Names of several tokens"
SUBJECTS = ("learn/concept_aware",)
ABOUT = (
    "SmolLM2-135M with LoRA on its last eight layers learns 16 invented names of five tokens, each for a thing that is "
    "described in four words. Every name stands in two sentences that are read five times, and is then asked for in a "
    "third wording. Whole names are those of which all five tokens are right, written greedily. Heads were trained "
    "before on 24 passages of sample documents. The paper's models had 8 billion weights "
    "and read thousands of examples."
)

NAMES, TOKENS, EPOCHS, BATCH = 16, 5, 5, 4
SEEDS = (0, 1, 2)
RATE = 1e-3
PASSAGES, LENGTH, HEADS_RATE = 24, 48, 3e-4
PLAIN, AWARE = "next token only", "concept_aware"
ARMS = {
    PLAIN: "learn/random:rho=1.0",
    AWARE: "concept_aware",
}
KINDS = ("lamp", "boat", "drum", "coat", "bell", "saw", "rope", "cart")
LOOKS = ("green", "tiny", "iron", "round", "striped", "hollow")
USES = (
    "for cutting bread", "for calling sheep", "for rainy days", "for counting stars", "for old sailors",
    "for quiet rooms",
)  # fmt: skip
READ = ("A {} is called the{}.", "People who want a {} ask for the{}.")
ASKED = "What is the name of a {}? It is the"


def main() -> None:
    """All arms and seeds; `--arm` and `--seed` for a quick look, which is not recorded."""
    given = options(__doc__, ARMS)
    record = Record(
        "learn/concept_aware", dtype="bfloat16", save=not given.arm and not given.seed,
        settings={
            "model": "smollm2", "names": NAMES, "tokens": TOKENS, "epochs": EPOCHS, "batch": BATCH, "seeds": SEEDS,
            "layers": LAYERS, "rank": RANK, "rate": RATE, "passages": PASSAGES, "length": LENGTH,
            "heads_rate": HEADS_RATE, "arms": ARMS,
        },
    )  # fmt: skip
    language = load("smollm2", dtype="bfloat16", device="cpu")
    folder = heads(language)
    for seed in given.seed or SEEDS:
        for arm in given.arm or ARMS:
            if record.find(arm=arm, seed=seed) is None:
                record.add(run(language, arm, seed, folder))
                print(record.rows[-1], flush=True)
    show(record.finish(claims(record) if record.save else []), tables)


def heads(language: LanguageModel) -> str:
    """A folder of heads that were trained on passages, while the model rested."""
    folder = BUILD / "concept_heads"
    if not folder.exists():
        ids = [
            i
            for name in samples.documents()
            for i in language.tokenizer(samples.read(name), verbose=False)["input_ids"]
        ]
        step = len(ids) // PASSAGES
        passages = [torch.tensor(ids[i * step : i * step + LENGTH]) for i in range(PASSAGES)]
        examples = [Example(passage, passage.clone()) for passage in passages]
        schedule = Schedule(rank=0, batch=BATCH, rows=BATCH, rate=HEADS_RATE)
        fitted = fit(ConceptAware(stage="heads"), language, examples, schedule=schedule, progress=False)
        print("heads", [round(loss, 3) for loss in fitted.losses], flush=True)
        assert fitted.learned is not None
        fitted.learned.save(folder)  # type: ignore[operator]
    return str(folder)


def run(language: LanguageModel, arm: str, seed: int, folder: str) -> Row:
    """One training of fresh LoRA matrices, and what is known then."""
    objective = parse(ARMS[arm])
    assert isinstance(objective, Objective)
    if isinstance(objective, ConceptAware):
        objective = replace(objective, folder=folder)
    things = named(language, seed)
    learning = adapted(language, seed)
    examples = [example(language, text, thing, name) for thing, name in things for text in READ]
    schedule = Schedule(rank=0, epochs=EPOCHS, batch=BATCH, rows=BATCH, rate=RATE, seed=seed)
    losses = fit(objective, learning, examples, schedule=schedule, progress=False).losses
    learning.model.eval()
    found = [asked(learning, thing, name) for thing, name in things]
    learning.model.unload()
    return {
        "arm": arm, "spec": ARMS[arm], "seed": seed, "last_loss": round(losses[-1], 4),
        "whole": round(mean(whole for whole, _, _ in found), 4), "single": round(mean(one for _, one, _ in found), 4),
        "nats": round(mean(nats for _, _, nats in found), 4),
    }  # fmt: skip


def named(language: LanguageModel, seed: int) -> list[tuple[str, list[int]]]:
    """Things and their names, five tokens that the tokenizer gives back."""
    generator = torch.Generator().manual_seed(seed)
    pieces = language.tokenizer.convert_ids_to_tokens(list(range(len(language.tokenizer))))
    begins = [i for i, p in enumerate(pieces) if p[:1] == "Ġ" and p[1:].isalpha() and p[1:].islower() and len(p) == 4]
    others = [i for i, p in enumerate(pieces) if p.isascii() and p.isalpha() and p.islower() and len(p) == 3]
    order = torch.randperm(len(KINDS) * len(LOOKS) * len(USES), generator=generator)[:NAMES].tolist()
    found = []
    for i in order:
        kind, look, use = KINDS[i % 8], LOOKS[i // 8 % 6], USES[i // 48]
        name: list[int] = []
        while len(name) != TOKENS:
            drawn = [pool[int(torch.randint(len(pool), (), generator=generator))] for pool in [begins] + [others] * 4]
            again = language.tokenizer(language.tokenizer.decode(drawn))["input_ids"]
            name = drawn if again == drawn else []
        found.append((f"{look} {kind} {use}", name))
    return found


def example(language: LanguageModel, text: str, thing: str, name: list[int]) -> Example:
    """A sentence in which only the name is learned."""
    before = text.format(thing, "\0").partition("\0")[0]
    read: list[int] = language.tokenizer(before)["input_ids"]
    ids = torch.tensor([*read, *name])
    labels = ids.clone()
    labels[: len(read)] = IGNORED
    return Example(ids, labels)


@torch.no_grad()
def asked(language: LanguageModel, thing: str, name: list[int]) -> tuple[bool, float, float]:
    """Whether the whole name is written, the share of its tokens that are right after the right ones, and its nats."""
    read = language.tokenizer(ASKED.format(thing))["input_ids"]
    logits = language.model(input_ids=torch.tensor([read + name])).logits[0, len(read) - 1 : -1].float()
    wanted: Int[Tensor, "T"] = torch.tensor(name)
    right = logits.argmax(-1) == wanted
    # Greedy writing gives the name exactly where each token is the likeliest after the ones before it.
    return bool(right.all()), right.float().mean().item(), cross_entropy(logits, wanted).item()


def claims(record: Record) -> list[dict[str, Any]]:
    """More whole names than by the next token only."""
    found = []
    for arm in list(ARMS)[1:]:
        gain = torch.tensor([_of(record.rows, arm, s, "whole") - _of(record.rows, PLAIN, s, "whole") for s in SEEDS])
        text = f"{arm}: share of whole names beyond those learned by the next token only"
        found.append(
            claim(text, gain.mean().item(), at_least=0.01)
            | {"interval": [round(end, 4) for end in intervals.of_mean(gain)]}
        )
    return found


def _of(rows: list[Row], arm: str, seed: int, what: str) -> float:
    return float(next(r[what] for r in rows if (r["arm"], r["seed"]) == (arm, seed)))


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        spread = [stdev([r[what] for r in rows]) if len(rows) > 1 else 0.0 for what in ("whole", "nats")]
        cells.append((
            arm, percent(mean(r["whole"] for r in rows)), percent(spread[0]),
            percent(mean(r["single"] for r in rows)), fixed(mean(r["nats"] for r in rows), 3), fixed(spread[1], 3),
        ))  # fmt: skip
    heads = ("arm", "whole names", "spread", "tokens after right ones", "nats of a token", "spread")
    return [
        Table(f"mean of {len(document['settings']['seeds'])} seeds, spread is their standard deviation", heads, cells)
    ]


if __name__ == "__main__":
    main()
