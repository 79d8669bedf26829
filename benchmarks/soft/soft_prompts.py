"""How soon soft tokens learn a task, by method and start: capitals of countries that were not learned from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

import torch
from rich.progress import track
from torch.nn.functional import cross_entropy

from benchmarks.arms import unnamed
from benchmarks.capitals import ASK, INSTRUCTION, LEARN, plain_model
from benchmarks.record import Record, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry.core.registry import load as load_method
from tokenry.models.files.load import LanguageModel
from tokenry.soft.base import SoftTokens
from tokenry.soft.prefix_tuning import PrefixTuning
from tokenry.soft.prompt_tuning import PromptTuning
from tokenry.soft.training.answer_loss import answer_logits
from tokenry.soft.training.examples import lessons
from tokenry.soft.training.tuning import Course, tune

TITLE = "Learning soft tokens"
SUBJECTS = ("soft/prompt_tuning", "soft/prefix_tuning")
ABOUT = (
    "SmolLM2-135M, without its chat template, learns to say the capital after the name of a country, from 20 pairs "
    "in batches of 8. It is asked for 10 others; loss is that of the first token of the capital, in nats, and "
    "right is how often this token is the most likely. All arms have 8 soft tokens and the learning rates that "
    "the methods have unless told otherwise. `the instruction in words` are the 8 tokens from which `from text` "
    "starts. The rates of `prefix_tuning` were set after a look at these countries inside the chat template. "
    "This is a small task with few questions: it shows what starts are worth, not what a method is."
)

TOKENS, STEPS, BATCH, SEEDS = 8, 20, 8, (0, 1)
LOOKS = (0, 5, 10, 20)
"""Steps after which the unseen countries are asked."""

ALONE, IN_WORDS = "no soft tokens", "the instruction in words"
ARMS: Mapping[str, tuple[Callable[[], SoftTokens], str]] = {
    "prompt_tuning from text": (lambda: PromptTuning(tokens=TOKENS), "text"),
    "prompt_tuning from vocabulary": (lambda: PromptTuning(tokens=TOKENS), "vocabulary"),
    "prompt_tuning from noise": (lambda: PromptTuning(tokens=TOKENS), "random"),
    "prefix_tuning hidden=0 from text": (lambda: PrefixTuning(tokens=TOKENS, hidden=0), "text"),
    "prefix_tuning hidden=0 from noise": (lambda: PrefixTuning(tokens=TOKENS, hidden=0), "random"),
    "prefix_tuning hidden=512 from text": (lambda: PrefixTuning(tokens=TOKENS), "text"),
    "prefix_tuning hidden=512 from noise": (lambda: PrefixTuning(tokens=TOKENS), "random"),
} | {
    f"{entry.name} from text": (lambda entry=entry: load_method(entry.full_name)(tokens=TOKENS), "text")
    for entry in unnamed("soft", ("prompt_tuning", "prefix_tuning"))
}


def main() -> None:
    """Tune all arms, or with `--quick` two of them for five steps, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="two arms, one seed, five steps; records nothing")
    quick = options.parse_args().quick
    torch.set_num_threads(1)
    settings = {
        "model": "smollm2", "tokens": TOKENS, "steps": STEPS, "batch": BATCH, "seeds": SEEDS, "learn": len(LEARN),
        "ask": len(ASK), "instruction": INSTRUCTION, "looks": LOOKS,
        "rates": {arm: make().rate for arm, (make, _) in ARMS.items()},
    }  # fmt: skip
    record = Record("soft/soft_prompts", dtype="float32", settings=settings, save=not quick)
    language = plain_model()
    if record.find(arm=ALONE) is None:
        hard = PromptTuning(tokens=TOKENS).start(language, "text", text=INSTRUCTION)
        record.add({"arm": ALONE, "seed": None, "looks": {"0": asked(None, language)}})
        record.add({"arm": IN_WORDS, "seed": None, "looks": {"0": asked(hard, language)}})
    arms = list(ARMS)[::3][:2] if quick else list(ARMS)
    runs = [(arm, seed) for seed in SEEDS[: 1 if quick else None] for arm in arms]
    for arm, seed in track(runs, "tune"):
        if record.find(arm=arm, seed=seed) is None:
            record.add(tuned(arm, seed, language, 5 if quick else STEPS))
    show(record.finish([] if quick else claims(record)), tables)


def tuned(arm: str, seed: int, language: LanguageModel, steps: int) -> dict[str, Any]:
    """One training, with what the unseen countries are answered along the way."""
    make, how = ARMS[arm]
    method = make().start(language, how, text=INSTRUCTION if how == "text" else None, seed=seed)
    looks = {"0": asked(method, language)}

    def tell(course: Course) -> None:
        if course.steps in LOOKS:
            looks[str(course.steps)] = asked(method, language)

    course = tune(method, language, LEARN, steps=steps, batch=BATCH, seed=seed, tell=tell, every=steps)
    return {
        "arm": arm, "seed": seed, "parameters": sum(p.numel() for p in method.parameters()),
        "losses": [round(value, 4) for value in course.losses], "looks": looks,
        "seconds_a_step": round(course.seconds / steps, 3),
    }  # fmt: skip


@torch.no_grad()
def asked(method: SoftTokens | None, language: LanguageModel) -> dict[str, float]:
    """The first token of the capitals of unseen countries: its loss in nats, and how often it is the most likely."""
    found = lessons(language, ASK)
    logits, ids = answer_logits(method, language, found)
    ends = torch.tensor([len(lesson.answer) for lesson in found]).cumsum(0)
    first = torch.cat((torch.zeros(1, dtype=torch.long), ends[:-1]))
    return {
        "loss": round(float(cross_entropy(logits[first], ids[first])), 4),
        "right": float((logits[first].argmax(-1) == ids[first]).float().mean()),
    }


def claims(record: Record) -> list[dict[str, Any]]:
    """Text before noise, and everything learned before words."""
    last = str(STEPS)

    def after(arm: str, step: str = last) -> float:
        return mean(r["looks"][step]["loss"] for r in record.rows if r["arm"] == arm)

    words = after(IN_WORDS, "0")
    text, vocabulary, noise = (after(f"prompt_tuning from {how}") for how in ("text", "vocabulary", "noise"))
    direct = after("prefix_tuning hidden=0 from text")
    return [
        claim("prompt_tuning, loss from the vocabulary over loss from text", vocabulary / text, at_least=1.0),
        claim("prompt_tuning, loss from noise over loss from the vocabulary", noise / vocabulary, at_least=1.0),
        claim("loss of the instruction in words over the highest mean loss of prompt_tuning",
              words / max(text, vocabulary, noise), at_least=1.0),
        claim("prefix_tuning hidden=0, loss from noise over loss from text",
              after("prefix_tuning hidden=0 from noise") / direct, at_least=1.0),
        claim("loss of prompt_tuning from text over loss of prefix_tuning hidden=0 from text", text / direct,
              at_least=1.0),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    looks = [str(step) for step in document["settings"]["looks"]]
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        learned = f"{rows[0]['parameters']:,}" if "parameters" in rows[0] else ""
        at = [[r["looks"][step] for r in rows if step in r["looks"]] for step in looks]
        cells.append(
            (
                arm, learned, *(fixed(mean(v["loss"] for v in found), 2) if found else "" for found in at),
                f"{100 * mean(r['looks'][max(r['looks'], key=int)]['right'] for r in rows):.0f} %",
                " ".join(f"{r['looks'][looks[-1]]['loss']:.2f}" for r in rows if looks[-1] in r["looks"]),
            )
        )  # fmt: skip
    heads = ("arm", "learned", *(f"loss at {step}" for step in looks), "right at the end", "each seed at the end")
    ask = document["settings"]["ask"]
    return [Table(f"{ask} countries that were not learned from, by steps; mean of seeds", heads, cells)]


if __name__ == "__main__":
    main()
