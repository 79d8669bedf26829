"""A comparison as a picture for papers and slides, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenry.report.compare.costs import COSTS, front, short

if TYPE_CHECKING:
    from tokenry.pipeline.compare import Arm

WIDE = 13.0
"""Inches of a picture."""
LETTERS = 150
"""Letters of the legend that fit beside each other in a picture."""


def picture(arms: Sequence[Arm]) -> Any:
    """Three charts beside each other; dense is at loss 0, controls are hollow, the line is what none beats."""
    from matplotlib.figure import Figure

    columns = max(1, min(3, LETTERS // max(len(arm.name) + 6 for arm in arms)))
    figure = Figure(figsize=(WIDE, 4.2 + 0.2 * -(-len(arms) // columns)), layout="constrained")
    charts = figure.subplots(1, len(COSTS), sharey=True)
    losses = [arm.kl or 0.0 for arm in arms]
    for chart, (title, cost) in zip(charts, COSTS.items(), strict=True):
        points = [(cost.of(arm), loss) for arm, loss in zip(arms, losses, strict=True)]
        line = [points[i] for i in front(points)]
        chart.step(*zip(*line, strict=True), where="post", color="0.7", linewidth=1, zorder=1)
        for i, (arm, (x, y)) in enumerate(zip(arms, points, strict=True)):
            colour = "black" if arm.kl is None else f"C{(i - 1) // 2 % 10}"
            face = "white" if arm.control else colour
            chart.scatter(
                x, y, s=44, color=colour, facecolor=face, zorder=2, label=arm.name if chart is charts[0] else None
            )
        chart.set_xlabel(title)
        chart.set_xlim(left=0)
        chart.xaxis.set_major_formatter(lambda value, _, show=cost.show: short(show(value)) if value else "0")
        chart.grid(color="0.93")
        chart.spines[["top", "right"]].set_visible(False)
    charts[0].set_ylabel("KL to dense, nats a token")
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure
