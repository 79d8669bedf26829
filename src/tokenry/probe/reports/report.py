"""What a probe saw: tables of numbers with named axes, a few sentences, and a picture of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import whole_file, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tokenry.core.method import Method

KINDS = (".html", ".png", ".svg")

REPORT_SCHEMA = "tokenry.probe/0"


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers with an axis name for each dimension.

    Args:
        values: the numbers; NaN where there is none.
        axes: what each dimension counts, such as `layer`, `head` or `column`.
        about: one line that says what the numbers are, with their unit.
        names: what the entries of an axis are called, where they have names.

    Raises:
        InvalidValue: axes or names that do not fit the values.
    """

    values: Tensor
    axes: tuple[str, ...]
    about: str
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = dict(zip(self.axes, self.values.shape, strict=False))
        fits = len(self.axes) == self.values.dim() and len(sizes) == len(self.axes)
        if not fits or any(sizes.get(axis) != len(names) for axis, names in self.names.items()):
            raise InvalidValue(
                f"Table: axes and names must fit the values; got {tuple(self.values.shape)} for {self.axes} with "
                f"{ {axis: len(names) for axis, names in self.names.items()} }."
            )

    def named(self, axis: str) -> tuple[str, ...]:
        """What the entries of an axis are called; their numbers where they have no names."""
        return self.names.get(axis) or tuple(map(str, range(self.values.shape[self.axes.index(axis)])))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; null stands for NaN."""
        return {
            "about": self.about, "axes": list(self.axes),
            "names": {axis: list(names) for axis, names in self.names.items()}, "values": _plain(self.values.tolist()),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Report:
    """All that a probe has to say about a model and a batch.

    Args:
        probe: who looked.
        tables: by name, the most telling first.
        said: short sentences with the numbers that matter.
    """

    probe: Method
    tables: Mapping[str, Table]
    said: tuple[str, ...]

    def __getitem__(self, name: str) -> Tensor:
        """The numbers of a table.

        Raises:
            InvalidValue: no table has this name.
        """
        if name not in self.tables:
            raise InvalidValue(f"{self.probe.name()}: table must be one of {', '.join(self.tables)}; got {name!r}.")
        return self.tables[name].values

    def summary(self) -> str:
        """The sentences, one on each line."""
        return "\n".join(self.said)

    def to_dict(self) -> dict[str, Any]:
        """One JSON document with a schema, the probe's settings, the sentences and all numbers."""
        return {
            "schema": REPORT_SCHEMA, "probe": self.probe.to_dict(), "summary": list(self.said),
            "tables": {name: table.to_dict() for name, table in self.tables.items()},
        }  # fmt: skip

    def plot(self) -> Figure:
        """A matplotlib figure with a row of charts for each table."""
        from tokenry.probe.reports.plots import figure

        return figure(self)

    def write(self, file: str | Path) -> None:
        """Write the picture, or a page with it, by the ending of `file`; whole or not at all.

        Raises:
            InvalidValue: another ending.
            StorageError: the file cannot be written.
        """
        from tokenry.probe.reports.plots import page

        file = Path(file)
        check_kind(file)
        if file.suffix == ".html":
            write_text(file, page(self))
            return
        with whole_file(file) as draft:
            self.plot().savefig(draft, format=file.suffix[1:], dpi=120)


def check_kind(file: Path) -> None:
    """Refuse an ending that stands for no kind of picture."""
    if file.suffix not in KINDS:
        raise InvalidValue(f"plot: must end in {', '.join(KINDS)}; got {str(file)!r}.")


def _plain(values: Any) -> Any:
    if isinstance(values, list):
        return [_plain(v) for v in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
