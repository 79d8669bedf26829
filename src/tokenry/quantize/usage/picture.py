"""A picture of how evenly codes are used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import whole_file
from tokenry.quantize.usage.tally import Tally

KINDS = (".png", ".svg")


def draw(tallies: Sequence[Tally], file: Path) -> None:
    """One line for each codebook: shares of its codes that came, the largest first; dotted, where all are alike.

    Raises:
        InvalidValue: a file that ends in no kind of picture.
    """
    if file.suffix not in KINDS:
        raise InvalidValue(f"plot: must end in {', '.join(KINDS)}; got {str(file)!r}.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    chart = figure.subplots()
    for i, tally in enumerate(tallies):
        shares = tally.counts.sort(descending=True).values.double() / max(1, tally.tokens)
        name = f"codebook {i}: {tally.used:,} of {tally.size:,}, perplexity {tally.perplexity:.1f}"
        (line,) = chart.plot(range(1, tally.used + 1), shares.numpy(), label=name)
        chart.hlines(1 / tally.size, 1, tally.size, colors=line.get_color(), linestyles="dotted", linewidth=1)
    chart.set_yscale("log")
    chart.set_xlabel("codes, the most frequent first")
    chart.set_ylabel("share of all tokens")
    chart.grid(color="0.93")
    chart.set_axisbelow(True)
    chart.spines[["top", "right"]].set_visible(False)
    chart.legend(fontsize=8, frameon=False)
    with whole_file(file) as draft:
        figure.savefig(draft, format=file.suffix[1:], dpi=160)
