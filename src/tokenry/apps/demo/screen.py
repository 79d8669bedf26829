"""How the demonstration looks in a terminal: every number comes from what was run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokenry.apps.demo.door import Cut, Door
from tokenry.apps.demo.evidence import Evidence
from tokenry.apps.demo.score import Outcome
from tokenry.data import Question
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.trace import Trace, ratios
from tokenry.report import figures

SAVED = ("prompt tokens", "seconds to the first token", "cached bytes", "bytes read")


class Screen:
    """What is said, on standard output; nothing at all where `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._out = Console(highlight=False, quiet=quiet)

    def say(self, text: str = "", style: str = "") -> None:
        """A paragraph, in which nothing is markup."""
        self._out.print(Text(text, style=style))

    def door(self, found: Door, tokenizer: str) -> None:
        """Messages before a model: what was asked for is there, what is missing is marked, and all of it comes back."""
        self._title("An agent's work at a quarter of the tokens")
        self.say(
            f"{len(found.cuts)} results of tools, on their way to a model behind an API: {found.tokens_in:,} tokens, "
            f"as {tokenizer} counts them. No model is asked. It took {figures.seconds(found.seconds)}.\n"
        )
        table = self._table("", "kind", "before", "after", "asked for", "by chance")
        for column in (2, 3):
            table.columns[column].justify = "right"
        for cut in found.cuts:
            asked = f"{_lines(cut)} {_stays(cut.kept)}"
            table.add_row(
                cut.name, cut.kind, figures.count(cut.tokens_in), figures.count(cut.tokens_out), asked,
                _stays(cut.by_chance),
            )  # fmt: skip
        many = len(found.cuts)
        kept, chance = sum(cut.kept for cut in found.cuts), sum(cut.by_chance for cut in found.cuts)
        table.add_row(
            "together", "", figures.count(found.tokens_in), figures.count(found.tokens_out), f"{kept} of {many}",
            f"{chance} of {many}",
        )  # fmt: skip
        self._out.print(table)
        self.say("\nBy chance: in a random quarter, the control, in which lines that report errors stay too.")
        log = found.cuts[0]
        if log.kept:
            self.say(f"\nWhy the test failed stands in what is left of the log as it stood there, in {_lines(log)}:\n")
            self._verbatim(log.needle, log.lines[0])
        self.say("\nWhatever is missing is marked where it stood, in the way of its kind; the first marks:\n")
        self._out.print(self._rows((cut.name, cut.mark) for cut in found.cuts))
        self.say("\nWith the id a model gets back what it misses. In the file it reads\n")
        self._verbatim(found.mark)
        self.say(f"\nand calls {retrieve.NAME} with {json.dumps(found.call)}:\n")
        self._verbatim(found.answer.strip("\n"), found.call["first_line"])
        if found.whole:
            self.say(f"\nAll {many} originals come back byte for byte.")

    def opening(self, tokens: int, questions: int, names: Mapping[str, str]) -> None:
        """What is going to be seen; `names` are the methods, and what the quarter is called that each of them keeps."""
        self._title("Does the answer survive at a quarter of the tokens?")
        many = "questions" if questions != 1 else "question"
        self.say(
            f"{questions} {many} about a speech of {tokens:,} tokens, of which the model reads a quarter. Below: "
            "whether the sentence that answers is in it, what that saves, what the model says, and how all questions "
            "go.\n"
        )
        self._out.print(self._rows((name, spec) for spec, name in names.items()))

    def evidence(self, question: Question, found: Mapping[str, Evidence]) -> None:
        """The sentence that answers, and its fate by the name of each quarter."""
        one = next(iter(found.values()))
        self._title("1  The sentence that answers")
        rows = [("question", question.ask), (f"tokens {one.first:,} to {one.last:,}", "".join(one.tokens).strip())]
        self._out.print(self._rows(rows))
        self._out.print()
        self._out.print(self._rows((name, _fate(evidence)) for name, evidence in found.items()))

    def savings(self, trace: Trace) -> None:
        """Time and memory beside those of the model alone."""
        self._title("2  What that saves")
        if trace.dense is None:
            self.say("The whole speech does not fit into this model's context, so there is nothing beside it.")
            return
        ours, dense, times = trace.receipt, trace.dense.receipt, dict(ratios(trace))
        rows = [
            ("tokens to read before the answer", figures.count, ours.prompt_tokens, dense.prompt_tokens),
            ("time until the answer begins", figures.seconds, ours.seconds.first_token, dense.seconds.first_token),
            ("memory for keys and values", figures.size, ours.kv_bytes, dense.kv_bytes),
            ("keys and values read", figures.size, ours.bytes_read, dense.bytes_read),
        ]
        table = self._table("", "the nearest quarter", "the whole speech", "less", right=3)
        for (label, show, mine, theirs), name in zip(rows, SAVED, strict=True):
            table.add_row(label, show(mine), show(theirs), figures.times(times[name]) if name in times else "")
        self._out.print(table)

    def answers(self, outcomes: Mapping[str, Outcome], model: str, parameters: int) -> None:
        """What was said, and how much the model knows."""
        self._title("3  What the model says")
        rows = []
        for name, outcome in outcomes.items():
            said = "too long for its context" if outcome.answer is None else " ".join(outcome.answer.split())
            rows.append((name, Text.assemble(("right  " if outcome.right else "wrong  ", "bold"), said)))
        self._out.print(self._rows(rows))
        self.say(
            f"\n{model} has {parameters / 1e6:,.0f} million parameters. Whether it finds an answer in what it reads "
            "depends on its size too; whether the answer is there to be found depends on the method alone."
        )

    def score(self, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
        """All questions, counted."""
        self._title("4  All questions about this speech")
        table = self._table("", "answer still in the prompt", "answered rightly", right=2)
        for name, found in outcomes.items():
            there, right = sum(o.there for o in found), sum(o.right for o in found)
            table.add_row(name, f"{there} of {len(found)}", f"{right} of {len(found)}")
        self._out.print(table)
        self.say(
            "\nAnswer still in the prompt: a phrase that counts as right stands in what the model reads; what is gone, "
            "no model can find. Answered rightly: it stands in what this model said. A random quarter is the control."
        )

    def _verbatim(self, text: str, first: int | None = None) -> None:
        """Lines as they are, with their numbers."""
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", justify="right", min_width=3)
        table.add_column(overflow="fold")
        for n, line in enumerate(text.splitlines(), first or 0):
            table.add_row("" if first is None else str(n), Text(line.rstrip()))
        self._out.print(table)

    def _title(self, text: str) -> None:
        self._out.print()
        self._out.print(Text(text, style="bold"))

    def _table(self, *headings: str, right: int = 0) -> Table:
        """Columns without lines; the last `right` of them hold numbers."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for at, heading in enumerate(headings):
            numbers = at >= len(headings) - right
            table.add_column(Text(heading, style="dim"), justify="right" if numbers else "left")
        return table

    def _rows(self, rows: Iterable[tuple[str, str | Text]]) -> Table:
        """Names, and what belongs to each of them."""
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for name, text in rows:
            table.add_row(Text(name), text if isinstance(text, Text) else Text(text))
        return table


def _lines(cut: Cut) -> str:
    first, last = cut.lines
    return f"lines {first}–{last}" if last > first else f"line {first}"


def _stays(kept: bool) -> str:
    return "whole" if kept else "gone"


def _fate(evidence: Evidence) -> Text:
    """How much of a sentence is left; where it is a part, which one."""
    kept, tokens = sum(evidence.kept), len(evidence.kept)
    if kept in (0, tokens):
        return Text(f"{'all' if kept else 'none'} of its {tokens} tokens {'are' if kept else 'is'} kept")
    left = Text(f"{kept} of its {tokens} tokens are kept: ")
    for piece, stays in evidence.pieces():
        left.append(piece if stays else " … ", style="" if stays else "dim")
    return left
