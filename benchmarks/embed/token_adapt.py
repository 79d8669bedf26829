"""How well a model predicts text after its vocabulary was exchanged, by how the new pieces are embedded.

SmolLM2 gets byte-level BPE of 16,384 pieces, trained on the first half of every sample document and on what Python's
own library says of itself, or with `--tokenizer` the vocabulary of another model. Passages are from the second halves.
No model is trained: what differs between the arms are only the rows of pieces that the old vocabulary does not have.
`original rows, new cuts` reads these pieces as the old ones that spell them, and `new cuts, one stretch at a time` only
those of the stretch that is predicted: what it loses is lost in writing, not in reading.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from benchmarks.arms import others
from benchmarks.embed.rows import rows_trained_on
from benchmarks.embed.stretches import bits_of_stretches
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry.core.registry import parse
from tokenry.data import documents, read
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.bits import bits_of
from tokenry.embed.transfer.transplant import MADE, Transplant
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load, load_tokenizer
from tokenry.models.text.vocabulary import vocabulary_of

TITLE = "Another vocabulary"
SUBJECTS = ("embed/token_adapt", "embed/zett")
ABOUT = (
    "SmolLM2-135M gets byte-level BPE of 16,384 pieces, trained on the first half of every sample document and on "
    "the docstrings and topics of Python's own library; and then the vocabulary of Qwen3, with 151,669 ids. The model "
    "is not trained. Bits per byte are of four passages of 1,200 characters from the second half of each sample "
    "document, intervals by bootstrap over documents. `mean of pieces` is the usual baseline; `local only` and `global "
    "only` are the two parts of `token_adapt`. New tokens are those of the passages whose rows were made; all made "
    "rows compete in every prediction. Of `new cuts, one stretch at a time` all that stands before a stretch is cut as "
    "the model is used to, so that what is lost is lost in writing other pieces, not in reading them. `zett` predicts "
    "the rows of shared pieces too; its hypernetwork was trained for ten minutes of one core on the first halves, Moby "
    "Dick and other addresses (`python -m benchmarks.embed.zett`). `rows trained on` is no hypernetwork: all rows of "
    "this one vocabulary learn from the same texts for 60 steps of 512 tokens, before a model that stays as it is."
)

PIECES, PASSAGES, CHARACTERS = 16384, 4, 1200
REAL = "Qwen/Qwen3-0.6B"
"""The vocabulary of the recorded result beside the trained one; any folder with its files gives the same."""

ORIGINAL, CUTS, MEAN = "original vocabulary", "original rows, new cuts", "mean of pieces"
ALONE = "new cuts, one stretch at a time"
LOCAL, HYBRID, GLOBAL = "token_adapt, local only", "token_adapt", "token_adapt, global only"
ZETT = "zett"
NAMED = {
    ORIGINAL: None,
    CUTS: None,
    ALONE: None,
    "random rows": "embed/random",
    MEAN: "mean_of_pieces",
    LOCAL: "token_adapt:weight=0",
    HYBRID: "token_adapt",
    "token_adapt, weight 0.6": "token_adapt:weight=0.6",
    GLOBAL: "token_adapt:weight=1",
    ZETT: "zett:hypernetwork=build/zett/smollm2-books-1",
}
ON = ", rows trained on"
ARMS = NAMED | others("embed", NAMED) | {arm + ON: NAMED[arm] for arm in (ZETT, MEAN, ORIGINAL)}
PURSUIT = "matching_pursuit"
IN_REAL = {arm: spec for arm, spec in ARMS.items() if arm != PURSUIT and ON not in arm} | {
    f"{PURSUIT}, 8 atoms": f"embed/{PURSUIT}:atoms=8"
}
"""Of a vocabulary with a hundred thousand new pieces."""


def main() -> None:
    """Measure all arms on all passages, or on fewer for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tokenizer", help="take this one: an alias, a folder or a hub id")
    options.add_argument("--without", nargs="*", default=(), help="arms that are not measured this time")
    options.add_argument("--again", nargs="*", default=(), metavar="ARM", help="arms that are measured anew")
    options.add_argument("--passages", type=int, default=PASSAGES, help="passages of each document")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    tokenizer = trained() if given.tokenizer is None else load_tokenizer(given.tokenizer)
    arms = {
        arm: spec for arm, spec in (ARMS if given.tokenizer is None else IN_REAL).items() if arm not in given.without
    }
    settings = {
        "model": "smollm2", "vocabulary": vocabulary_of(tokenizer).fingerprint[:16], "documents": list(documents()),
        "passages": given.passages, "characters": CHARACTERS, "arms": arms,
    }  # fmt: skip
    record = Record(
        "embed/token_adapt" if given.tokenizer is None else "embed/token_adapt_real",
        script="embed/token_adapt",
        options="" if given.tokenizer is None else f"--tokenizer {REAL}",
        dtype="float32",
        settings=settings,
        save=given.passages == PASSAGES,
        grows=True,
        again=given.again,
    )
    language = load("smollm2", dtype="float32")
    plan = Transplant.of(language, tokenizer)
    for arm, spec in arms.items():
        if record.find(arm=arm) is None:
            record.add(*measured(arm, spec, language, plan, given.passages))
            print(arm, round(by_document(record.rows, arm).mean().item(), 4), flush=True)
    show(record.finish(claims(record)), tables)


def trained() -> PreTrainedTokenizerBase:
    """Byte-level BPE of text that holds no passage."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    halves = [text[: len(text) // 2] for text in map(read, documents())]
    tokenizer.train_from_iterator([*halves, *topics.values(), *docstrings()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def docstrings() -> Iterator[str]:
    """What the modules, classes and functions of Python's own library say of themselves."""
    home = Path(sysconfig.get_path("stdlib"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file in sorted(home.rglob("*.py")):
        if not {"site-packages", "test", "tests", "idle_test", "lib2to3"}.isdisjoint(file.relative_to(home).parts):
            continue
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        yield from (text for node in nodes if isinstance(node, kinds) and (text := ast.get_docstring(node)))


def passages(name: str, count: int) -> Iterator[str]:
    """Passages spread evenly over the second half of a document, from one space to another."""
    text = read(name)
    half = len(text) // 2
    room = (len(text) - half - CHARACTERS - 100) // max(1, count - 1)
    for i in range(count):
        start = text.index(" ", half + i * room)
        yield text[start : text.index(" ", start + CHARACTERS)]


def measured(arm: str, spec: str | None, language: LanguageModel, plan: Transplant, count: int) -> list[Row]:
    """Bits per byte of every passage, with how many of its tokens are new pieces."""
    method = None if spec is None else parse(spec)
    if method is not None:
        assert isinstance(method, EmbeddingTable)
        plan = method.plan(language, plan.tokenizer)
        language = plan.build(method.table(plan.pieces, plan.donor))
    if arm.endswith(ON):
        language = rows_trained_on(
            language if method is not None else replace(language, model=deepcopy(language.model))
        )
    found = []
    for name in documents():
        for i, text in enumerate(passages(name, count)):
            ids = (language if arm.startswith(ORIGINAL) else plan).tokenizer(text, add_special_tokens=False)[
                "input_ids"
            ]
            assert arm.startswith(ORIGINAL) or plan.vocabulary.spell(ids) == text.encode()
            new = int((plan.source[ids] == MADE).sum()) if not arm.startswith(ORIGINAL) else 0
            ids = recut(plan, ids) if arm in (CUTS, ALONE) else ids
            own = language.tokenizer(text, add_special_tokens=False)["input_ids"] if arm == ALONE else []
            bits = bits_of_stretches(language, own, ids) if arm == ALONE else bits_of(language, ids)
            row = {
                "arm": arm, "spec": spec, "document": name, "passage": i, "tokens": len(ids), "new": new,
                "bits_per_byte": round(bits / len(text.encode()), 5),
            }  # fmt: skip
            found.append(row if method is None else row | plan.counts)
    return found


def recut(plan: Transplant, ids: list[int]) -> list[int]:
    """The ids of the new vocabulary as those of the old one, a new piece as the old ones that spell it."""
    parts = plan.donor.cut([plan.vocabulary[i] for i in ids])
    old = plan.source[ids].tolist()
    return [j for i, part in zip(old, parts, strict=True) for j in (part if i == MADE else [i])]


def claims(record: Record) -> list[dict[str, Any]]:
    """The mixture is better than the mean of pieces and than each of its parts."""
    bits = {arm: by_document(record.rows, arm) for arm in (MEAN, LOCAL, HYBRID, GLOBAL)}
    found = []
    for arm, needed in ((MEAN, 0.03), (LOCAL, 0.0), (GLOBAL, 0.0)):
        less = bits[arm] - bits[HYBRID]
        found.append(
            claim(f"bits per byte that {HYBRID} needs less than {arm}", less.mean().item(), at_least=needed)
            | {"interval": [round(end, 4) for end in intervals.of_mean(less)]}
        )
    less = bits[HYBRID] - by_document(record.rows, ZETT)
    gap = (bits[MEAN] - by_document(record.rows, ORIGINAL)).mean().item()
    share = (bits[MEAN] - by_document(record.rows, ZETT)).mean().item() / gap
    return [
        *found,
        claim(f"bits per byte that {ZETT} needs less than {HYBRID}", less.mean().item(), at_least=0.0)
        | {"interval": [round(end, 4) for end in intervals.of_mean(less)]},
        claim(f"share of the way from {MEAN} to the original vocabulary that {ZETT} goes", share, at_least=0.5),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    order = {arm: i for i, arm in enumerate(document["settings"]["arms"])}
    arms = sorted(by(document["rows"], "arm"), key=lambda arm: order.get(arm[0], -1))
    names = [name for name, _ in by(document["rows"], "document")]
    bits = {
        arm: torch.tensor([mean(r["bits_per_byte"] for r in mine) for _, mine in by(rows, "document")])
        for arm, rows in arms
    }
    cells = []
    for arm, rows in arms:
        new = f"{100 * sum(r['new'] for r in rows) / sum(r['tokens'] for r in rows):.1f} %"
        cells.append((arm, fixed(bits[arm].mean().item(), 3), *(fixed(b, 3) for b in bits[arm].tolist()), new))
    made = next(r for r in document["rows"] if "made" in r)
    title = f"{made['copied']:,} rows copied, {made['made']:,} made; {len(arms[0][1])} passages"
    return [Table(title, ("arm", "bits per byte", *names, "new tokens"), cells)]


def by_document(rows: list[Row], arm: str) -> torch.Tensor:
    """Mean bits per byte of each document."""
    return torch.tensor(
        [mean(r["bits_per_byte"] for r in rows if r["arm"] == arm and r["document"] == name) for name in documents()]
    )


if __name__ == "__main__":
    main()
