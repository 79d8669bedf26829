"""Pictures of results: accuracy over length and depth or hops, and numbers of tokenizers beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import whole_file

if TYPE_CHECKING:
    from tokenry.measure.base import Measured
    from tokenry.measure.reporting.results import Results

KINDS = (".png", ".svg")
THRESHOLD = 0.75
"""Accuracy at which the contour is drawn, as in the paper on needle threading."""


def check(file: Path) -> None:
    """Refuse an ending that stands for no kind of picture.

    Raises:
        InvalidValue: another ending.
    """
    if file.suffix not in KINDS:
        raise InvalidValue(f"plot: must end in {', '.join(KINDS)}; got {str(file)!r}.")


def accuracy(arms: Mapping[str, Results], file: Path, score: str = "right") -> None:
    """One map for each arm: the first axis to the right, the second upwards, the contour where both have values.

    With one axis of results, or one value on an axis, all arms are lines of one chart.
    """
    check(file)
    first = next(iter(arms.values()))
    axes = [name for name in first.axes if len(first.values(name)) > 1]
    if len(axes) < 2:
        _save(_lines(arms, (axes or list(first.axes))[0], score), file)
    else:
        _save(_maps(arms, axes[0], axes[1], score), file)


def numbers(measured: Mapping[str, Measured], file: Path, names: Sequence[str] = ()) -> None:
    """One small chart for each number, a bar with its interval for each of what was measured."""
    check(file)
    names = list(names) or list(dict.fromkeys(n for m in measured.values() for n in m.values))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = _figure((3.2 * columns, (0.9 + 0.28 * len(measured)) * rows))
    charts = figure.subplots(rows, columns, squeeze=False, sharey=True)
    places = list(range(len(measured)))
    for chart, name in zip(charts.flat, names, strict=False):
        for at, (_, found) in zip(places, measured.items(), strict=True):
            value = found.values.get(name, float("nan"))
            low, high = found.intervals.get(name, (value, value))
            chart.barh(at, value, color=f"C{at % 10}", height=0.7)
            chart.plot([low, high], [at, at], color="black", linewidth=1)
        chart.set_title(name.replace("_", " "), fontsize=9)
        chart.set_yticks(places, list(measured), fontsize=8)
        chart.tick_params(axis="x", labelsize=7)
        chart.spines[["top", "right"]].set_visible(False)
    for chart in charts.flat[len(names) :]:
        chart.set_visible(False)
    charts[0][0].invert_yaxis()
    _save(figure, file)


def _maps(arms: Mapping[str, Results], across: str, up: str, score: str) -> Any:
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    figure = _figure((4.2 * columns + 0.8, 3.4 * rows))
    charts = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    drawn = None
    for chart, (name, results) in zip(charts.flat, arms.items(), strict=False):
        x, y = results.values(across), results.values(up)
        table = [[results.mean(score, **{across: a, up: b}) for a in x] for b in y]
        drawn = chart.imshow(table, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="viridis")
        if all(v == v for row in table for v in row):
            chart.contour(table, levels=[THRESHOLD], colors="white", linewidths=1.5)
        for j, row in enumerate(table):
            for i, value in enumerate(row):
                if value == value:
                    chart.text(i, j, f"{value:.0%}", ha="center", va="center", fontsize=8,
                               color="black" if value > 0.6 else "white")  # fmt: skip
        chart.set_xticks(range(len(x)), [_word(v) for v in x], fontsize=8)
        chart.set_yticks(range(len(y)), [_word(v) for v in y], fontsize=8)
        chart.set_title(name, fontsize=9)
    for chart in charts.flat[len(arms) :]:
        chart.set_visible(False)
    for chart in charts[-1]:
        chart.set_xlabel(across)
    for row in charts:
        row[0].set_ylabel(up)
    figure.colorbar(drawn, ax=charts, label=f"accuracy; white: {THRESHOLD:.0%}", shrink=0.9)
    return figure


def _lines(arms: Mapping[str, Results], across: str, score: str) -> Any:
    figure = _figure((6.4, 4))
    chart = figure.subplots()
    for name, results in arms.items():
        x = results.values(across)
        chart.plot(range(len(x)), [results.mean(score, **{across: v}) for v in x], marker="o", label=name)
        chart.set_xticks(range(len(x)), [_word(v) for v in x])
    chart.axhline(THRESHOLD, color="0.6", linewidth=1, linestyle="--")
    chart.set_ylim(-0.03, 1.03)
    chart.set_xlabel(across)
    chart.set_ylabel("accuracy")
    chart.grid(color="0.93")
    chart.spines[["top", "right"]].set_visible(False)
    chart.legend(fontsize=8, frameon=False)
    return figure


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _save(figure: Any, file: Path) -> None:
    with whole_file(file) as draft:
        figure.savefig(draft, format=file.suffix[1:], dpi=160)


def _word(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
