"""How well linearised layers of SmolLM2 do what attention did, by their maps and by what they keep.

Every arm learns from what attention saw and said in the same batches; then the model predicts other passages through
the linearised layers. Last, the first arm's model learns around its layers with LoRA.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import tokenry.data as samples
from benchmarks.record import BUILD, Record, Row, claim
from benchmarks.tables import Result, Table, fixed, percent, show
from tokenry.attend.layers.layer import memory_bytes
from tokenry.attend.linearising.teaching import Lesson, distance, distil, lessons, tune
from tokenry.attend.running.run import held_bytes
from tokenry.attend.still import Still
from tokenry.core.schooling import Schooling
from tokenry.models.cache.name import NAME as CACHE
from tokenry.models.files.load import LanguageModel, load

NAME = "attend/still"
TITLE = "Linearised layers of a trained model"
SUBJECTS = ("attend/still",)
ABOUT = (
    "Layers 6, 12 and 18 of SmolLM2-135M keep one token in sixteen of each chunk of 64 that has left the window, and "
    "fold the others into sums. Their maps learn for some steps from what attention saw and said in passages of 512 "
    "tokens of four sample documents; all other weights rest. Distance is the mean squared one of the heads' outputs "
    "in passages of the fifth document, relative to their mean square. Loss is that of the second half of 768 of its "
    "tokens, predicted through the linearised layers. Bytes are those of the linearised layers after these, sums "
    "included, relative to dense ones: sums are as many bytes as 65 tokens. The paper linearises all layers of models "
    "60 times larger with 40 million tokens; here it is a fraction of a percent of that. Saliency always keeps the "
    "first token of a text, on which heads rest that have nothing to say: most of what it gains over random tokens is "
    "that."
)
LAYERS = (6, 12, 18)
TEACHING, TEST = ("moby_dick", "sotu_1930", "sotu_1975", "constitution"), "in_the_year_2889"
ROWS, LENGTH, BATCHES, LONG = 1, 512, 8, 768
STEPS, TUNING = 60, 4
FIRST = "saliency"
ARMS: dict[str, dict[str, Any]] = {
    FIRST: {},
    "saliency, hedgehog": {"map": "hedgehog"},
    "random": {"choose": "random"},
    "random beside the first token": {"choose": "first"},
    "nothing kept": {"share": 0.0},
}


def main() -> None:
    """All arms; what is measured already is not measured again."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.parse_args()
    torch.set_num_threads(1)
    record = Record(
        NAME, dtype="float32", save=True, grows=True,
        settings={
            "model": "smollm2", "layers": LAYERS, "rows": ROWS, "length": LENGTH, "batches": BATCHES, "long": LONG,
            "steps": STEPS, "tuning": TUNING, "arms": ARMS,
        },
    )  # fmt: skip
    language = load("smollm2", dtype="float32", device="cpu")
    test = [passages(language, TEST, 1, LENGTH, at=at) for at in (0, 1)]
    long = passages(language, TEST, 1, LONG, at=2)
    if record.find(arm="dense") is None:
        with torch.no_grad():
            record.add({"arm": "dense", "loss": predicted(language, long)[0]})
    left = [arm for arm in ARMS if record.find(arm=arm) is None]
    if left:
        blank = Still.begun(language, LAYERS)
        taught = lessons(blank, language.model, [
            passages(language, TEACHING[i % 4], ROWS, LENGTH, at=i // 4) for i in range(BATCHES)
        ])  # fmt: skip
        tested = lessons(blank, language.model, test)
        for arm in left:
            record.add(measured(language, arm, taught, tested, long))
            print(record.rows[-1], flush=True)
    if record.find(arm="saliency, tuned") is None:
        record.add(tuned(language, long))
        print(record.rows[-1], flush=True)
    show(record.finish(claims(record.rows)), tables)


def passages(language: LanguageModel, name: str, rows: int, length: int, *, at: int) -> Tensor:
    """Passages of a document, one after the other; `at` counts batches of them."""
    ids = torch.tensor(language.tokenizer(samples.read(name), verbose=False)["input_ids"])
    low = at * rows * length
    return ids[low : low + rows * length].view(rows, length)


def relative(method: Still, tested: list[Lesson]) -> float:
    """The squared distance from what attention says, relative to the size of that."""
    far = sum(float(distance(method, one)) for one in tested)
    size = sum(float(torch.stack([out.square().mean() for _, out in one.values()]).mean()) for one in tested)
    return round(far / size, 5)


def predicted(language: LanguageModel, ids: Tensor, method: Still | None = None) -> tuple[float, int, int]:
    """The loss of the second half; and bytes that linearised layers hold, and all layers."""
    with method(language.model) if method is not None else nullcontext():
        out = language.model(input_ids=ids, use_cache=True)
    half = ids.shape[1] // 2
    loss = cross_entropy(out.logits[:, half - 1 : -1].flatten(0, 1).float(), ids[:, half:].flatten())
    held = sum(
        layer.held_bytes + memory_bytes(layer.states)
        for i, layer in enumerate(out[CACHE].layers)
        if method is not None and i in method.layers
    )
    return round(float(loss), 4), held, held_bytes(out[CACHE])


def measured(language: LanguageModel, arm: str, taught: list[Lesson], tested: list[Lesson], long: Tensor) -> Row:
    """One arm, before and after its maps have learned."""
    began = time.process_time()
    method = Still.begun(language, LAYERS, **ARMS[arm])
    with torch.no_grad():
        before = relative(method, tested)
    folder = BUILD / "still" / arm.replace(", ", "_").replace(" ", "_")
    method, _ = distil(method, taught, STEPS, how=Schooling(rate=1e-2, decay=0.0, clip=1.0, every=25), folder=folder)
    with torch.no_grad():
        loss, held, _ = predicted(language, long, method)
        dense = 2 * len(LAYERS) * LONG * len(long) * 3 * 64 * 4
        return {
            "arm": arm, "before": before, "distance": relative(method, tested), "loss": loss,
            "bytes": round(held / dense, 4), "seconds": round(time.process_time() - began, 1),
        }  # fmt: skip


def tuned(language: LanguageModel, long: Tensor) -> Row:
    """The first arm, after its model has learned around it."""
    method, _ = distil(
        Still.begun(language, LAYERS), [{}], STEPS, folder=BUILD / "still" / FIRST,
        how=Schooling(rate=1e-2, decay=0.0, clip=1.0, every=25),
    )  # fmt: skip
    began = time.process_time()
    rows = [passages(language, TEACHING[i % 4], ROWS, LENGTH, at=i // 4) for i in range(TUNING)]
    model, losses = tune(method, language.model, rows, TUNING)
    with torch.no_grad():
        base = replace(language, model=model.get_base_model())
        loss = predicted(base, long, method)[0]
        model.disable_adapter_layers()
        plain = predicted(base, long)[0]
    return {
        "arm": "saliency, tuned", "loss": loss, "plain": plain, "first": round(losses[0], 4),
        "last": round(losses[-1], 4), "seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """Maps that keep norms are nearer, tokens that lean on themselves are worth keeping, and memory is freed."""
    at = {row["arm"]: row for row in rows}
    first = at[FIRST]
    return [
        claim("still: distance with maps that keep norms as a share of that with Hedgehog's",
              first["distance"] / at["saliency, hedgehog"]["distance"], at_most=1.0),
        claim("still: distance with tokens kept by saliency as a share of that with random ones",
              first["distance"] / at["random"]["distance"], at_most=0.9),
        claim("still: the same, where the first token of the text stays beside random ones",
              first["distance"] / at["random beside the first token"]["distance"], at_most=0.9),
        claim("still: distance with tokens kept as a share of that with none",
              first["distance"] / at["nothing kept"]["distance"], at_most=0.9),
        claim("still: loss above that of dense attention, nats", first["loss"] - at["dense"]["loss"], at_most=0.1),
        claim("still: loss with saliency below that with random tokens, nats",
              at["random"]["loss"] - first["loss"], at_least=0.0),
        claim("still: distance after learning as a share of that before", first["distance"] / first["before"],
              at_most=0.7),
        claim("still: loss after LoRA below that before, nats", first["loss"] - at["saliency, tuned"]["loss"],
              at_least=0.0),
        claim("still: bytes of linearised layers after 768 tokens as a share of dense ones", first["bytes"],
              at_most=0.5),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("kept", "distance before", "distance", "loss", "bytes", "seconds")
    cells = [
        (
            r["arm"], fixed(r.get("before"), 4), fixed(r.get("distance"), 4), fixed(r["loss"], 4),
            percent(r.get("bytes")), fixed(r.get("seconds"), 0),
        )
        for r in document["rows"]
    ]  # fmt: skip
    return [Table("three layers of SmolLM2, linearised", heads, cells)]


if __name__ == "__main__":
    main()
