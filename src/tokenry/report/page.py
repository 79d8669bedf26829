"""Draw a trace as one HTML page that needs nothing else: no network, no server, no second file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tokenry.core.saving import write_text
from tokenry.report import charts, figures, receipt
from tokenry.report.check import check
from tokenry.report.pack import packed, readable, script_text
from tokenry.report.script import hash_of, script
from tokenry.report.template import environment, styles


@dataclass(frozen=True)
class Chip:
    """A method of the pipeline, and how many tokens leave it."""

    room: str
    name: str
    fields: tuple[tuple[str, str], ...]
    tokens: str


@dataclass(frozen=True)
class Piece:
    """A stretch of the answer; `passage` is the recovered passage it rests on, or None."""

    text: str
    passage: int | None


def render(trace: Mapping[str, Any]) -> str:
    """The page of `trace`.

    Figures, charts and the receipt are drawn here and stand without scripts; the document is drawn by the page from
    its data, so that steps and layers can be changed. Everything that is text is escaped, and the page forbids
    itself all loads and all scripts but its own.

    Raises:
        InvalidValue: the trace lacks a key, or its columns do not match its tokens.
    """
    check(trace)
    trace = packed(trace)
    js, stacks, passages = script("trace/main.js"), charts.seconds_split(trace), _passages(trace["recovered"])
    values = {
        "trace": trace,
        "model": _model(trace["model"]),
        "chips": _chips(trace),
        "pieces": _pieces(trace["answer"], trace["recovered"], passages),
        "passages": passages,
        "dense": trace["dense"],
        "headlines": receipt.headlines(trace),
        "groups": receipt.groups(trace),
        "bars": charts.tokens_after(trace),
        "stacks": stacks,
        "split": charts.seconds_rows(stacks),
        "lines": charts.read_per_step(trace),
        "box": (charts.WIDTH, charts.HEIGHT),
        "total": sum(len(document["tokens"]) for document in trace["documents"]),
        "css": styles(
            "drawing/theme.css", "drawing/tokens.css", "drawing/bench.css", "drawing/charts.css", "trace/page.css"
        ),
        "js": js,
        "js_hash": hash_of(js),
        "data": Markup(script_text(trace)),
    }
    return readable(environment().get_template("trace/page.html.j2").render(values))


def write(trace: Mapping[str, Any], path: Path | str) -> None:
    """Write the page of `trace` to `path`, whole or not at all.

    Raises:
        InvalidValue: as in `render`.
        StorageError: the file cannot be written.
    """
    write_text(Path(path), render(trace))


def _model(model: Mapping[str, Any]) -> list[str]:
    facts = [model["name"], model["dtype"], model["device"]]
    if figures.known(model["context"]):
        facts.insert(1, f"context {figures.count(model['context'])}")
    return facts


def _chips(trace: Mapping[str, Any]) -> list[Chip]:
    """`compress/dense_relevance:budget=0.25` taken apart for reading."""
    chips = []
    for at, method in enumerate(trace["pipeline"]):
        name, _, fields = method.partition(":")
        room, _, name = name.rpartition("/")
        pairs = tuple((key, value) for key, _, value in (f.partition("=") for f in _fields(fields)))
        steps = trace["steps"]
        step = steps[at] if at < len(steps) else {}
        fewer = step.get("method") == name and step.get("room") == "compress"
        tokens = step["tokens_out"] if fewer else None
        chips.append(Chip(room, name, pairs, figures.count(tokens) if tokens is not None else ""))
    return chips


def _fields(text: str) -> list[str]:
    """Split at commas that stand outside brackets: `a=1,b=f(c=2,d=3)` has two fields."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _passages(recovered: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every passage once, however often the answer repeats it."""
    found: dict[tuple[int, ...], Mapping[str, Any]] = {}
    for passage in recovered:
        found.setdefault(_place(passage), passage)
    return list(found.values())


def _place(passage: Mapping[str, Any]) -> tuple[int, ...]:
    return (passage["document"], *passage["tokens"])


def _pieces(answer: str, recovered: Sequence[Mapping[str, Any]], passages: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """The answer cut where passages begin and end; of two that overlap the later one is only listed."""
    numbers = {_place(passage): number for number, passage in enumerate(passages)}
    pieces, at = [], 0
    for passage in sorted(recovered, key=lambda passage: tuple(passage["answer"])):
        start, end = passage["answer"]
        if at <= start < end <= len(answer):
            pieces += [Piece(answer[at:start], None), Piece(answer[start:end], numbers[_place(passage)])]
            at = end
    return [piece for piece in (*pieces, Piece(answer[at:], None)) if piece.text]
