"""`tokenry measure`: numbers about tokenizers over a corpus, and tasks with known answers for models."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenry.apps.cli import complete, measure_tokenizers
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import warn, working
from tokenry.apps.cli.tables import Column, Table, shortened, width
from tokenry.core.errors import Incompatible, InvalidValue

if TYPE_CHECKING:
    from tokenry.measure.base import Benchmark, Measured, Metric
    from tokenry.measure.reporting.results import Results

MEASURE_SCHEMA = "tokenry.measure/0"
CONTROL = 4096
"""Entries of the vocabulary of random merges."""
HEADING = 24
"""Characters of the name of a tokenizer in a terminal."""


def measure(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="A metric or benchmark, name:field=value,…; or `tokenizers`, to compare those that follow.",
            autocompletion=complete.methods,
        ),
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CORPUS...]",
            help="Text files for a metric, - is standard input; after `tokenizers` their names.",
            autocompletion=complete.files,
        ),
    ] = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An alias, file, folder or hub id, or bytes; repeatable.",
            autocompletion=complete.tokenizers,
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus", metavar="FILE", help="Texts for `tokenizers`; repeatable.", autocompletion=complete.files
        ),
    ] = None,
    languages: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="For `tokenizers`: the same passages, one a line, in each language."),
    ] = None,
    words: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For `tokenizers`: words in morphs, as ev+ler, on lines.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="For `tokenizers`: draw it as a page.")] = None,
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
    if method == measure_tokenizers.WORD:
        document = measure_tokenizers.measured(
            [*(corpus or []), *(tokenizer or [])], texts or [], languages or [], words, draws
        )
        if as_json:
            sys.stdout.write(_strict(document) + "\n")
        else:
            _show_families(document)
        if html is not None:
            measure_tokenizers.draw(document, html)
        return
    if texts or languages or words or html:
        raise InvalidValue("measure: --corpus, --languages, --words and --html must stand after `measure tokenizers`.")
    [entry] = o.check(use=[method], dtype=dtype)
    o.check(use=use or [], model=model)
    if entry is None or entry.room != "measure":
        room = f"of room {entry.room}" if entry else "learned"
        raise Incompatible(f"measure: {method} is {room}; pass a method of room measure.")

    from tokenry.core.registry import parse
    from tokenry.measure.base import Benchmark, Metric
    from tokenry.measure.reporting import pictures

    if plot is not None:
        pictures.check(plot)
    chosen = parse(method)
    if isinstance(chosen, Metric):
        found: dict[str, Any] = _metric(chosen, corpus or [], tokenizer or [], controls, draws)
        document = {"measured": [{"name": n, **m.to_dict()} for n, m in found.items()]}
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
        raise Incompatible(f"measure: {chosen} must be a metric or a benchmark.")
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

    from tokenry.measure.statistics.controls import random_merges
    from tokenry.segment.engines.opening import open_tokenizer

    given: dict[str, Any] = {n: n if n == "bytes" else open_tokenizer(n) for n in names or [str(metric.tokenizer)]}
    found = {}
    with working() as status:
        tell = status.counting(len(given) + 2 * controls)
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
    from tokenry.measure.tasks.answering import Chosen, Generated
    from tokenry.models.files.load import load
    from tokenry.pipeline.pipeline import Pipeline

    pipeline = Pipeline(use)
    total = sum(1 for _ in benchmark.samples(seed=seed, limit=limit))
    with working() as status:
        language = load(model, **options)
        answering = Chosen(language, pipeline) if generate is None else Generated(language, pipeline, generate)
        return benchmark.run(answering, seed=seed, limit=limit, file=file, tell=status.counting(total))


def _show_numbers(found: dict[str, Any]) -> None:
    quantities = list(dict.fromkeys(q for m in found.values() for q in m.values))
    rows = [
        _cells([m.values[q] for m in found.values()], [m.intervals.get(q) for m in found.values()]) for q in quantities
    ]
    _print("", [q.replace("_", " ") for q in quantities], list(found), rows)


def _show_families(document: Mapping[str, Any]) -> None:
    """A table for each family, one column for each tokenizer."""
    tokenizers = document["tokenizers"]
    for i, family in enumerate(tokenizers[0]["families"]):
        sys.stdout.write("\n" * bool(i))
        found = [t["families"][family] for t in tokenizers]
        quantities = list(dict.fromkeys(q for m in found for q in m["values"]))
        rows = [
            _cells([m["values"].get(q, math.nan) for m in found], [m["intervals"].get(q) for m in found])
            for q in quantities
        ]
        _print(family, [q.replace("_", " ") for q in quantities], [t["name"] for t in tokenizers], rows)


def _show_results(found: dict[str, Any]) -> None:
    for results in found.values():
        scores = results.summary()
        totals = results.benchmark.total(results)
        rows = [
            [f"{s['mean']:.3f}", f"{s['interval'][0]:.3f} to {s['interval'][1]:.3f}", str(s["tasks"])]
            for s in scores.values()
        ]
        rows += [[f"{v:,.0f}" if v == int(v) else f"{v:.3f}", "", ""] for v in totals.values()]
        _print("score", [*scores, *totals], ["mean", "95 %", "tasks"], rows)
        across, *others = results.axes or ("",)
        for fact in others:
            sys.stdout.write("\n")
            columns, values = results.values(across), results.values(fact)
            rows = [[f"{results.mean(**{across: c, fact: value}):.2f}" for c in columns] for value in values]
            _print(fact, [f"{value:g}" for value in values], [f"{across} {c:,}" for c in columns], rows)


def _print(head: str, names: list[str], columns: list[str], rows: list[list[str]]) -> None:
    """A table of which no column may go; in a terminal long headings lose their middle."""
    shown = [shortened(name, HEADING) for name in columns] if width() is not None else columns
    table = Table(head, names, [Column(name) for name in shown], rows)
    table.heading()
    for name, cells in zip(names, rows, strict=True):
        table.row(name, cells)


def _draw(found: dict[str, Any], file: Path, names: tuple[str, ...]) -> None:
    from tokenry.measure.base import Measured
    from tokenry.measure.reporting import pictures

    if all(isinstance(m, Measured) for m in found.values()):
        pictures.numbers(found, file, names)
    else:
        pictures.accuracy(found, file)
    warn(f"plot: {file}")


def _cells(values: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> list[str]:
    """The numbers of a row, all of them whole or none."""
    whole = all(value == int(value) for value in values if math.isfinite(value))
    return [_cell(value, interval, whole) for value, interval in zip(values, intervals, strict=True)]


def _cell(value: float, interval: tuple[float, float] | None, whole: bool) -> str:
    from tokenry.report.figures import number

    shown = number(value, whole)
    if not math.isfinite(value) or interval is None or interval[0] == interval[1] or abs(value) > 1000:
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
