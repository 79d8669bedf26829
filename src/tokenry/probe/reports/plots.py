"""Charts of a report: maps where two axes count, lines where one does."""

from __future__ import annotations

import html
import io
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tokenry.probe.reports.report import Report, Table

ACROSS = 4
"""Most maps of one table; of what further axes would need more, the first are drawn."""


def figure(report: Report) -> Figure:
    """One row of charts for each table."""
    from matplotlib.figure import Figure

    rows = [(name, table) for name, table in report.tables.items() if table.values.numel()]
    drawn = Figure(figsize=(3.4 * ACROSS, 2.9 * max(1, len(rows))), layout="constrained")
    strips = drawn.subfigures(max(1, len(rows)), 1, squeeze=False)[:, 0]
    for strip, (name, table) in zip(strips, rows, strict=False):
        strip.suptitle(f"{name}: {table.about}", fontsize=9, x=0.01, ha="left")
        _draw(strip, table)
    return drawn


def page(report: Report) -> str:
    """The same as a page, with the sentences above the picture."""
    said = io.StringIO()
    figure(report).savefig(said, format="svg")
    picture = said.getvalue()
    lines = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in report.said)
    title = html.escape(f"tokenry {report.probe.room} {report.probe.name()}")
    return _TEMPLATE.format(title=title, lines=lines, picture=picture[picture.index("<svg") :])


def _draw(strip: Any, table: Table) -> None:
    from matplotlib.ticker import MaxNLocator

    values = table.values.detach().float().cpu()
    last = table.axes[-1]
    if values.dim() == 1 or table.axes[-2] in table.names:
        _lines(strip.subplots(), values.reshape(-1, values.shape[-1]), table, last)
        return
    maps = list(product(*(table.named(axis) for axis in table.axes[:-2])))[:ACROSS]
    flat = values.reshape(-1, *values.shape[-2:])
    low, high = _range(values)
    charts = strip.subplots(1, len(maps), squeeze=False)[0]
    for chart, titles, one in zip(charts, maps, flat, strict=False):
        shown = chart.imshow(
            one.numpy(), aspect="auto", origin="lower", interpolation="nearest", vmin=low, vmax=high,
            cmap="RdBu" if low < 0 else "viridis",
        )  # fmt: skip
        chart.set_title(", ".join(titles), fontsize=8)
        chart.set_xlabel(last)
        chart.set_ylabel(table.axes[-2])
        for axis in (chart.xaxis, chart.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    strip.colorbar(shown, ax=list(charts))


def _lines(chart: Any, values: torch.Tensor, table: Table, last: str) -> None:
    names = [", ".join(found) for found in product(*(table.named(axis) for axis in table.axes[:-1]))]
    places = range(values.shape[-1])
    for i, (name, line) in enumerate(zip(names, values, strict=True)):
        if last in table.names:
            width = 0.8 / len(names)
            chart.bar([p + i * width for p in places], line.numpy(), width=width, label=name)
        else:
            chart.plot(places, line.numpy(), marker=".", label=name)
    if last in table.names:
        chart.set_xticks(list(places), table.named(last), fontsize=8)
    elif values.shape[-1] and float(values.nan_to_num(0).max()) > 20 * float(values.nan_to_num(1).abs().median()):
        chart.set_yscale("log")
    chart.set_xlabel(last)
    chart.grid(color="0.93")
    chart.set_axisbelow(True)
    chart.spines[["top", "right"]].set_visible(False)
    if any(names):
        chart.legend(fontsize=7, frameon=False)


def _range(values: torch.Tensor) -> tuple[float, float]:
    """Colours from 0 to the largest, or as far on both sides of 0."""
    high = float(values.nan_to_num(0).abs().max()) or 1.0
    return (-high, high) if float(values.nan_to_num(0).min()) < 0 else (0.0, high)


# The picture is drawn dark on light, so that it keeps a light ground; narrow screens scroll it.
_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ink: #1b1b1b; --page: #ffffff }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e4e9ea; --page: #0f1315 }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: var(--ink); background: var(--page) }}
div {{ overflow-x: auto; background: #ffffff; border-radius: .4rem }}
svg {{ display: block; width: 100%; min-width: 48rem; height: auto }}
</style>
<h1>{title}</h1>
<ul>{lines}</ul>
<div tabindex="0">{picture}</div>
</html>
"""
