"""One part of a corpus, from its rows to the bytes of its files: the same wherever it is done."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenry.core.errors import InvalidValue, TokenryError, UnreadableInput
from tokenry.core.memory import peak_bytes
from tokenry.pipeline.batch.corpus import Part, Row
from tokenry.pipeline.batch.work import Doing, column_of

FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How rows are written.

    Args:
        to: `jsonl` or `parquet`.
        keep: columns that come along with the results; all where None.
        column: what is read of a row, and `results` the columns that it gets with their types: see `work`.
    """

    to: str = "jsonl"
    keep: tuple[str, ...] | None = None
    column: str | None = None
    results: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A part that was done.

    Args:
        number: of the part.
        rows: bytes of the file of its rows.
        errors: bytes of the file of its bad rows; empty where there are none.
        sums: rows, bad rows, and the sums of all whole numbers that rows got.
        cost: who did it, in how many seconds, and the most memory that the process ever had.
    """

    number: int
    rows: bytes
    errors: bytes
    sums: dict[str, int]
    cost: dict[str, Any]


def do(
    part: Part, doing: Doing, form: Form, *,
    begins: Callable[[int], None] = lambda _: None, lost: Mapping[int, str] | None = None,
) -> Done:  # fmt: skip
    """Do all rows of a part; one that cannot be done is a line of the errors, with its reason.

    Args:
        begins: called with the number of each row in the part before it is done.
        lost: rows that end the process that does them, and what is said of each.

    Raises:
        UnreadableInput: the file went away or was changed.
    """
    started = time.perf_counter()
    sums: Counter[str] = Counter(rows=0, bad=0)
    good, bad = [], []
    for i, row in enumerate(_rows(part)):
        begins(i)
        kind, reason = "TokenryError", (lost or {}).get(i) or row.fault
        values = row.values if form.keep is None else {k: v for k, v in row.values.items() if k in form.keep}
        if not reason:
            try:
                found = doing(row.values)
                good.append(_written(_beside(values, found), form))
            except TokenryError as error:
                kind, reason = type(error).__name__, str(error)
            except Exception as error:
                # Whatever is wrong with one row, the others are done.
                kind, reason = type(error).__name__, f"{type(error).__name__}: {error}"
        if reason:
            bad.append({"part": part.number, "place": row.place, "kind": kind, "reason": reason})
        else:
            sums.update({name: v for name, v in found.items() if isinstance(v, int)})
        sums.update(rows=not reason, bad=bool(reason))
    cost = {"worker": worker(), "seconds": time.perf_counter() - started, "peak_bytes": peak_bytes()}
    return Done(
        number=part.number, rows=_file(good, part, form), errors=_jsonl(map(_line, bad)), sums=dict(sums), cost=cost
    )


def _rows(part: Part) -> Iterator[Row]:
    try:
        yield from part.read()
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{part.file}: must stay as it was while rows are read; {str(error)[:160]}.") from error


def worker() -> str:
    """What this process is called."""
    return f"{platform.node()} process {os.getpid()}"


def _beside(values: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A row with its results."""
    both = next((name for name in found if name in values), None)
    if both is not None:
        raise InvalidValue(f"row: must leave the column {both!r} to the result; rename it, or do not keep it.")
    return values | found


def _written(values: dict[str, Any], form: Form) -> Any:
    """A row as its format takes it; one that the format cannot carry is a bad row."""
    if form.to != "jsonl":
        return values
    try:
        return _line(values)
    except ValueError as error:
        name = next((name for name, value in values.items() if not _is_json(value)), "a column")
        raise InvalidValue(f"row: must hold what JSON holds, so no NaN; {name} does not; do not keep it.") from error


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _line(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is no UTF-8, but JSON can write it.
        text = json.dumps(values, allow_nan=False)
    return text


def _file(rows: list[Any], part: Part, form: Form) -> bytes:
    if form.to == "jsonl":
        return _jsonl(rows)
    from tokenry.pipeline.batch import tables

    columns = {f.name: f for f in part.schema}
    kept = [f for name, f in columns.items() if form.keep is None or name in form.keep]
    return tables.written(rows, kept, form.results, columns.get(column_of(form.column, columns)))


def _jsonl(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
