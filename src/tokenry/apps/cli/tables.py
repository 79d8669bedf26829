"""Tables for terminals of any width and for pipes: names wrap, the least columns go first, nothing else is cut."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console

GAP = "  "
LEAST = 24
"""Characters that the names keep before a column goes."""

_console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures.

    Args:
        name: its heading.
        rank: of the columns that may go where there is no room the highest goes first; 0 always stays.
        width: characters it has at least, for figures that are not known yet.
        left: whether its cells begin at the same place, as words do.
    """

    name: str
    rank: int = 0
    width: int = 0
    left: bool = False


class Table:
    """Rows of a name and figures, printed on standard output when they are known.

    Args:
        name: heading of the names.
        names: all of them, since they say how wide their column is.
        columns: of the figures.
        rows: figures of rows that are known, for the widths.
    """

    def __init__(
        self, name: str, names: Sequence[str], columns: Sequence[Column], rows: Sequence[Sequence[str]] = ()
    ) -> None:
        self.widths = [
            max([cell_len(c.name), c.width, *(cell_len(row[i]) for row in rows)]) for i, c in enumerate(columns)
        ]
        self.columns, self.head = columns, name
        longest, room = max(map(cell_len, (name, *names)), default=0), width()
        shown = list(range(len(columns)))
        while room is not None and shown and self._left(shown, room) < min(longest, LEAST):
            least = max(shown, key=lambda i: (columns[i].rank, i))
            if not columns[least].rank:
                break
            shown.remove(least)
        self.shown = shown
        self.wide = longest if room is None else max(min(longest, self._left(shown, room)), min(longest, LEAST))

    def heading(self) -> None:
        """Print the headings."""
        self.row(self.head, [c.name for c in self.columns], style="bold")

    def row(self, name: str, cells: Sequence[str], style: str = "", note: str = "") -> None:
        """Print a row; a note goes on below it, over the whole width."""
        figures = [
            cells[i] + pad if self.columns[i].left else pad + cells[i]
            for i in self.shown
            for pad in [" " * (self.widths[i] - cell_len(cells[i]))]
        ]
        first, *more = folded(name, self.wide)
        line = GAP.join((first + " " * (self.wide - cell_len(first)), *figures)).rstrip()
        lines = [line, *more, *(folded(f"  {note}", width() or len(note) + 2) if note else ())]
        _console.print("\n".join(lines), markup=False, soft_wrap=True, style=style)

    def _left(self, shown: Sequence[int], room: int) -> int:
        return room - sum(self.widths[i] + len(GAP) for i in shown)


def listed(rows: Sequence[Sequence[str]]) -> None:
    """Rows of words in columns. The last one wraps in a terminal, below the others where it has no room beside them."""
    widths = [max(map(cell_len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    ahead, room = sum(widths) + len(GAP) * len(widths), width()
    below = room is not None and room - ahead < LEAST
    for row in rows:
        words = [word + " " * (wide - cell_len(word)) for word, wide in zip(row, widths, strict=False)]
        start = GAP.join((*words, ""))
        if below and room is not None:
            lines = [start, *(f"    {line}" for line in folded(row[-1], max(20, room - 4), indent=""))]
        else:
            last = [row[-1]] if room is None else folded(row[-1], room - ahead, indent="")
            lines = [start + last[0], *(" " * ahead + line for line in last[1:])]
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))


def width() -> int | None:
    """Characters on a line of the terminal; None where nobody reads in one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def folded(text: str, wide: int, indent: str = "  ") -> list[str]:
    """A text on lines of at most so many characters; a part that is longer than a line loses its middle."""
    lines, line = [], ""
    for part in re.findall(r"[^\s:,|/]*[\s:,|/]*", text):
        if line.strip() and cell_len((line + part).rstrip()) > wide:
            lines.append(line.rstrip())
            line = indent
        line += shortened(part, wide - cell_len(line)) if cell_len((line + part).rstrip()) > wide else part
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def shortened(text: str, wide: int) -> str:
    """A text of at most so many characters, with its beginning and its end."""
    if cell_len(text) <= wide:
        return text
    keep = max(2, wide - 1)
    return text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :]
