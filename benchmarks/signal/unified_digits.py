"""Digits as pictures, words and sounds in one vocabulary: a language model maps each to each, and keeps its text.

SmolLM2 gets rows for 512 codes of pictures and 4 x 256 codes of sounds. LoRA matrices and these rows learn from pairs
of the same digit. Asked are pictures and recordings that nothing has learned from; what the model draws and says is
decoded, and judges that learned from pictures and recordings tell which digit it is.
"""

from __future__ import annotations

import argparse
import shutil
import time
from typing import Any

import torch

from benchmarks.record import BUILD, Record, claim
from benchmarks.signal.digits.model import (
    DRAWN,
    GUIDED,
    HOW,
    WAYS,
    Pupil,
    ask,
    counted,
    foretold,
    learn,
    perplexity,
    pupil,
    windows,
)
from benchmarks.signal.digits.recordings import ASKED, COMMIT, NEW_VOICE, SOURCE
from benchmarks.signal.digits.streams import CONTROLS, EVERY, PICTURES, SOUNDS, Data, data
from benchmarks.tables import Result, Table, fixed, percent, show
from tokenry.models.files.load import LanguageModel, load
from tokenry.signal.unified_stream import AUDIO, IMAGE, TEXT

TITLE = "Digits as pictures, words and sounds"
SUBJECTS = ("signal/unified_stream",)
ABOUT = (
    "SmolLM2 gets 512 ids for codes of pictures, 4 x 256 for codes of sounds, and marks. Its new rows and LoRA "
    "matrices learn from pairs of the same digit, and from windows of text that are to be foretold as before. "
    "Pictures are scikit-learn's digits of 8 x 8 pixels as four codes; one in five is held out. Sounds are 0.6 "
    "seconds of the Free Spoken Digit Dataset as 24 codes; the first five of each voice and digit are held out, "
    "and one voice as a whole. New rows begin as the words of the digits that a code is seen with in what is "
    "learned from; with `wrong pairs` digits are drawn, there too. How far such counts of codes go alone stands "
    "in the third table. All ids are the likeliest ones under the grammar; pictures and sounds of a word, which "
    "is always the same, are drawn at a temperature of 0.3. One picture or sound in ten is learned without what "
    "was given for it, and all are said with a guidance of 2, away from what is said where nothing is given. A "
    "word must be the digit's; pictures and sounds are decoded, and judged by classifiers that learned from real "
    "ones, from these as their codes show them, and from sounds 40 ms earlier and later too. `real` judges learned "
    "from real ones as they are, and know less of a new voice and of what codes show. The temperature, the "
    "guidance, the judge of sounds, and how many pairs of each way make a step were settled after a look at these "
    "questions. Perplexity is of text that is not learned from."
)

STEPS, LOOK = 400, 60
"""Of the whole training, and after how many of them it is compared with a training on wrong pairs."""
EACH, FEW = 20, 5
"""Signals that are asked of each digit: of the trained model, and of those that it is compared with."""
SEED = 0
UNTRAINED, WRONG, TRAINED = "untrained", "wrong pairs", "trained"
LOOKS = ((UNTRAINED, 0), (TRAINED, LOOK), (TRAINED, STEPS), (WRONG, LOOK))
STATES = BUILD / "unified_digits"


def main() -> None:
    """Train and ask, or with `--quick` try two steps, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="two steps, one signal of each digit; records nothing")
    quick = options.parse_args().quick
    torch.set_num_threads(2)
    settings = {
        "model": "smollm2", "pictures": PICTURES, "sounds": SOUNDS, "controls": CONTROLS,
        "recordings": f"{SOURCE} at {COMMIT[:7]}", "steps": STEPS, "look": LOOK, "how": HOW,
        "each": [EACH, FEW], "drawn": DRAWN, "guided": GUIDED, "held_out": [EVERY, ASKED, NEW_VOICE], "seed": SEED,
    }  # fmt: skip
    record = Record("signal/unified_digits", dtype="bfloat16", settings=settings, save=not quick)
    if any(record.find(arm=arm, steps=steps) is None for arm, steps in LOOKS):
        measure(record, quick)
    show(record.finish([] if quick else claims(record)), tables)
    shutil.rmtree(STATES, ignore_errors=True)


def measure(record: Record, quick: bool) -> None:
    """Every look that is not recorded yet."""
    known = data()
    language = load("smollm2", dtype="bfloat16", device="cpu")
    # Rows are short, and attention without tiles is faster on them.
    language.model.set_attn_implementation("eager")
    texts = windows(language, "read", 1 if quick else None)
    grown = known.stream.extend(language, known.vectors(), seed=SEED)
    if record.find(part="judges") is None:
        record.add(
            {"part": "judges"} | {name: round(share, 4) for name, share in known.trust.items()},
            {"part": "same text"} | same_text(language, grown, texts),
            {"part": "counts"} | {kind: round(counted(known, kind), 4) for kind in (IMAGE, AUDIO)},
        )
    kept = windows(language, "kept", 1 if quick else None)
    before = foretold(language.model, kept, len(language.tokenizer))
    for name in (TRAINED, WRONG):
        looks = [(arm, n) for arm, n in LOOKS if arm == name or (arm, name) == (UNTRAINED, TRAINED)]
        if all(record.find(arm=arm, steps=n) for arm, n in looks):
            continue
        with pupil(grown, known, SEED, wrong=name == WRONG) as of:
            for arm, steps in looks:
                start = time.perf_counter()
                losses = [] if arm == UNTRAINED else learn(
                    of, STEPS, until=min(steps, 2) if quick else steps, wrong=arm == WRONG, seed=SEED, texts=kept,
                    before=before, folder=STATES / (("quick " if quick else "") + name).replace(" ", "_"),
                )  # fmt: skip
                seconds = time.perf_counter() - start
                if record.find(arm=arm, steps=steps) is None:
                    each = 1 if quick else EACH if (arm, steps) == (TRAINED, STEPS) else FEW
                    record.add(*asked(of, known, arm, steps, each), text(of, arm, steps, texts, losses, seconds))


def same_text(language: LanguageModel, grown: LanguageModel, texts: torch.Tensor) -> dict[str, Any]:
    """Whether the model with new rows says of text what it said, bit for bit, before it has learned."""
    size = len(language.tokenizer)
    with torch.no_grad():
        equal = all(
            torch.equal(grown.model(input_ids=row[None]).logits[..., :size], language.model(input_ids=row[None]).logits)
            for row in texts
        )
    return {"equal": equal, "logits": texts.numel() * size}


def asked(of: Pupil, known: Data, arm: str, steps: int, each: int) -> list[dict[str, Any]]:
    """What is right, from each kind to each; the trained model also hears a voice that it does not know."""
    found = [
        {"arm": arm, "steps": steps, "voices": "known"} | ask(of, way, known.asked[way[0]], each, SEED) for way in WAYS
    ]
    if (arm, steps) == (TRAINED, STEPS):
        for way in ((AUDIO, TEXT), (AUDIO, IMAGE)):
            row = ask(of, way, known.new_voice, min(each, ASKED), SEED)
            found.append({"arm": arm, "steps": steps, "voices": "new"} | row)
    return found


def text(
    of: Pupil, arm: str, steps: int, texts: torch.Tensor, losses: list[float], seconds: float
) -> dict[str, Any]:  # fmt: skip
    """What is left of plain text."""
    masked, whole = perplexity(of.model, texts, len(of.data.stream.tokenizer))
    return {
        "part": "text", "arm": arm, "steps": steps, "tokens": texts.numel(), "perplexity": round(masked, 4),
        "perplexity_with_new": round(whole, 4), "losses": losses, "learn_s": round(seconds, 1),
    }  # fmt: skip


def claims(record: Record) -> list[dict[str, Any]]:
    """What was to be shown."""

    def shares(arm: str, steps: int) -> dict[tuple[str, str], float]:
        rows = [r for r in record.rows if r.get("arm") == arm and r["steps"] == steps and r.get("voices") == "known"]
        return {(r["from"], r["to"]): r["right"] / r["asked"] for r in rows}

    texts = {(r["arm"], r["steps"]): r["perplexity"] for r in record.rows if r.get("part") == "text"}
    same = record.find(part="same text") or {}
    names = {IMAGE: "picture", TEXT: "word", AUDIO: "sound"}
    found = shares(TRAINED, STEPS)
    return [
        *(claim(f"{names[a]} to {names[b]}: share right", found[a, b], at_least=0.8) for a, b in WAYS),
        claim("wrong pairs: largest share right, of six", max(shares(WRONG, LOOK).values()), at_most=0.3),
        claim("untrained: largest share right, of six", max(shares(UNTRAINED, 0).values()), at_most=0.3),
        claim(
            "perplexity of text with new ids masked, times that of before",
            texts[TRAINED, STEPS] / texts[UNTRAINED, 0],
            at_most=1.03,
        ),
        claim("share of text's logits that new rows leave as they were, bit for bit", float(same["equal"]), at_least=1),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows = document["rows"]
    names = {"image": "picture", "text": "word", "audio": "sound"}
    ways: dict[tuple[str, ...], list[str]] = {}
    arms = list(dict.fromkeys((r["arm"], r["steps"]) for r in rows if "voices" in r))
    last = arms[1:2] and max(arms, key=lambda arm: arm[1])
    for voices in ("known", "new"):
        for r in rows:
            if r.get("voices") == voices:
                cells = ways.setdefault((voices, r["from"], r["to"]), [""] * len(arms))
                cells[arms.index((r["arm"], r["steps"]))] = f"{r['right']} of {r['asked']}"
    right = [
        (f"{names[a]} to {names[b]}" + (", new voice" if voices == "new" else ""), *cells)
        for (voices, a, b), cells in ways.items()
    ]
    said = [
        (
            f"{names[r['from']]} to {names[r['to']]}",
            *(str(r[k]) for k in ("asked", "right_by_real", "distinct", "copies")),
        )
        for r in rows
        if r.get("voices") == "known" and (r["arm"], r["steps"]) == last and r["to"] != "text"
    ]
    texts = [
        (f"{r['arm']}, {r['steps']} steps", fixed(r["perplexity"], 3), fixed(r["perplexity_with_new"], 3))
        for r in rows
        if r.get("part") == "text"
    ]
    judges = [
        (("" if r["part"] == "judges" else "counts of codes alone: ") + name, percent(v))
        for r in rows
        if r.get("part") in ("judges", "counts")
        for name, v in r.items()
        if name != "part"
    ]
    heads = ("from and to", *(f"{arm}, {steps} steps" for arm, steps in arms))
    return [
        Table("Digits that come out as they went in", heads, right),
        Table(
            "What was drawn and spoken",
            ("from and to", "asked", "right for the `real` judge", "distinct", "the same as a known one"),
            said,
        ),
        Table("Held-out signals that the judges know, or counts of codes", ("signals", "right"), judges),
        Table("Perplexity of plain text", ("model", "new ids masked", "all ids"), texts),
    ]


if __name__ == "__main__":
    main()
