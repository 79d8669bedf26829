"""`tokenry measure`: numbers about tokenizers over a corpus, and tasks with known answers for models."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import Incompatible, InvalidValue

if TYPE_CHECKING:
    from tokenry.measure.base import Benchmark, Measured, Metric
    from tokenry.measure.reporting.results import Results

MEASURE_SCHEMA = "tokenry.measure/0"
CONTROL = 4096
"""Entries of the vocabulary of random merges."""


def measure(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A metric or benchmark, name:field=value,…")],
    corpus: Annotated[
        list[str] | None, typer.Argument(metavar="[CORPUS...]", help="Text files for a metric; - is standard input.")
    ] = None,
    tokenizer: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An alias, file, folder or hub id, or bytes; repeatable.")
    ] = None,
    controls: Annotated[bool, typer.Option(help="Beside tokenizers, bytes and random merges.")] = True,
    draws: Annotated[int, typer.Option(min=0, help="Corpora drawn for the intervals of a metric.")] = 200,
    model: o.Model = "smollm2",
    use: o.Use = None,
    generate: Annotated[bool, typer.Option("--generate", help="Let the model write, not choose among values.")] = False,
    max_new: o.MaxNew = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Most tasks.")] = None,
    seed: Annotated[int, typer.Option(help="Of the tasks.")] = 0,
    results: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Keep every answer here, and go on where it stopped.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png or .svg.")] = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Measure tokenizers over texts, or how well a model answers tasks with known answers."""
    from tokenry.core.registry import parse
    from tokenry.measure.base import Benchmark, Metric
    from tokenry.measure.reporting import pictures

    if plot is not None:
        pictures.check(plot)
    chosen = parse(method)
    if isinstance(chosen, Metric):
        found: dict[str, Any] = _metric(chosen, corpus or [], tokenizer or [], controls, draws)
        document: dict[str, Any] = {"measured": [{"name": n, **m.to_dict()} for n, m in found.items()]}
        show = _show_numbers
    elif isinstance(chosen, Benchmark):
        if corpus or tokenizer:
            raise InvalidValue(f"{chosen.name()}: makes its own texts; got {' '.join(corpus or tokenizer or [])}.")
        options = {"device": device, "dtype": dtype, "trust_remote_code": trust_remote_code}
        found = {
            str(chosen): _benchmark(
                chosen, model, use or [], options, generate=max_new if generate else None, limit=limit, seed=seed,
                file=results,
            )
        }  # fmt: skip
        document = {"results": [r.to_dict() for r in found.values()]}
        show = _show_results
    else:
        raise Incompatible(f"measure: {chosen} is of room {chosen.room}; pass a method of room measure.")
    if as_json:
        sys.stdout.write(_strict({"schema": MEASURE_SCHEMA, **document}) + "\n")
    else:
        show(found)
    if plot is not None:
        _draw(found, plot, getattr(chosen, "shown", ()))


def _metric(metric: Metric, corpus: list[str], names: list[str], controls: bool, draws: int) -> dict[str, Measured]:
    if not corpus:
        raise InvalidValue(f"{metric.name()}: must have a corpus to measure; got no file; pass text files.")
    texts = [document.text for document in o.read_documents(corpus)]
    if not hasattr(metric, "tokenizer"):
        return {str(metric): metric.over(texts, draws=draws)}

    from tokenry.apps.cli.show import working
    from tokenry.measure.statistics.controls import random_merges
    from tokenry.segment.engines.opening import open_tokenizer

    given: dict[str, Any] = {n: n if n == "bytes" else open_tokenizer(n) for n in names or [str(metric.tokenizer)]}
    found = {}
    with working(len(given) + 2 * controls) as tell:
        if controls:
            tell("random merges")
            merged = random_merges(texts, CONTROL)
            given |= {"bytes": "bytes", merged.name: merged}
        for name, value in given.items():
            tell(name)
            found[name] = metric.from_dict(metric.to_dict() | {"tokenizer": value}).over(texts, draws=draws)
    return found


def _benchmark(
    benchmark: Benchmark, model: str, use: list[str], options: Mapping[str, Any], *, generate: int | None,
    limit: int | None, seed: int, file: Path | None,
) -> Results:  # fmt: skip
    from tokenry.apps.cli.show import working
    from tokenry.measure.tasks.answering import Chosen, Generated
    from tokenry.models.files.load import load
    from tokenry.pipeline.pipeline import Pipeline

    pipeline = Pipeline(use)
    total = sum(1 for _ in benchmark.samples(seed=seed, limit=limit))
    language = load(model, **options)
    answering = Chosen(language, pipeline) if generate is None else Generated(language, pipeline, generate)
    with working(total) as tell:
        return benchmark.run(answering, seed=seed, limit=limit, file=file, tell=tell)


def _show_numbers(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right")
    for quantity in dict.fromkeys(q for m in found.values() for q in m.values):
        cells = (_cell(m.values[quantity], m.intervals.get(quantity)) for m in found.values())
        table.add_row(quantity.replace("_", " "), *cells)
    console = Console(highlight=False)
    (console if console.is_terminal else Console(width=120, highlight=False)).print(table)


def _show_results(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for results in found.values():
        table = Table("score", "mean", "95 %", "tasks", box=None, pad_edge=False)
        for name, score in results.summary().items():
            low, high = score["interval"]
            table.add_row(name, f"{score['mean']:.3f}", f"{low:.3f} to {high:.3f}", str(score["tasks"]))
        for name, value in results.benchmark.total(results).items():
            table.add_row(name, f"{value:,.0f}" if value == int(value) else f"{value:.3f}", "", "")
        console.print(table)
        across, *others = results.axes or ("",)
        for fact in others:
            console.print()
            columns = results.values(across)
            table = Table(fact, *(f"{across} {v:,}" for v in columns), box=None, pad_edge=False)
            for value in results.values(fact):
                table.add_row(f"{value:g}", *(f"{results.mean(**{across: c, fact: value}):.2f}" for c in columns))
            console.print(table)


def _draw(found: dict[str, Any], file: Path, names: tuple[str, ...]) -> None:
    from tokenry.apps.cli.show import warn
    from tokenry.measure.base import Measured
    from tokenry.measure.reporting import pictures

    if all(isinstance(m, Measured) for m in found.values()):
        pictures.numbers(found, file, names)
    else:
        pictures.accuracy(found, file)
    warn(f"plot: {file}")


def _cell(value: float, interval: tuple[float, float] | None) -> str:
    shown = f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.3f}"
    if interval is None or interval[0] == interval[1] or abs(value) > 1000:
        return shown
    return f"{shown} ± {(interval[1] - interval[0]) / 2:.3f}"


def _strict(document: Any) -> str:
    """JSON without NaN, which is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if value == value and abs(value) != float("inf") else None
        if isinstance(value, Mapping):
            return {name: plain(v) for name, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(document))
