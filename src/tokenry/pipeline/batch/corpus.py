"""A corpus as parts of so many rows: which they are is known before any is read, and each is read by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.core.needs import need
from tokenry.core.saving import read_json

LARGEST = 64 << 20
"""Bytes of one row beyond which it is refused."""
LINES = (".jsonl", ".ndjson")
TABLES = (".parquet",)
DATASET, DATASETS = "state.json", "dataset_dict.json"
"""What marks a folder as a dataset of Hugging Face, or as one with several splits."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it came.

    Args:
        place: where it stands, for people.
        values: its columns; empty where it cannot be read.
        fault: why it cannot be read, or nothing.
    """

    place: str
    values: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that stand together.

    Args:
        number: counts the parts of a corpus.
        kind: `lines`, `table`, `dataset` or `texts`.
        file: where they stand; of texts the folder.
        first: of the rows in the file.
        rows: how many there are, of lines also empty ones, which are no rows.
        span: their bytes in a file of lines.
        names: of texts, the files.
    """

    number: int
    kind: str
    file: str
    first: int
    rows: int
    span: tuple[int, int] = (0, 0)
    names: tuple[str, ...] = ()

    def read(self) -> Iterator[Row]:
        """The rows, a bad one with its fault."""
        return {"lines": _lines, "table": _table, "dataset": _table, "texts": _texts}[self.kind](self)

    @property
    def schema(self) -> Any:
        """The columns as pyarrow names them; None for lines, of which nobody knows before they are read."""
        if self.kind == "lines":
            return None
        pa = need("pyarrow", self.file)
        if self.kind == "texts":
            return pa.schema([("name", pa.string()), ("text", pa.string())])
        from tokenry.pipeline.batch import tables

        return tables.schema(self.file, self.kind)


def parts(inputs: Sequence[str | Path], size: int) -> list[Part]:
    """The parts of a corpus, in the order of what was given; of folders, in the order of names.

    Args:
        inputs: files of JSON lines (.jsonl), Parquet files, datasets that `save_to_disk` of Hugging Face's datasets
            wrote, text files, and folders of all of these.
        size: rows of a part, which never goes beyond one file of rows.

    Raises:
        UnreadableInput: an input that is missing, or a file that is damaged.
        InvalidValue: no row at all, a file that is given twice, or a library that is not installed.
    """
    if size < 1:
        raise InvalidValue(f"part: must be at least 1 row; got {size}.")
    found: list[Part] = []
    seen: set[Path] = set()
    for kind, file, names in _files(inputs):
        for one in (file / name for name in names or ("",)):
            if one.absolute() in seen:
                raise InvalidValue(f"input: must name each file once; {one} is read twice; leave one of them out.")
            seen.add(one.absolute())
        cut = {"lines": _cut_lines, "table": _cut_table, "dataset": _cut_table, "texts": _cut_texts}[kind]
        for first, rows, span, some in cut(kind, file, names, size):
            found.append(Part(len(found), kind, str(file), first, rows, span, some))
    if not found:
        raise InvalidValue(f"input: must hold at least one row; found none in {', '.join(map(str, inputs))}.")
    return found


def state(parts: Iterable[Part]) -> list[list[Any]]:
    """What tells whether the files of a corpus are still the same: their sizes and when they were changed.

    Raises:
        UnreadableInput: one is not there any more.
    """
    return stamps(dict.fromkeys(Path(p.file, name) for p in parts for name in p.names or ("",)))


def stamps(files: Iterable[Path]) -> list[list[Any]]:
    """The place, the size and the last change of files.

    Raises:
        UnreadableInput: one is not there any more.
    """
    found = []
    for file in files:
        try:
            facts = file.stat()
        except OSError as error:
            raise UnreadableInput(f"{file}: must stay as it was while rows are read; {error.strerror}.") from error
        found.append([str(file.resolve()), facts.st_size, facts.st_mtime_ns])
    return found


_Input = tuple[str, Path, tuple[str, ...]]
_Cut = Iterator[tuple[int, int, tuple[int, int], tuple[str, ...]]]


def _files(inputs: Iterable[str | Path]) -> Iterator[_Input]:
    """Files of rows, and folders with the text files in them that follow each other."""
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            yield from _folder(path)
        elif path.is_file():
            yield _file(path, path.parent)
        else:
            raise UnreadableInput(f"{given}: must be a file or a folder; there is none; check the path.")


def _folder(folder: Path) -> Iterator[_Input]:
    if (folder / DATASETS).is_file():
        for split in read_json(folder / DATASETS).get("splits", []):
            yield from _dataset(folder / str(split))
        return
    if (folder / DATASET).is_file():
        yield from _dataset(folder)
        return
    texts: list[str] = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        if any(name.startswith(".") for name in file.relative_to(folder).parts):
            continue
        kind, path, names = _file(file, folder)
        if kind == "texts":
            texts += names
            continue
        if texts:
            yield "texts", folder, tuple(texts)
            texts = []
        yield kind, path, ()
    if texts:
        yield "texts", folder, tuple(texts)


def _file(file: Path, folder: Path) -> _Input:
    if file.suffix in LINES:
        return "lines", file, ()
    if file.suffix in TABLES:
        return "table", file, ()
    return "texts", folder, (file.relative_to(folder).as_posix(),)


def _dataset(folder: Path) -> Iterator[_Input]:
    """The files of a saved dataset."""
    saved = read_json(folder / DATASET)
    if saved.get("_indices_files"):
        raise UnreadableInput(f"{folder}: must hold its rows in order; it holds a choice of rows; save it flattened.")
    files = saved.get("_data_files")
    names = [str(f.get("filename")) for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    if not names or not all(Path(n).name == n for n in names):
        raise UnreadableInput(f"{folder / DATASET}: must name the files of a dataset; it does not; save it again.")
    yield from (("dataset", folder / name, ()) for name in names)


def _cut_lines(kind: str, file: Path, names: object, size: int) -> _Cut:
    """Places where parts of a file of lines begin, without holding a line."""
    first = lines = start = at = 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                end = -1
                while (end := chunk.find(b"\n", end + 1)) >= 0:
                    lines += 1
                    if lines == size:
                        yield first, lines, (start, at + end + 1), ()
                        first, lines, start = first + lines, 0, at + end + 1
                at += len(chunk)
    except OSError as error:
        raise UnreadableInput(f"{file}: must be a readable file; {error.strerror}.") from error
    if at > start:
        yield first, lines + 1, (start, at), ()


def _cut_table(kind: str, file: Path, names: object, size: int) -> _Cut:
    from tokenry.pipeline.batch import tables

    rows = tables.count(str(file), kind)
    for first in range(0, rows, size):
        yield first, min(size, rows - first), (0, 0), ()


def _cut_texts(kind: str, folder: Path, names: tuple[str, ...], size: int) -> _Cut:
    for first in range(0, len(names), size):
        some = names[first : first + size]
        yield first, len(some), (0, 0), some


def _lines(part: Part) -> Iterator[Row]:
    with Path(part.file).open("rb") as stream:
        stream.seek(part.span[0])
        for i in range(part.first, part.first + part.rows):
            left = part.span[1] - stream.tell()
            line = stream.readline(min(left, LARGEST + 1))
            place = f"{Path(part.file).name} line {i + 1}"
            if len(line) > LARGEST:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(_CHUNK)
                yield Row(place, {}, f"row: must have at most {LARGEST >> 20} MB; it has more; split it.")
            elif line.strip():
                yield _line(place, line)


def _line(place: str, line: bytes) -> Row:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Row(place, {}, f"row: must be a line of JSON; {error}.")
    if not isinstance(values, dict):
        return Row(place, {}, f"row: must be a JSON object; got {type(values).__name__}.")
    return Row(place, values)


def _table(part: Part) -> Iterator[Row]:
    from tokenry.pipeline.batch import tables

    for i, values in enumerate(tables.rows(part.file, part.kind, part.first, part.rows), part.first):
        yield Row(f"{Path(part.file).name} row {i + 1}", values)


def _texts(part: Part) -> Iterator[Row]:
    for name in part.names:
        try:
            with Path(part.file, name).open("rb") as stream:
                data = stream.read(LARGEST + 1)
            if len(data) > LARGEST:
                yield Row(name, {}, f"row: must have at most {LARGEST >> 20} MB; it has more; split it.")
            elif b"\0" in data:
                yield Row(name, {}, "row: must be text; got binary data with zero bytes; leave it out.")
            else:
                yield Row(name, {"name": name, "text": data.decode("utf-8-sig")})
        except UnicodeDecodeError as error:
            yield Row(name, {}, f"row: must be UTF-8; {error.reason}; convert it, or leave it out.")
        except OSError as error:
            yield Row(name, {}, f"row: must be a readable file; {error.strerror}.")
