"""The folder of a batch: what is run, parts whole or not at all, a mark for each that is done, and the receipt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tokenry import __version__
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.saving import read_json, whole_file, write_text
from tokenry.pipeline.batch.corpus import Part, stamps, state
from tokenry.pipeline.batch.doing import Done, Form
from tokenry.pipeline.batch.work import Work

JOB_SCHEMA = "tokenry.batch-job/0"
RECEIPT_SCHEMA = "tokenry.batch/0"
JOB, RECEIPT, MARKS, LOCK = "job.json", "receipt.json", "done", ".lock"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a batch is written.

    Args:
        path: the folder.
        form: how rows are written.
    """

    path: Path
    form: Form

    def rows(self, number: int) -> Path:
        """The rows of a part."""
        return self.path / f"part-{number:05d}.{self.form.to}"

    def errors(self, number: int) -> Path:
        """Its bad rows; there is no such file where all are good."""
        return self.path / f"errors-{number:05d}.jsonl"

    def mark(self, number: int) -> Path:
        """Says that a part is done, and holds its sums."""
        return self.path / MARKS / f"{number:05d}.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes here inside the block; a process that is killed lets go.

        Raises:
            StorageError: somebody else does, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise StorageError(f"{self.path}: must be written by one run; another one does; wait for it.") from None
        except OSError as error:
            raise StorageError(f"{self.path}: must be writable; {error.strerror}; choose another place.") from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, work: Work, parts: Sequence[Part], size: int) -> None:
        """Note what is run, or see that it is what was run here before; one that got no part done leaves the place.

        Raises:
            InvalidValue: something else was run here, or the folder holds other files.
        """
        job = {
            "schema": JOB_SCHEMA, "tokenry": __version__, "work": asdict(work), "form": asdict(self.form), "part": size,
            "inputs": state(parts), "readers": stamps(work.files()),
        }  # fmt: skip
        job = json.loads(json.dumps(job))
        file = self.path / JOB
        if file.exists():
            before = read_json(file)
            other = next((name for name in job if before.get(name) != job[name]), None)
            if other is None:
                self._tidy()
                return
            if any((self.path / MARKS).glob("*.json")) or any(self.path.glob("part-*")):
                raise InvalidValue(
                    f"out: {self.path} must hold the same run to be gone on with; {other} differs from before; choose "
                    "another folder, or remove it."
                )
        else:
            others = sorted(f.name for f in self.path.iterdir() if f.name != LOCK and not f.name.startswith(f".{JOB}"))
            if others:
                raise InvalidValue(f"out: must be a new folder; {self.path} holds {others[0]}; choose another one.")
        self._tidy()
        # In ASCII, since names of files may be no UTF-8.
        write_text(file, json.dumps(job, indent=1) + "\n")

    def _tidy(self) -> None:
        """Remove what a run that was killed had only begun to write."""
        for name in (".part-*", ".errors-*", f".{JOB}.*", f".{RECEIPT}.*", f"{MARKS}/.*.json.*"):
            for begun in self.path.glob(name):
                begun.unlink(missing_ok=True)

    def done(self, parts: Sequence[Part]) -> dict[int, dict[str, Any]]:
        """The marks of the parts that are done and still there whole."""
        found = {}
        for part in parts:
            mark = self.mark(part.number)
            if mark.exists():
                try:
                    values = read_json(mark)
                except StorageError:
                    # A machine that went away may have left it empty.
                    continue
                sizes = [_size(self.rows(part.number)), _size(self.errors(part.number))]
                if values.get("bytes") == sizes:
                    found[part.number] = values
        return found

    def add(self, done: Done) -> dict[str, Any]:
        """Write a part, its mark last: what has no mark is done again, and becomes the same."""
        if done.errors:
            _write(self.errors(done.number), done.errors)
        else:
            self.errors(done.number).unlink(missing_ok=True)
        _write(self.rows(done.number), done.rows)
        sizes = [len(done.rows), len(done.errors) if done.errors else -1]
        mark = {"sums": done.sums, "bytes": sizes, "cost": done.cost}
        write_text(self.mark(done.number), json.dumps(mark) + "\n")
        return mark

    def finish(self, marks: Mapping[int, Mapping[str, Any]], before: int, seconds: float, where: str) -> dict[str, Any]:
        """Sum all parts up in the receipt.

        Args:
            marks: of all parts.
            before: parts that an earlier run had done.
            seconds: that this run took.
            where: who did it.
        """
        sums: Counter[str] = Counter()
        workers: dict[str, dict[str, Any]] = {}
        for mark in marks.values():
            sums.update(mark["sums"])
            cost = mark["cost"]
            one = workers.setdefault(cost["worker"], {"parts": 0, "rows": 0, "seconds": 0.0, "peak_bytes": 0})
            one["parts"] += 1
            one["rows"] += mark["sums"]["rows"] + mark["sums"]["bad"]
            one["seconds"] = round(one["seconds"] + cost["seconds"], 3)
            one["peak_bytes"] = max(one["peak_bytes"], cost["peak_bytes"])
        receipt = {
            "schema": RECEIPT_SCHEMA, "out": str(self.path), "where": where, "parts": len(marks),
            "parts_before": before, "sums": dict(sums), "seconds": round(seconds, 3), "workers": workers,
        }  # fmt: skip
        write_text(self.path / RECEIPT, json.dumps(receipt, indent=1) + "\n")
        return receipt

    def first_error(self, parts: Sequence[Part]) -> str:
        """Why the first bad row is bad."""
        for part in parts:
            file = self.errors(part.number)
            if file.exists():
                return str(json.loads(file.read_text(encoding="utf-8").partition("\n")[0])["reason"])
        return ""


def _write(path: Path, data: bytes) -> None:
    with whole_file(path) as draft:
        draft.write_bytes(data)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
