"""Reading a prompt with a part of it: seconds, and how far the end of the text is from a dense reading."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from statistics import mean
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers.cache_utils import DynamicCache

from benchmarks.forced import Attach, dense, ids, using
from benchmarks.record import BUILD, Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, interval, show
from tokenry.attend.calibrated.boundaries import Boundaries, starts
from tokenry.attend.calibrated.drift import drifting
from tokenry.attend.token_sparse import TokenSparse
from tokenry.measure.statistics import intervals
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import divergence

TITLE = "Reading a prompt sparsely"
SUBJECTS = ("attend/token_sparse", "attend/dhsa", "attend/spatten", "attend/token_select")
ABOUT = (
    "SmolLM2-135M reads 2,048 or 4,096 tokens of prose in one pass. KL is from the next-token distributions of a dense "
    "reading, in nats, mean over the last 64 tokens, with intervals by bootstrap over passages. Pairs are the queries "
    "times the keys they attend to, beside those of dense reading. `random tokens` keeps as many tokens of each head "
    "as `token_sparse`; `random layers` acts in as many layers as those with the least drift; `window` reads the first "
    "and the most recent tokens alone. `learned chunks` are cut by a predictor that read eight texts of 1,024 tokens; "
    "its F1 against the boundaries of attention is on texts it did not read, for boundaries off by two tokens at most."
)

LENGTHS = (2048, 4096)
DOCUMENTS = ("moby_dick", "sotu_1930", "sotu_1975")
LEARNT_FROM = ("constitution", "in_the_year_2889")
LAST, SAMPLE, CHUNK = 64, 1024, 64
ROWS = "budget=0.25:sink=16:recent=64:per=layer"
ARMS = {
    "dense": None,
    "token_sparse": "token_sparse:tail=0.05,least=256,layers={quiet}",
    "token_sparse, random tokens": "token_sparse:tail=0.05,least=256,layers={quiet}",
    "token_sparse, random layers": "token_sparse:tail=0.05,least=256,layers={random}",
    "dhsa, chunks of 64": f"dhsa:{ROWS},block=64",
    "dhsa, chunks of 64, plain means": f"dhsa:{ROWS},block=64,norm=none",
    "dhsa, learned chunks": f"dhsa:{ROWS},block=64,predictor={{predictor}}",
    "token_select, blocks of 64": f"token_select:{ROWS},chunk=64,reuse=1.01",
    "window": "token_select:budget=80:sink=16:recent=64:per=layer,chunk=64,reuse=1.01",
    "spatten": "spatten:keep=0.5",
}  # fmt: skip


def main() -> None:
    """Measure all arms, passage by passage."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="one passage of the shorter length, not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    language = load("smollm2", dtype="float32")
    settings = {"lengths": LENGTHS, "documents": DOCUMENTS, "arms": ARMS, "last": LAST, "learnt_from": LEARNT_FROM}
    record = Record("attend/prompts", dtype="float32", settings=settings, save=not given.quick)
    words, found = prepared(language)
    if record.find(part="boundaries") is None:
        record.add({"part": "boundaries"} | found)
    passages = list(product(LENGTHS, DOCUMENTS))[: 1 if given.quick else None]
    for length, document in track(passages, "passages"):
        missing = [arm for arm in ARMS if record.find(length=length, document=document, arm=arm) is None]
        if missing:
            record.add(*(row for row in measure(language, length, document, words, missing) if row["arm"] in missing))
    show(record.finish(claims(record.rows)), tables)


def prepared(language: LanguageModel) -> tuple[dict[str, str], Row]:
    """What the arms need: quiet layers, as many others, and a predictor of boundaries with its F1."""
    model, count = language.model, language.model.config.num_hidden_layers
    samples = [
        text[i * SAMPLE : (i + 1) * SAMPLE] for text in (ids(language, n) for n in LEARNT_FROM) for i in range(4)
    ]
    quiet = drifting(model, samples[0])
    others = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: len(quiet)].sort().values.tolist()
    folder = BUILD / "boundaries"
    if not folder.exists():
        Boundaries.fit(model, samples, chunk=CHUNK).save(folder)
    made = Boundaries.at(str(folder))
    scores: dict[str, list[float]] = {"learned": [], "every 64": [], "random": []}
    for document in DOCUMENTS:
        keys, labels = made.examples(model, ids(language, document)[:SAMPLE], CHUNK, 1.1)
        true, n = labels.nonzero()[:, 0], len(labels)
        chance = torch.rand(n, generator=torch.Generator().manual_seed(0))
        said = {
            "learned": made.cut(keys, n // CHUNK)[1:] - 1, "every 64": torch.arange(CHUNK, n, CHUNK) - 1,
            "random": starts(chance, n // CHUNK - 1, made.apart, floor=0.0)[1:] - 1,
        }  # fmt: skip
        for name, places in said.items():
            scores[name].append(f1(places, true))
    words = {"quiet": "+".join(map(str, quiet)), "random": "+".join(map(str, others)), "predictor": str(folder)}
    return words, {f"f1, {name}": round(mean(values), 4) for name, values in scores.items()} | {"quiet": list(quiet)}


def f1(said: Tensor, true: Tensor, within: int = 2) -> float:
    """Of boundaries that may be a little off."""
    near = (said[:, None] - true[None]).abs() <= within
    precision, recall = (near.any(axis).float().mean().item() for axis in (1, 0))
    return 2 * precision * recall / max(precision + recall, 1e-9)


@torch.inference_mode()
def measure(
    language: LanguageModel, length: int, document: str, words: Mapping[str, str], some: Collection[str]
) -> list[Row]:
    """Dense reading and some arms, on the beginning of one document."""
    text, rows, exact = ids(language, document)[:length], [], None
    for arm, spec in ARMS.items():
        if spec is not None and arm not in some:
            continue
        attach = dense(language) if spec is None else using(language, spec.format(**words))
        with attached(arm, attach, length) as run:
            start = time.perf_counter()
            cache = DynamicCache(config=language.model.config)
            out = language.model(input_ids=text[None], **with_cache(cache), logits_to_keep=LAST)
            seconds = time.perf_counter() - start
        said = out.logits[0].float()
        exact = said if exact is None else exact
        kl = divergence(exact, said)[0].clamp_min(0).mean().item()
        pairs = None if run is None else run.reads.pairs / len(language.model.model.layers)
        rows.append(
            {"length": length, "document": document, "arm": arm, "kl": round(kl, 5), "seconds": round(seconds, 2),
             "pairs": None if pairs is None else round(pairs / (length * (length + 1) / 2), 3)}
        )  # fmt: skip
    return rows


@contextmanager
def attached(arm: str, attach: Attach, length: int) -> Iterator[Any]:
    """An arm; that of random tokens keeps as many as the method would."""
    kept, draw = TokenSparse._kept, torch.Generator().manual_seed(0)

    def by_chance(self: TokenSparse, site: Any) -> Tensor | None:
        rows = kept(self, site)
        if rows is None:
            return None
        n = site.k.shape[2] - self.window
        some = torch.rand(len(rows), n, generator=draw).topk(rows.shape[1] - self.window).indices.sort(-1).values
        return torch.cat((some, rows[:, -self.window :]), -1)

    if arm.endswith("random tokens"):
        TokenSparse._kept = by_chance  # type: ignore[method-assign]
    try:
        with attach(length) as run:
            yield run
    finally:
        TokenSparse._kept = kept  # type: ignore[method-assign]


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """What the choice of tokens, of layers and of chunks is worth."""
    kl = {arm: torch.tensor([r["kl"] for r in mine]) for arm, mine in by([r for r in rows if "arm" in r], "arm")}
    cuts = next(r for r in rows if r.get("part") == "boundaries")
    pairs = (
        ("token_sparse", "token_sparse, random tokens", "its tokens"),
        ("token_sparse", "token_sparse, random layers", "layers with little drift"),
        ("dhsa, chunks of 64", "window", "chunks beside a window"),
        ("dhsa, learned chunks", "dhsa, chunks of 64", "learned chunks"),
    )
    found = [
        claim(f"{arm}: KL of {other} over its own ({what})", (kl[other].mean() / kl[arm].mean()).item(), at_least=1.0)
        for arm, other, what in pairs
    ]
    return [
        *found,
        claim(
            "learned boundaries: F1 over that of random ones",
            cuts["f1, learned"] / max(cuts["f1, random"], 1e-9),
            at_least=1.5,
        ),
    ]


def tables(document: Result) -> list[Table]:
    """For each length the arms, nearest to dense first, and how well boundaries are found."""
    rows = [r for r in document["rows"] if "arm" in r]
    found = []
    for length, mine in by(rows, "length"):
        time_of = dict(by(mine, "arm"))
        base = mean(r["seconds"] for r in time_of["dense"])
        lines = []
        for arm, them in sorted(time_of.items(), key=lambda one: mean(r["kl"] for r in one[1])):
            kl = torch.tensor([r["kl"] for r in them])
            share = [r["pairs"] for r in them if r["pairs"] is not None]
            lines.append((
                arm, f"{kl.mean():.4f} ({interval(intervals.of_mean(kl), 4)})", fixed(mean(share) if share else 1.0, 2),
                fixed(mean(r["seconds"] for r in them), 1), fixed(base / mean(r["seconds"] for r in them), 2),
            ))  # fmt: skip
        found.append(Table(f"{length:,} tokens", ("arm", "KL (95 %)", "pairs", "seconds", "times faster"), lines))
    cuts = next(r for r in document["rows"] if r.get("part") == "boundaries")
    f1s = [(name.removeprefix("f1, "), fixed(value, 3)) for name, value in cuts.items() if name.startswith("f1")]
    return [*found, Table("Boundaries", ("cut by", "F1"), f1s)]


if __name__ == "__main__":
    main()
