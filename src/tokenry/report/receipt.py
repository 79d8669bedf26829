"""The receipt as rows and headline figures, with the dense run beside it where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tokenry.core.registry import PREPARING
from tokenry.report import figures
from tokenry.report.figures import count, known, mean, scaled, seconds, share, size

# Two measurements this close are called the same.
_SAME = 0.05


@dataclass(frozen=True)
class Number:
    """A number as shown, and as it was measured."""

    text: str
    exact: float | None


@dataclass(frozen=True)
class Verdict:
    """How this run compares: `2.9×` and `less`; `tone` is better, worse, same or nothing."""

    text: str = ""
    word: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the receipt."""

    label: str
    ours: Number
    dense: Number | None
    verdict: Verdict


@dataclass(frozen=True)
class Headline:
    """One large figure; `ours` and `dense` are the lengths of two bars, from 0 to 1, or None without bars."""

    label: str
    figure: str
    word: str
    detail: str
    tone: str = ""
    ours: float | None = None
    dense: float | None = None


def compare(ours: float | None, dense: float | None, good: str, bad: str, more: bool = False) -> Verdict:
    """`good` and `bad` name the two directions; `more` says that a larger number is the better one.

    >>> compare(10, 29, "less", "more")
    Verdict(text='2.9×', word='less', tone='better')
    """
    if ours is None or dense is None or not (known(ours) and known(dense)) or ours <= 0 or dense <= 0:
        return Verdict()
    ratio = ours / dense if more else dense / ours
    if abs(ratio - 1) <= _SAME:
        return Verdict("1.0×", "same", "same")
    return (
        Verdict(figures.times(ratio), good, "better") if ratio > 1 else Verdict(figures.times(1 / ratio), bad, "worse")
    )


def prompt_tokens(trace: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """What the model alone and this run had to read before the answer."""
    after = trace["receipt"]["prompt_tokens"]
    if trace.get("dense"):
        return trace["dense"]["receipt"]["prompt_tokens"], after
    counts = [(step["tokens_in"], step["tokens_out"]) for step in trace["steps"] if step["room"] in PREPARING]
    if not known(after) or not all(known(n) for pair in counts for n in pair):
        return None, after
    return after + sum(before - left for before, left in counts), after


def groups(trace: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """The receipt line by line, in groups."""
    rows: dict[str, list[Row]] = {}
    for group, label, get, show, words in _LINES:
        ours = _number(get(trace["receipt"]), show)
        dense = _number(get(trace["dense"]["receipt"]), show) if trace.get("dense") else None
        good, bad = words.split("/")
        verdict = compare(ours.exact, dense.exact, good, bad, more=good == "faster") if dense else Verdict()
        rows.setdefault(group, []).append(Row(label, ours, dense, verdict))
    return list(rows.items())


def headlines(trace: Mapping[str, Any]) -> list[Headline]:
    """The figures a reader looks for first: ratios against dense, or plain numbers without it."""
    dense = trace.get("dense")
    before, after = prompt_tokens(trace)
    shown = [_headline(*line) for line in _pairs(trace, after, before if dense else None)]
    if not dense and known(before):
        shown[1] = replace(shown[1], detail=f"of {count(before)}")
    if dense:
        shown.append(Headline("KL divergence", figures.plain(dense["kl"]), "", "from dense, over the answer"))
        top1 = dense["top1"]
        shown.append(Headline("Top-1 agreement", share(top1), "", "same next token as dense", "", top1 or 0, None))
    return shown


def _pairs(
    trace: Mapping[str, Any], after: float | None, before: float | None
) -> Iterator[tuple[str, float | None, float | None, Callable[[float | None], str], str]]:
    ours, dense = trace["receipt"], (trace.get("dense") or {}).get("receipt")
    first = dense and dense["seconds"]["first_token"]
    yield "Time to first token", ours["seconds"]["first_token"], first, seconds, "sooner/later"
    yield "Prompt tokens", after, before, count, "fewer/more"
    for key, label in (("kv_bytes", "KV cache"), ("bytes_read", "Bytes read"), ("peak_bytes", "Peak memory")):
        yield label, ours[key], dense and dense[key], size, "less/more"


def _headline(
    label: str, ours: float | None, dense: float | None, show: Callable[[float | None], str], words: str
) -> Headline:
    good, bad = words.split("/")
    verdict = compare(ours, dense, good, bad)
    if not verdict.text or ours is None or dense is None:
        return Headline(label, show(ours), "", f"dense {show(dense)}" if known(dense) else "")
    longest = max(ours, dense)
    detail = f"{show(ours)}, dense {show(dense)}"
    return Headline(label, verdict.text, verdict.word, detail, verdict.tone, ours / longest, dense / longest)


def _number(value: float | None, show: Callable[[float | None], str]) -> Number:
    return Number(show(value), value if known(value) else None)


def _flop(value: float | None) -> str:
    return scaled(value, "FLOP")


def _of_methods(receipt: Mapping[str, Any]) -> float | None:
    return sum(step["seconds"] or 0 for step in receipt["steps"]) if receipt["steps"] else None


def _time(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda receipt: receipt["seconds"][key]


def _field(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda receipt: receipt[key]


_LINES: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Any], Callable[[float | None], str], str], ...] = (
    ("Time", "Load the model", _time("load"), seconds, "less/more"),
    ("Time", "Methods", _of_methods, seconds, "less/more"),
    ("Time", "Prefill", _time("prefill"), seconds, "less/more"),
    ("Time", "First token after", _time("first_token"), seconds, "sooner/later"),
    ("Time", "Decode", _time("decode"), seconds, "less/more"),
    ("Time", "Tokens a second", _field("tokens_per_second"), count, "faster/slower"),
    ("Work", "Prompt tokens", _field("prompt_tokens"), count, "fewer/more"),
    ("Work", "Arithmetic", _field("flops"), _flop, "less/more"),
    ("Work", "Tokens read per step", lambda receipt: mean(receipt["read_per_step"]), count, "fewer/more"),
    ("Work", "Bytes read", _field("bytes_read"), size, "less/more"),
    ("Memory", "KV cache", _field("kv_bytes"), size, "less/more"),
    ("Memory", "Peak", _field("peak_bytes"), size, "less/more"),
)
