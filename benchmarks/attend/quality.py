"""Every attention method at equal rows: how far it is from dense on prose and code, and which facts it still finds.

The prompt is read inside the method; what is fed then goes token by token. Every method of the room is an arm and has
a file of its own in the results, so a new method is measured alone:

    python -m benchmarks.attend.quality --only NAME
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean
from sysconfig import get_path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks import record
from benchmarks.arms import at_rows, methods
from benchmarks.charts import chart
from benchmarks.facts import Asked, hidden
from benchmarks.forced import Attach, dense, feed, ids, read, tokens, using
from benchmarks.record import Record, Row, claim
from benchmarks.tables import MIB, Result, Table, by, fixed, interval, show
from tokenry.attend.rows.choose import choose
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.measure.statistics import intervals
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import divergence
from tokenry.models.generate.cost import row_bytes

NAME = "attend/quality"
ROWS, CLAIMED = (32, 64, 256), 64
PREFIX, FED, BEGUN = 768, 16, 6
"""Tokens of a prompt, those that are fed after it, and those with which an answer is begun, more or less."""
PLACES = (0.5,)
PROSE = ("moby_dick", "sotu_1975", "in_the_year_2889")
CODE = ("argparse", "calendar", "statistics")
"""Modules of Python's own library."""
HIDING = ("sotu_1930", "constitution", "moby_dick")
DENSE, ORACLE, CHANCE = "dense", "top_k", "random"
CONTROLS = (DENSE, ORACLE, CHANCE)

TITLE = "Attention methods at equal rows"
SUBJECTS = (DENSE, ORACLE, *(entry.full_name for entry in methods("attend", learned=False)))
ABOUT = (
    "SmolLM2-135M in 32-bit floats reads 768 tokens of prose or of Python, then 16 given tokens one by one. KL is "
    "from the dense next-token distribution, in nats, with intervals by bootstrap over three passages; top 1 is how "
    "often the likeliest token is the same. Facts: each of three texts of 768 tokens hides eight sentences such as "
    "`The profession of Martin is baker.`; the model reads a question, the answer is begun token by token, and the "
    "word must be the likeliest token. Settings follow one rule: four sinks and a quarter of recent tokens in the "
    "budget, or half where that is the method's own default, no dense layers, prompts read densely where a field "
    "allows it; what holds all generated tokens holds so many fewer of the prompt that it reads as many rows on "
    "average. `top_k` is the oracle that reads the rows with the most attention, summed over the heads that share "
    "keys; `random` is the control. Rows are per KV head, read on average while prose is fed; bytes are all keys, "
    "values and what stands for keys that a step reads to choose and to attend, in all layers."
)

Spec = str | None
"""What an arm is attached with; None for the controls that are no method."""


@dataclass(frozen=True, eq=False)
class Task:
    """What all arms are asked, and what dense attention says.

    Args:
        passages: by kind, document and place: a prompt (768) and what is fed after it (16).
        texts: by document and place: a text (768) that hides facts, and the questions.
    """

    language: LanguageModel
    passages: Mapping[tuple[str, str, float], tuple[Tensor, Tensor]]
    texts: Mapping[tuple[str, float], tuple[Tensor, list[Asked]]]
    _dense: dict[tuple[str, str, float], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, language: LanguageModel) -> Task:
        """Everything as tokens."""
        library = Path(get_path("stdlib"))
        prose = {("prose", name): ids(language, name) for name in PROSE}
        code = {("code", n): tokens(language, (library / f"{n}.py").read_text(encoding="utf-8")) for n in CODE}
        passages = {}
        for ((kind, name), text), place in product((prose | code).items(), PLACES):
            at = int(place * (len(text) - PREFIX - FED))
            passages[kind, name, place] = text[at : at + PREFIX], text[at + PREFIX : at + PREFIX + FED]
        texts = {(name, place): hidden(language, name, place, PREFIX) for name, place in product(HIDING, PLACES)}
        return cls(language, passages, texts)

    @property
    def fingerprint(self) -> str:
        """Of all tokens."""
        parts = [*(torch.cat(pair) for pair in self.passages.values()), *(text for text, _ in self.texts.values())]
        return hashlib.sha256(torch.cat(parts).numpy().tobytes()).hexdigest()[:16]

    def dense(self, passage: tuple[str, str, float]) -> Tensor:
        """Logits (16, V) of dense attention, found once."""
        if passage not in self._dense:
            prompt, rest = self.passages[passage]
            with dense(self.language)(PREFIX):
                self._dense[passage] = feed(self.language, read(self.language, prompt)[0], rest).logits
        return self._dense[passage]


def main() -> None:
    """Measure the arms that are not recorded yet, or those that are named."""
    known = [*CONTROLS, *(entry.name for entry in methods("attend", learned=False) if entry.name not in CONTROLS)]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=known, metavar="NAME", help="these arms")
    options.add_argument("--again", action="store_true", help="measure them anew")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    task = Task.of(load("smollm2", dtype="float32"))
    for name in given.only or known:
        settings = {
            "model": "smollm2", "prefix": PREFIX, "fed": FED, "places": PLACES, "prose": PROSE, "code": CODE,
            "hiding": HIDING, "texts": task.fingerprint, "arms": arms(name),
        }  # fmt: skip
        found = record.read(f"{NAME}/{name}")
        if given.again or found is None or found["settings"] != record.plain(settings):
            rows = Record(
                f"{NAME}/{name}", script=NAME, options=f"--only {name}", dtype="float32", settings=settings, save=True,
                grows=True,
            )  # fmt: skip
            measure(task, name, rows)
            rows.finish(claims(name, rows.rows))
    document = record.read(NAME)
    assert document is not None
    show(document, tables)


def arms(name: str) -> dict[str, dict[str, Spec]]:
    """The settings of one method by the number of rows, for passages and for facts; a sentence where it refuses."""
    if name in (DENSE, ORACLE):
        return {str(rows): {"passages": None, "facts": None} for rows in ((PREFIX,) if name == DENSE else ROWS)}
    entry = next(e for e in methods("attend") if e.name == name)
    found: dict[str, dict[str, Spec]] = {}
    for rows in ROWS:
        try:
            specs = {part: at_rows(entry, rows, fed) for part, fed in (("passages", FED), ("facts", BEGUN))}
        except InvalidValue as error:
            found[str(rows)] = {"refused": str(error)}
            continue
        if specs["passages"] is None:
            return {"any": dict.fromkeys(specs, entry.full_name)}
        found[str(rows)] = specs
    return found


def measure(task: Task, name: str, rows: Record) -> None:
    """All settings of one method on everything that is not recorded yet."""
    for arm, specs in arms(name).items():
        if "refused" in specs:
            if rows.find(arm=arm) is None:
                rows.add({"method": name, "arm": arm} | specs)
            continue
        for passage in track(list(task.passages), f"{name}, {arm} rows: passages"):
            key = dict(zip(("part", "document", "place"), passage, strict=True)) | {"method": name, "arm": arm}
            if rows.find(**key) is None:
                rows.add(key | apart(task, passage, attached(task.language, name, arm, specs["passages"])))
        for document, place in track(list(task.texts), f"{name}, {arm} rows: facts"):
            key = {"part": "facts", "document": document, "place": place, "method": name, "arm": arm}
            if rows.find(**key) is None:
                attach = attached(task.language, name, arm, specs["facts"])
                rows.add(key | asked(task.language, *task.texts[document, place], attach))


def apart(task: Task, passage: tuple[str, str, float], attach: Attach) -> Row:
    """How far an arm is from dense on one passage."""
    prompt, rest = task.passages[passage]
    with attach(PREFIX) as run:
        cache = read(task.language, prompt)[0]
        before = _bytes_read(run)
        said = feed(task.language, cache, rest)
    kl, top1 = divergence(task.dense(passage), said.logits)
    whole = PREFIX + (FED + 1) / 2
    # The oracle reads all keys to choose, and half of a row is its key.
    known = row_bytes(task.language) * (whole if run is None else whole / 2 + run if isinstance(run, int) else 0)
    return {
        "kl": round(kl.clamp_min(0).mean().item(), 6), "top1": round(top1.mean().item(), 4),
        "rows_read": _rows_read(run, whole), "step_bytes": round(known or (_bytes_read(run) - before) / FED),
    }  # fmt: skip


@torch.inference_mode()
def asked(language: LanguageModel, text: Tensor, questions: list[Asked], attach: Attach) -> Row:
    """Which of the facts of one text an arm finds. The text is read once, and each question on a copy of its cache."""
    right, logprobs = [], []
    with attach(None) as run:
        whole, _ = read(language, text)
        for question in questions:
            own = copy.deepcopy(whole)
            language.model(input_ids=question.ask[None], **with_cache(own), logits_to_keep=1)
            last = feed(language, own, question.begun).logits[-1]
            right.append(bool(last.argmax() == question.word))
            logprobs.append(last.log_softmax(-1)[question.word].item())
    return {
        "right": sum(right), "asked": len(right), "logprob": round(mean(logprobs), 4),
        "rows_read": _rows_read(run, len(text) + len(questions[0].ask) + (len(questions[0].begun) + 1) / 2),
    }  # fmt: skip


def attached(language: LanguageModel, name: str, arm: str, spec: Spec) -> Attach:
    """Dense attention, the oracle, or a method."""
    if name == DENSE:
        return dense(language)
    return most_attended(language, int(arm)) if name == ORACLE else using(language, spec or name)


def most_attended(language: LanguageModel, rows: int) -> Attach:
    """Every KV head reads the rows that its query heads together attend to most, found by attending to all."""
    budget = Budget(tokens=rows, per="head")

    def attend(site: Site) -> Tensor:
        if not site.decoding or site.buffer is None:
            return site.dense()
        votes = site.probs().unflatten(1, (site.k.shape[1], -1)).sum((2, 3))
        return site.narrow(choose(budget, votes, site.real(), site.seen(site.buffer.seen))).dense()

    @contextmanager
    def attach(_: int | None) -> Iterator[int]:
        with ModelAdapter.of(language.model).attached_to(lambda _: attend):
            yield rows

    return attach


def _bytes_read(run: Any) -> int:
    """Bytes of keys, values and what stands for keys that a run has read so far; 0 where nobody counts."""
    return 0 if run is None or isinstance(run, int) else run.reads.bytes


def _rows_read(run: Any, whole: float) -> float:
    """Rows that were read per step: as the run has counted, or as many as the oracle was given, or all."""
    if isinstance(run, int):
        return float(run)
    return round(whole if run is None else mean(run.reads.per_step), 1)


def claims(name: str, rows: list[Row]) -> list[dict[str, Any]]:
    """The facts need choosing and can be found by it; every method is to be better than chance at as many rows."""
    at = [r for r in rows if r["arm"] == str(CLAIMED)]
    if name == DENSE:
        return [claim(f"{name}: share of facts found", _found(rows), at_least=0.9)]
    if not at:
        return []
    share = f"{name}: share of facts found at {CLAIMED} rows"
    if name == ORACLE:
        return [claim(share, _found(at), at_least=0.8)]
    if name == CHANCE:
        return [claim(share, _found(at), at_most=0.3)]
    chance = record.read(f"{NAME}/{CHANCE}")
    if chance is None:
        return []
    random = [r for r in chance["rows"] if r["arm"] == str(CLAIMED)]
    over, under = (torch.tensor([r["kl"] for r in found if "kl" in r]) for found in (random, at))
    return [
        claim(f"{name}: times closer to dense than random rows, {CLAIMED} of them",
              (over.mean() / under.mean()).item(), at_least=1.0)
        | {"interval": [round(end, 2) for end in intervals.of_ratio(over, under)]},
        claim(f"{share}, above that of random rows", _found(at) - _found(random), at_least=0.05),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows: for each number of rows the methods, nearest to dense first."""
    heads = (
        "arm", "rows read", "MiB a step", "KL, prose (95 %)", "top 1", "KL, code (95 %)", "top 1", "facts found (95 %)",
        "log-probability",
    )  # fmt: skip
    arms = {arm: by(rows, "method") for arm, rows in by(document["rows"], "arm")}
    whole = arms.pop(str(PREFIX), [])
    found = []
    for arm in sorted(arms, key=lambda arm: int(arm) if arm.isdigit() else PREFIX):
        title = f"{arm} rows" if arm.isdigit() else "Methods without a budget"
        ranked = sorted(arms[arm], key=lambda one: mean([r["kl"] for r in one[1] if "kl" in r] or [float("inf")]))
        found.append(Table(title, heads, [_line(*one) for one in (*whole, *ranked)]))
    return found


def _line(method: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if "refused" in rows[0]:
        return (method, "refused", *[""] * 7)
    prose = [r for r in rows if r["part"] == "prose"]
    cells = [method, fixed(mean(r["rows_read"] for r in prose), 0), fixed(_mib(prose), 1)]
    for part in ("prose", "code"):
        mine = [r for r in rows if r["part"] == part]
        kl, top1 = torch.tensor([r["kl"] for r in mine]), fixed(mean(r["top1"] for r in mine), 2)
        cells += ["", ""] if method == DENSE else [f"{kl.mean():.3f} ({interval(intervals.of_mean(kl), 3)})", top1]
    facts = [r for r in rows if r["part"] == "facts"]
    right, asked = (sum(r[name] for r in facts) for name in ("right", "asked"))
    cells += [f"{right} of {asked} ({interval(intervals.of_share(right, asked), 0, 100)} %)"]
    return (*cells, fixed(mean(r["logprob"] for r in facts), 2))


def picture(document: Result) -> tuple[str, str]:
    """Distance from dense against the bytes that a step reads, on prose: a line for each method through its budgets."""
    lines = {}
    for method, rows in by(document["rows"], "method"):
        prose = [r for r in rows if r["part"] == "prose"]
        if prose and method != DENSE:
            lines[method] = [(_mib(found), mean(r["kl"] for r in found)) for _, found in by(prose, "arm")]
    title = "KL from dense on prose, in nats, against MiB read at each step"
    return title, chart(lines, across="MiB that a step reads to choose and to attend", up="KL from dense, nats")


def _mib(rows: Sequence[Mapping[str, Any]]) -> float:
    return mean(r["step_bytes"] for r in rows) / MIB


def _found(rows: list[Row]) -> float:
    """The share of facts that are found."""
    facts = [r for r in rows if r["part"] == "facts"]
    return sum(r["right"] for r in facts) / sum(r["asked"] for r in facts)


if __name__ == "__main__":
    main()
