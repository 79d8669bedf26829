"""What the results show, as tables: the same ones in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch

from tokenry.measure import intervals

Document = Mapping[str, Any]
Row = Mapping[str, Any]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A title, heads and rows of text; `words` columns from the left are words, the rest are numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def show(self) -> None:
        """Print it."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for i, head in enumerate(self.heads):
            table.add_column(head, justify="left" if i < self.words else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        Console(width=None if console.is_terminal else 140).print(table)

    def markdown(self) -> str:
        """The same for the page."""
        rule = ["---" if i < self.words else "---:" for i in range(len(self.heads))]
        lines = (self.heads, rule, *self.rows)
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def tables(document: Document) -> list[Table]:
    """The tables of any benchmark's result."""
    return VIEWS[document["name"]](document)


def show(document: Document) -> None:
    """Print a result: tables first, claims last."""
    for table in tables(document):
        table.show()
    for line in claim_lines(document):
        print(line)


def claim_lines(document: Document) -> list[str]:
    """One sentence for everything that was to be shown."""
    return [
        f"{'Holds' if c['holds'] else 'DOES NOT HOLD'}: {c['text']}: {c['value']:g}"
        + ("" if "interval" not in c else " (95 %: {:g} to {:g})".format(*c["interval"]))
        + f"; needed: {c['needed']}."
        for c in document["claims"]
    ]


def _decode_layer(document: Document) -> list[Table]:
    heads = ("cached tokens", "arm", "append ms", "attention ms", "step ms", "times faster")
    return [
        Table(
            f"{dtype}, one layer, best of {document['settings']['repeats']} rounds",
            heads,
            [
                (f"{r['length']:,}", r["arm"], _f(r["append_ms"], 3), _f(r["attention_ms"], 3), _f(r["step_ms"], 3),
                 _x(r["times_faster"]))
                for r in rows
            ],
            words=2,
        )
        for dtype, rows in _by(document["rows"], "dtype")
    ]  # fmt: skip


def _decode_model(document: Document) -> list[Table]:
    heads = (
        "prompt", "arm", "tokens/s", "best ms/token", "times faster", "prompt s", "KV MiB held", "peak MiB", "loss",
    )  # fmt: skip
    return [
        Table(
            f"{dtype}, whole model, {document['settings']['steps']} steps after the prompt",
            heads,
            [
                (f"{r['length']:,}", r["arm"], _f(r["tokens_per_second"], 1), _f(r["best_step_ms"], 1),
                 _x(r["times_faster"]), _f(r["prefill_s"], 1), _f(r["kv_bytes"] / MIB, 1),
                 _f(r["peak_bytes"] / MIB, 0), _f(r["loss"], 3))
                for r in rows
            ],
            words=2,
        )
        for dtype, rows in _by(document["rows"], "dtype")
    ]  # fmt: skip


def _fidelity(document: Document) -> list[Table]:
    arms = _by(document["rows"], "arm")
    kl = {arm: torch.tensor([mean(r["kl"]) for r in rows]) for arm, rows in arms}
    whole = []
    for arm, rows in arms:
        loss = agreed = closer = ""
        if arm != "dense":
            loss = f"{kl[arm].mean():.4f} ({_range(intervals.of_mean(kl[arm]), 4)})"
            agreed = f"{mean(v for r in rows for v in r['top1']):.3f}"
        if arm not in ("dense", "window"):
            ends = intervals.of_ratio(kl["window"], kl[arm])
            closer = f"{_x((kl['window'].mean() / kl[arm].mean()).item())} ({_range(ends, 2)})"
        anew = "" if rows[0]["new_choices"] is None else f"{mean(r['new_choices'] for r in rows):.2f}"
        read, best = mean(r["rows_read"] for r in rows), min(r["best_step_ms"] for r in rows)
        whole.append((arm, _f(read, 1), loss, agreed, closer, anew, _f(best, 1)))
    passages, names = len(kl["dense"]), [name for name, _ in _by(document["rows"], "document")]
    parts = [
        (arm, *(_f(mean(v for r in mine for v in r["kl"]), 4) for _, mine in _by(rows, "document")))
        for arm, rows in arms
        if arm != "dense"
    ]
    heads = (
        "arm", "rows read", "KL (95 %)", "same top token", "times closer than window (95 %)", "new choices",
        "best ms/step",
    )  # fmt: skip
    return [
        Table(f"{passages * document['settings']['steps']} steps on {passages} passages", heads, whole),
        Table("KL by document", ("arm", *names), parts),
    ]


def _answers(document: Document) -> list[Table]:
    arms = _by(document["rows"], "arm")
    fits = {r["question"] for r in document["rows"] if r["arm"] == "dense" and r["correct"] is not None}
    cells = []
    for arm, rows in arms:
        right = [r["correct"] for r in rows if r["correct"] is not None]
        shared = [r["correct"] for r in rows if r["question"] in fits]
        share = _range(intervals.of_share(sum(right), len(right)), 0, 100)
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
    return [Table(f"answers to {len(_by(document['rows'], 'question'))} questions", heads, cells)]


def _first_token(document: Document) -> list[Table]:
    heads = ("document", "arm", "prompt tokens", "compression s", "prompt s", "first token s", "times faster")
    each = [
        (
            r["document"], r["arm"], f"{r['prompt_tokens']:,}", _f(r["compress_s"], 2), _f(r["prefill_s"], 2),
            _f(r["first_token_s"], 2), _x(r["times_faster"]),
        )
        for r in document["rows"]
    ]  # fmt: skip
    whole = [
        (arm, _x(median(r["times_faster"] for r in rows)), _x(min(r["times_faster"] for r in rows)))
        for arm, rows in _by(document["rows"], "arm")
        if arm != "dense"
    ]
    return [
        Table("time to the first token, times faster than dense", ("arm", "median document", "worst document"), whole),
        Table(f"median of {document['settings']['repeats']} turns", heads, each, words=2),
    ]


def _passkey(document: Document) -> list[Table]:
    places = document["settings"]["places"]
    heads = ("arm", "rows read", *(f"at {place:.0%}" for place in places), "found", "seconds")
    found = []
    for length in document["settings"]["lengths"]:
        cells = []
        for arm, rows in _by([r for r in document["rows"] if r["length"] == length], "arm"):
            right = {r["place"]: "yes" if r["correct"] else "no" for r in rows}
            cells.append(
                (
                    arm, _f(mean(r["rows_read"] for r in rows), 0), *(right.get(p, "") for p in places),
                    f"{sum(r['correct'] for r in rows)} of {len(rows)}", _f(median(r["seconds"] for r in rows), 1),
                )
            )  # fmt: skip
        if cells:
            found.append(Table(f"{length:,} tokens", heads, cells))
    return found


def _peer_llmlingua(document: Document) -> list[Table]:
    heads = ("arm", "tokens kept", "largest miss of the rate", "seconds", "there", "right")
    found = []
    for rate in document["settings"]["rates"]:
        cells = []
        for arm, rows in _by([r for r in document["rows"] if r["rate"] == rate], "arm"):
            cells.append(
                (
                    arm, f"{100 * mean(r['kept'] / r['tokens'] for r in rows):.1f} %",
                    f"{max(abs(r['kept'] - r['tokens'] * rate) for r in rows):.0f} tokens",
                    _f(mean(r["seconds"] for r in rows), 2), f"{sum(r['still_there'] for r in rows)} of {len(rows)}",
                    f"{sum(r['correct'] for r in rows)} of {len(rows)}",
                )
            )  # fmt: skip
        found.append(Table(f"rate {rate}", heads, cells))
    return found


VIEWS: Mapping[str, Callable[[Document], list[Table]]] = {
    "decode_layer": _decode_layer,
    "decode_model": _decode_model,
    "fidelity": _fidelity,
    "answers": _answers,
    "first_token": _first_token,
    "passkey": _passkey,
    "peer_llmlingua": _peer_llmlingua,
}


def _by(rows: Iterable[Row], key: str) -> list[tuple[str, list[Row]]]:
    """Rows grouped by one of their fields, in the order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())


def _f(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _x(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def _range(ends: tuple[float, float], digits: int, factor: float = 1.0) -> str:
    return " to ".join(f"{factor * end:.{digits}f}" for end in ends)
