"""Right answers to questions over whole documents: the model alone, compressors, their inversions and random text.

Inverted scores keep what the method thinks worst; random text is the control at equal tokens. A question counts as
right when the answer holds one of the accepted phrases.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean
from typing import Any

import torch
from rich.progress import track

from benchmarks.arms import unnamed
from benchmarks.record import Record, claim
from benchmarks.tables import Result, Table, by, interval, show
from tokenry import Pipeline, data
from tokenry.compress.base import Compressor
from tokenry.compress.kept.text import text_of
from tokenry.compress.scores.ranking import Ranking
from tokenry.core.budget import Budget
from tokenry.core.errors import ContextOverflow
from tokenry.core.registry import load as load_method
from tokenry.core.tokens import TokenBatch
from tokenry.data import Question
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import Sampling, answer
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt
from tokenry.pipeline.pipeline import check_fit

TITLE = "Right answers"
SUBJECTS = ("compress/dense_relevance",)
ABOUT = (
    "SmolLM2-135M answers 30 questions over five documents, greedily, with at most 32 tokens. A question counts "
    "as right when the answer holds an accepted phrase. The model alone cannot read the longest document, whose "
    "questions it is not asked. `inverted` keeps what a method thinks worst; `random` is the control. With so "
    "few questions, differences of two or three are chance."
)

DENSE, MAX_NEW = "dense", 32
BUDGETS = (0.5, 0.25, 0.1)
SCORED = ("dense_relevance", "lexical_relevance", "self_information")
"""Methods that are compared closely; all others of the room are asked at one budget, in their own units."""
RANDOM = "compress/random"


@dataclass(frozen=True)
class Arm:
    """One way to answer.

    Args:
        spec: compressors, then perhaps an attention method, in their one-line forms joined by `|`.
        inverted: keep the worst instead of the best.
    """

    spec: str = ""
    inverted: bool = False

    def __str__(self) -> str:
        return (self.spec or DENSE) + (", inverted" if self.inverted else "")

    @cached_property
    def pipeline(self) -> Pipeline:
        """The methods; none is the model alone."""
        return Pipeline(part.strip() for part in self.spec.split("|") if part.strip())


def all_arms() -> list[Arm]:
    """What a whole run compares."""
    found = [Arm()]
    for budget in BUDGETS:
        for name in (*SCORED, RANDOM):
            found.append(Arm(f"{name}:units=sentence,budget={budget}"))
        found += [Arm(f"{name}:units=sentence,budget={budget}", inverted=True) for name in SCORED]
    for budget in BUDGETS[:2]:
        found += [Arm(f"{name}:units=word,budget={budget}") for name in (*SCORED, RANDOM)]
    found.append(Arm("dense_relevance:units=sentence,budget=0.25 | token_select:budget=256"))
    for entry in unnamed("compress", (*SCORED, RANDOM)):
        method = load_method(entry.full_name)()
        assert isinstance(method, Compressor)
        found.append(Arm(f"{entry.name}:units={method.units.name()},budget=0.25"))
    return found


class Ranks:
    """Rankings that several arms share: the same scores at other budgets, or inverted."""

    def __init__(self, language: LanguageModel) -> None:
        self.language = language
        self._known: dict[str, tuple[str | None, Ranking]] = {}

    def of(self, method: Compressor, batch: TokenBatch, ask: str) -> Ranking:
        """The ranking of a batch, made once for all budgets, and once per document where no question is read."""
        name, query = str(replace(method, budget=Budget(share=1.0))), ask if method.needs_query else None
        asked, known = self._known.get(name, (None, None))
        if known is None or asked != query or not _same(known, batch):
            known = method.rank(batch, query, model=self.language)
            self._known[name] = query, known
        return known


def main() -> None:
    """Ask all questions of all arms, or some of some, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--questions", type=int, metavar="N", help="only the first N")
    options.add_argument("--document", metavar="NAME", help="only those over one document")
    options.add_argument("--use", action="append", metavar="SPEC", help="only the model alone and this; repeatable")
    options.add_argument("--dtype", default="auto", help="as `load` takes it")
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    questions = [q for q in data.questions() if given.document in (None, q.document)][: given.questions]
    arms = [Arm(), *map(Arm, given.use)] if given.use else all_arms()
    language = load("smollm2", dtype=given.dtype)
    settings = {"model": "smollm2", "max_new": MAX_NEW, "arms": list(map(str, arms)), "questions": len(questions)}
    record = Record(
        "compress/answers", dtype=str(language.dtype).removeprefix("torch."), settings=settings,
        save=not (given.questions or given.document or given.use or given.dtype != "auto"),
        grows=True,
    )  # fmt: skip
    work = [(q, a) for q in questions for a in arms if record.find(question=q.id, arm=str(a)) is None]
    for row in track(ask_all(language, work), "answers", total=len(work)):
        record.add(row)
    show(record.finish([] if given.use else claims(record)), tables)


@torch.inference_mode()
def ask_all(language: LanguageModel, work: list[tuple[Question, Arm]]) -> Iterator[dict[str, Any]]:
    """One row for every question and arm."""
    ranks = Ranks(language)
    for question, arm in work:
        batch = prompt(language.tokenizer, [Document(data.read(question.document), question.document)], question.ask)
        for method in arm.pipeline.methods:
            if isinstance(method, Compressor):
                ranking = ranks.of(method, batch, question.ask)
                batch = method.fit(batch, ranking.inverted() if arm.inverted else ranking)
        try:
            check_fit(language, batch, MAX_NEW)
            said = _answer(language, batch, arm)
        except ContextOverflow:
            said = None
        yield {
            "question": question.id, "document": question.document, "arm": str(arm),
            "prompt_tokens": batch.shape[1], "still_there": data.is_correct(question, text_of(batch)),
            "answer": said, "correct": None if said is None else data.is_correct(question, said),
        }  # fmt: skip


def claims(record: Record) -> list[dict[str, Any]]:
    """The questions that relevance keeps answerable are many more than chance keeps."""
    chosen, chance = (f"{name}:units=sentence,budget=0.25" for name in ("dense_relevance", RANDOM))
    right = {arm: sum(bool(r["correct"]) for r in record.rows if r["arm"] == arm) for arm in (chosen, chance)}
    return [
        claim("right answers of dense_relevance at 0.25, above those of random text", right[chosen] - right[chance],
              at_least=1)
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    arms = by(document["rows"], "arm")
    fits = {r["question"] for r in document["rows"] if r["arm"] == "dense" and r["correct"] is not None}
    cells = []
    for arm, rows in arms:
        right = [r["correct"] for r in rows if r["correct"] is not None]
        shared = [r["correct"] for r in rows if r["question"] in fits]
        share = interval(intervals.of_share(sum(right), len(right)), 0, 100)
        cells.append(
            (
                arm, f"{mean(r['prompt_tokens'] for r in rows):,.0f}", f"{sum(right)} of {len(right)}",
                f"{100 * mean(right):.0f} % ({share})" if right else "", f"{sum(shared)} of {len(shared)}",
                f"{sum(r['still_there'] for r in rows)} of {len(rows)}", str(len(rows) - len(right) or ""),
            )
        )  # fmt: skip
    heads = (
        "arm", "prompt tokens", "right", "share (95 %)", "right where dense fits", "answer still in the prompt",
        "too long to ask",
    )  # fmt: skip
    return [Table(f"answers to {len(by(document['rows'], 'question'))} questions", heads, cells)]


def _answer(language: LanguageModel, batch: TokenBatch, arm: Arm) -> str:
    # Every prompt is read in one pass of its own. Keys of a document that two questions share would be the same but
    # for rounding, and in bfloat16 that changed one answer of eight.
    return answer(language, batch, Sampling(max_new_tokens=MAX_NEW), arm.pipeline.attach(language, batch)).text


def _same(ranking: Ranking, batch: TokenBatch) -> bool:
    """Whether the ranked document stands in this batch at the same columns."""
    document = ranking.documents[0]
    fits = len(document.columns) == 0 or int(document.columns.max()) < batch.shape[1]
    return (
        fits
        and document.ids is not None
        and batch.ids is not None
        and torch.equal(batch.ids[0, document.columns], document.ids)
        and int((~batch.protected[0]).sum()) == document.size
    )


if __name__ == "__main__":
    main()
