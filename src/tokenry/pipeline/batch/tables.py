"""Rows of Parquet files and of datasets on disk, by pyarrow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenry.core.errors import UnreadableInput
from tokenry.core.needs import need


def count(file: str, kind: str) -> int:
    """Rows of a file.

    Raises:
        UnreadableInput: it is damaged, or two of its columns have one name, so that rows could hold only one of them.
    """
    names = schema(file, kind).names
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise UnreadableInput(f"{file}: must name each column once; it has {twice!r} twice; rename one of them.")
    return _parquet(file).metadata.num_rows if kind == "table" else _arrow(file, _changed(file)).num_rows


def schema(file: str, kind: str) -> Any:
    """Columns of a file and their types, without what libraries note beside them."""
    found = _parquet(file).schema_arrow if kind == "table" else _arrow(file, _changed(file)).schema
    return found.remove_metadata()


def beyond_json(columns: Any) -> Any:
    """The first column of a type that JSON does not hold, such as times, or None."""
    types = need("pyarrow", "columns").types

    def is_held(kind: Any) -> bool:
        if types.is_struct(kind):
            return all(is_held(kind.field(i).type) for i in range(kind.num_fields))
        if types.is_map(kind):
            return is_held(kind.key_type) and is_held(kind.item_type)
        if hasattr(kind, "value_type"):
            return is_held(kind.value_type)
        plain = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
        return any(is_one(kind) for is_one in (*plain, types.is_null))

    return next((column for column in columns if not is_held(column.type)), None)


def rows(file: str, kind: str, first: int, size: int) -> list[dict[str, Any]]:
    """Some rows that follow each other, as plain values."""
    if kind == "dataset":
        return _arrow(file, _changed(file)).slice(first, size).to_pylist()
    meta, at, begin = _parquet(file).metadata, 0, 0
    groups: list[int] = []
    for group in range(meta.num_row_groups):
        held = meta.row_group(group).num_rows
        if at < first + size and at + held > first:
            begin = begin if groups else at
            groups.append(group)
        at += held
    return _groups(file, _changed(file), tuple(groups)).slice(first - begin, size).to_pylist()


def written(rows: Sequence[Mapping[str, Any]], columns: Any, results: Mapping[str, str], read: Any) -> bytes:
    """Rows as a Parquet file, the same bytes for the same rows.

    Args:
        columns: schema of what came with the rows.
        results: types of what was added by name, as `RESULTS` of `work` writes them.
        read: the column that was read; None where there is none, and so no row.
    """
    pa, pq = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
    added = [pa.field(name, _type(pa, kind, [row[name] for row in rows], read)) for name, kind in results.items()]
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema([*columns, *added]))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _type(pa: Any, kind: str, values: Sequence[Any], read: Any) -> Any:
    if kind == "=":
        return pa.null() if read is None else read.type
    if kind.startswith("["):
        return pa.list_(pa.type_for_alias(kind[1:-1]))
    if kind.startswith("{"):
        names = dict.fromkeys(name for numbers in values for name in numbers)
        # Without a good row nobody knows the names, and a group of none cannot be written.
        return pa.struct([(name, pa.type_for_alias(kind[1:-1])) for name in names]) if names else pa.null()
    return pa.type_for_alias(kind)


def _changed(file: str) -> int:
    return Path(file).stat().st_mtime_ns


def _parquet(file: str) -> Any:
    pq = need("pyarrow.parquet", file)
    try:
        return pq.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{file}: must be a whole Parquet file; {str(error)[:160].rstrip('.')}.") from error


@lru_cache(maxsize=1)
def _groups(file: str, changed: int, groups: tuple[int, ...]) -> Any:
    """Groups of rows, kept for the next part, which mostly lies in the same."""
    return _parquet(file).read_row_groups(list(groups))


@lru_cache(maxsize=2)
def _arrow(file: str, changed: int) -> Any:
    """A file of a dataset, mapped into memory, of which only what is looked at is read."""
    pa = need("pyarrow", file)
    try:
        return pa.ipc.open_stream(pa.memory_map(file)).read_all()
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{file}: must be a whole file of a dataset; {str(error)[:160].rstrip('.')}.") from error
