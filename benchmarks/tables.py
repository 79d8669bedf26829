"""What the results show, as tables: the same ones in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
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


def show(document: Result, tables: Callable[[Result], list[Table]]) -> None:
    """Print a result: tables first, claims last."""
    for table in tables(document):
        table.show()
    for line in claim_lines(document):
        print(line)


def claim_lines(document: Result) -> list[str]:
    """One sentence for everything that was to be shown."""
    return [
        f"{'Holds' if c['holds'] else 'DOES NOT HOLD'}: {c['text']}: {c['value']:g}"
        + ("" if "interval" not in c else " (95 %: {:g} to {:g})".format(*c["interval"]))
        + f"; needed: {c['needed']}."
        for c in document["claims"]
    ]


def by(rows: Iterable[Row], key: str) -> list[tuple[str, list[Row]]]:
    """Rows grouped by one of their fields, in the order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())


def fixed(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point."""
    return "" if value is None else f"{value:,.{digits}f}"


def fold(value: float | None) -> str:
    """How many times: `1.41×`."""
    return "" if value is None else f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def percent(share: float | None) -> str:
    """A share in percent."""
    return "" if share is None else f"{100 * share:.1f} %"


def interval(ends: tuple[float, float], digits: int, factor: float = 1.0) -> str:
    """Both ends of an interval."""
    return " to ".join(f"{factor * end:.{digits}f}" for end in ends)


def span(values: Sequence[float], digits: int) -> str:
    """One value, or the smallest and the largest of several."""
    ends = dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values)))
    return " to ".join(ends)
