"""Results of the benchmarks: rows that survive an interruption, the machine they came from, and fair turns."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

import tokenry
from tokenry.core.saving import write_text

T = TypeVar("T")
Row = dict[str, Any]

SCHEMA = "tokenry.benchmark/0"
RESULTS = Path(__file__).parent / "results"


class Record:
    """The rows of one benchmark, written one by one, so that an interrupted run goes on where it stopped.

    Rows of a partial file count only when machine, versions and settings are the same. Only whole runs are
    recorded: with `save=False` nothing is read or written. With `grows`, a recorded result that lacks only some arms
    is taken up and gets these; its other rows are not measured again.

    Args:
        name: the file `results/<name>.json`.
        command: what reproduces it, from the root of the repository.
        dtype: numbers the model computes in.
        settings: everything else that decides the rows.
        save: this is a whole run.
        grows: its rows do not depend on which other arms are measured.
    """

    def __init__(
        self, name: str, command: str, *, dtype: str, settings: Mapping[str, Any], save: bool, grows: bool = False
    ) -> None:
        self.grows = grows
        self.file = RESULTS / f"{name}.json"
        self.save = save
        self._head = {
            "schema": SCHEMA,
            "name": name,
            "command": command,
            "machine": machine() | {"dtype": dtype},
            "settings": dict(settings),
        }
        self.rows: list[Row] = self._earlier() if save else []

    @property
    def _partial(self) -> Path:
        return self.file.with_suffix(".partial.json")

    def find(self, **key: Any) -> Row | None:
        """The row whose fields have these values, where there is one."""
        return next((r for r in self.rows if all(r.get(k) == v for k, v in key.items())), None)

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Enter rows that belong together and write them down at once."""
        self.rows += map(dict, rows)
        if self.save:
            _write(self._partial, self._head | {"rows": self.rows})

    def finish(self, claims: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """The whole document; it replaces the last result and the partial file goes.

        Args:
            claims: what was to be shown, each with `text`, `value`, `needed` and whether it `holds`.
        """
        done = self._head | {"date": datetime.now(UTC).date().isoformat(), "claims": list(claims), "rows": self.rows}
        if self.save:
            _write(self.file, done)
            self._partial.unlink(missing_ok=True)
        return done

    def _earlier(self) -> list[Row]:
        ours = json.loads(json.dumps(self._head))
        partial, whole = _load(self._partial), _load(self.file)
        if not self.grows:
            return list(partial["rows"]) if _same(ours, partial) else []
        wanted = set(ours["settings"].pop("arms"))
        for found in (partial, whole):
            known = set(found.get("settings", {}).pop("arms", ()))
            if _same(ours, found) and (found is partial or known < wanted):
                return [r for r in found["rows"] if r["arm"] in wanted]
        return []


def read(name: str) -> dict[str, Any] | None:
    """The recorded result of a benchmark, None before its first whole run."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenry": tokenry.__version__,
    }


def claim(text: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """A sentence with the number that decides it."""
    holds = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    needed = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
    return {"text": text, "value": round(value, 4), "needed": needed, "holds": holds}


def take_turns(arms: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """What every arm gives in each of `repeats` rounds.

    The arms take turns and each round starts with the next one, so that a busy machine disturbs all alike.
    """
    names = list(arms)
    out: dict[str, list[T]] = {name: [] for name in arms}
    for i in range(repeats):
        start = i % len(names)
        for name in names[start:] + names[:start]:
            out[name].append(arms[name]())
    return out


def _load(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _same(head: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return all(found.get(k) == v for k, v in head.items())


def _write(file: Path, document: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
