"""What a comparison shows at a glance: loss against tokens, bytes and seconds, as a picture or a page."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import whole_file, write_text

if TYPE_CHECKING:
    from tokenry.pipeline.compare import Arm

COSTS: dict[str, Callable[[Arm], float]] = {
    "tokens read per step": lambda a: _mean(a.receipt.read_per_step),
    "MB of keys and values read": lambda a: a.receipt.bytes_read / 1e6,
    "seconds for the answer": lambda a: a.receipt.seconds.first_token + a.receipt.seconds.decode,
}
KINDS = (".html", ".png", ".svg")


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that none beats in both cost and loss, cheapest first."""
    best, found = float("inf"), []
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        if points[i][1] < best:
            best = points[i][1]
            found.append(i)
    return found


def write(arms: Sequence[Arm], file: Path) -> None:
    """Draw the arms to a page or a picture, by the ending of `file`; whole or not at all.

    Raises:
        InvalidValue: another ending.
    """
    check(file)
    figure = _figure(arms)
    if file.suffix == ".html":
        write_text(file, _page(arms, figure))
        return
    with whole_file(file) as draft:
        figure.savefig(draft, format=file.suffix[1:], dpi=160)


def check(file: Path) -> None:
    """Refuse an ending that stands for no kind of picture."""
    if file.suffix not in KINDS:
        raise InvalidValue(f"plot: must end in {', '.join(KINDS)}; got {str(file)!r}.")


def _figure(arms: Sequence[Arm]) -> Any:
    """Three charts beside each other; dense is at loss 0, controls are hollow, the line is what none beats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    charts = figure.subplots(1, len(COSTS), sharey=True)
    losses = [arm.kl or 0.0 for arm in arms]
    for chart, (title, cost) in zip(charts, COSTS.items(), strict=True):
        points = [(cost(arm), loss) for arm, loss in zip(arms, losses, strict=True)]
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
        chart.grid(color="0.93")
        chart.spines[["top", "right"]].set_visible(False)
    charts[0].set_ylabel("KL to dense, nats a token")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _page(arms: Sequence[Arm], figure: Any) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    picture = drawn.getvalue()
    heads = ("arm", "KL", "top-1", *COSTS, "answer")
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(arm)) + "</tr>" for arm in arms)
    return _TEMPLATE.format(
        picture=picture[picture.index("<svg") :], heads="".join(f"<th>{html.escape(h)}</th>" for h in heads), rows=rows
    )


def _cells(arm: Arm) -> list[str]:
    loss = ["", ""] if arm.kl is None or arm.top1 is None else [f"{arm.kl:.3f}", f"{arm.top1:.0%}"]
    return [arm.name, *loss, *(f"{cost(arm):.3g}" for cost in COSTS.values()), arm.answer]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>tokenry compare</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1b1b }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #ddd }}
td:not(:first-child):not(:last-child) {{ font-variant-numeric: tabular-nums; white-space: nowrap }}
</style>
<h1>Loss against cost</h1>
<p>Filled: what was compared. Hollow: random choice at the same budget. Black: the model alone. No point lies below
and left of the line.</p>
{picture}
<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>
</html>
"""
