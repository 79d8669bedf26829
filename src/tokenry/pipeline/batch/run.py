"""A batch: a corpus, what is done to each of its rows, and the folder that holds what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.pipeline.batch.corpus import Part, parts, state
from tokenry.pipeline.batch.doing import FORMATS, Done, Form, do
from tokenry.pipeline.batch.folder import Folder
from tokenry.pipeline.batch.work import Work

SIZES = {"answer": 16}
"""Rows of a part by what is done; a run that is killed does at most so many again for each worker."""
SIZE = 1000
LOOKED_AT = 100
"""Rows of a file in which columns are looked for that shall come along."""

Progress = Callable[[str, int, int], None]


def run_batch(
    inputs: Sequence[str | Path],
    work: Work,
    out: str | Path,
    *,
    to: str = "jsonl",
    keep: Sequence[str] | None = None,
    workers: int = 1,
    ray: str | None = None,
    size: int | None = None,
    progress: Progress = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Do something to every row of a corpus.

    Rows come out in the order in which they came, in files of `size` rows each, the same ones for one process, several
    and Ray. A run that was stopped, however, goes on where it was when it is called again: no row is lost and none is
    there twice.

    Args:
        inputs: files and folders, see `corpus.parts`.
        work: what is done to each row.
        out: a new folder, or that of the same run.
        to: `jsonl` or `parquet`; the latter not for lines of JSON, whose columns nobody knows beforehand.
        keep: columns that come along with the results; all where None. One that no file begins with is refused.
        workers: processes; with one, this one.
        ray: address of a Ray cluster, `local` to start one here, `auto` for the one of this machine; Ray Data then
            does it with so many workers.
        size: rows of a part.
        progress: called with how many rows are done of how many.
        tell: called with what happens to workers.

    Returns:
        The receipt, which is also written to `receipt.json`.

    Raises:
        InvalidValue: no rows, another run's folder or one that is read, or a setting out of range; every row is bad.
        UnreadableInput: a missing or damaged input, or one that changes meanwhile.
        WorkerLost: rows that end whoever does them; parts that are done stay.
        StorageError: the folder cannot be written, or another run writes to it.
    """
    if workers < 1:
        raise InvalidValue(f"workers: must be at least 1; got {workers}.")
    if to not in FORMATS:
        raise InvalidValue(f"to: must be one of {', '.join(FORMATS)}; got {to!r}.")
    size = SIZES.get(work.kind, SIZE) if size is None else size
    _apart(inputs, Path(out))
    form = Form(to=to, keep=None if keep is None else tuple(keep), column=work.column, results=work.results)
    corpus = parts(inputs, size)
    if to == "parquet" and (lines := next((p for p in corpus if p.kind == "lines"), None)):
        raise InvalidValue(f"to: must be jsonl for lines of JSON, whose columns may differ; got {lines.file}.")
    _there(corpus, form.keep or ())
    if to == "jsonl":
        _held_by_json(corpus, form.keep)
    folder, started = Folder(Path(out).expanduser(), form), time.perf_counter()
    with folder.held():
        folder.begin(work, corpus, size)
        marks = folder.done(corpus)
        left = [part for part in corpus if part.number not in marks]
        before, total = len(marks), sum(part.rows for part in corpus)
        sofar = total - sum(part.rows for part in left)
        progress("rows", sofar, total)
        told = {part.number: (part, state([part])) for part in left}
        for done in _doing(left, work, form, workers, ray, tell):
            part, before_it = told[done.number]
            if state([part]) != before_it:
                raise UnreadableInput(f"{part.file}: must stay as it was while rows are read; it changed; start anew.")
            marks[done.number] = folder.add(done)
            sofar += part.rows
            progress("rows", sofar, total)
        where = f"ray {ray}" if ray is not None else "here" if workers == 1 else f"{workers} workers"
        receipt = folder.finish(marks, before, time.perf_counter() - started, where)
        if not receipt["sums"].get("rows"):
            why = folder.first_error(corpus) or "all inputs are empty"
            raise InvalidValue(f"batch: must have at least one good row; the first is bad: {why}")
        return receipt


def _apart(inputs: Sequence[str | Path], out: Path) -> None:
    """Refuse to write where it is read: what comes out would go in when the run goes on."""
    place = out.expanduser().resolve()
    for given in inputs:
        if place.is_relative_to(Path(given).expanduser().resolve()):
            raise InvalidValue(f"out: must lie outside of what is read; {out} lies in {given}; choose another folder.")


def _there(corpus: Sequence[Part], keep: Sequence[str]) -> None:
    """Refuse columns that no file begins with: who drops the one that was meant finds that out too late."""
    seen: dict[str, None] = {}
    for part in {part.file: part for part in reversed(corpus)}.values():
        if seen.keys() >= set(keep):
            return
        seen |= dict.fromkeys(name for row in islice(part.read(), LOOKED_AT) for name in row.values)
    if other := next((name for name in keep if name not in seen), None):
        raise InvalidValue(f"keep: must be columns of the rows; they have {', '.join(seen) or 'none'}; got {other!r}.")


def _held_by_json(corpus: Sequence[Part], keep: Sequence[str] | None) -> None:
    """Refuse columns of which JSON could hold no row: who reads of that row by row finds it out too late."""
    from tokenry.pipeline.batch import tables

    for part in {part.file: part for part in corpus if part.kind in ("table", "dataset")}.values():
        kept = (column for column in part.schema if keep is None or column.name in keep)
        if (column := tables.beyond_json(kept)) is not None:
            raise InvalidValue(
                f"to: must be parquet for the column {column.name!r} of {part.file}, which is {column.type} and "
                "nothing that JSON holds; got jsonl; or choose columns with keep."
            )


def _doing(
    left: list[Part], work: Work, form: Form, workers: int, ray: str | None, tell: Callable[[str], None]
) -> Iterator[Done]:
    """Parts as they are done, wherever that is."""
    if not left:
        return iter(())
    if ray is not None:
        from tokenry.pipeline.batch.on_ray import done_on_ray

        return done_on_ray(left, work, form, workers, ray)
    if workers > 1:
        from tokenry.pipeline.batch.workers import done_by_workers

        return done_by_workers(left, work, form, workers, tell)
    return _here(left, work, form)


def _here(left: list[Part], work: Work, form: Form) -> Iterator[Done]:
    doing = work.open()
    with work.computing():
        for part in left:
            yield do(part, doing, form)
