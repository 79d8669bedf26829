"""Results of the benchmarks: rows that survive an interruption, the machine they came from, and fair turns."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Collection, Mapping, Sequence
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
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BUILD = ROOT / "build"
"""Where benchmarks keep what they download or may go on from."""
VERSIONS = ("python", "torch", "transformers", "tokenry")
"""What may have become another since the other arms of a result were measured; the result then names both."""


class Record:
    """The rows of one benchmark, written one by one, so that an interrupted run goes on where it stopped.

    Rows of a partial file count only when machine, versions and settings are the same. Only whole runs are
    recorded: with `save=False` nothing is read or written. With `grows`, a recorded result that lacks some arms is
    taken up and gets these, also under newer libraries; its other rows are not measured again, unless the setting of
    their arm is another one now.

    Args:
        name: the file `results/<name>.json`.
        script: the benchmark that writes it, where that is called otherwise.
        options: what else its command needs.
        dtype: numbers the model computes in.
        settings: everything else that decides the rows; `arms` are names, or names with their settings.
        save: this is a whole run.
        grows: its rows do not depend on which other arms are measured.
        again: arms of a result that grows which are measured anew.
    """

    def __init__(
        self, name: str, *, dtype: str, settings: Mapping[str, Any], save: bool, grows: bool = False,
        again: Collection[str] = (), script: str | None = None, options: str = "",
    ) -> None:  # fmt: skip
        self.grows = grows
        self.again = again
        self.file = RESULTS / f"{name}.json"
        self.save = save
        self._head: dict[str, Any] = {
            "schema": SCHEMA,
            "name": name,
            "command": " ".join(["python -m", module_of(script or name), options]).strip(),
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
        partial, whole = _load(self._partial), _load(self.file)
        if not self.grows:
            return list(partial["rows"]) if _same(self._head, partial) else []
        wanted = _arms(self._head)
        for found in (partial, whole):
            known = _arms(found)
            lacks = bool(self.again) or not wanted.items() <= known.items()
            if _same_but_versions(self._head, found) and (found is partial or lacks):
                self._remember(found)
                rows = [r for r in found["rows"] if _same_arm(r.get("arm"), known, wanted)]
                return [r for r in rows if r.get("arm") not in self.again]
        return []

    def _remember(self, found: dict[str, Any]) -> None:
        """Note under which other versions rows were measured that are taken up."""
        before = [*found.get("earlier", []), {"date": found.get("date")} | found["machine"]]
        if others := _different(before, self._head["machine"]):
            self._head["earlier"] = others


def module_of(name: str) -> str:
    """The module of a benchmark: `attend/fidelity` is `benchmarks.attend.fidelity`."""
    return f"benchmarks.{name.replace('/', '.')}"


def read(name: str) -> dict[str, Any] | None:
    """The recorded result of a benchmark, None before its first whole run.

    A benchmark may keep a file for each arm in a folder of its name; they are joined.
    """
    file, folder = RESULTS / f"{name}.json", RESULTS / name
    if folder.is_dir():
        return _joined(name, [_load(f) for f in _results(folder)])
    return _load(file) or None


def recorded() -> list[dict[str, Any]]:
    """All results, room by room; what was proven of model families is no result of this kind."""
    found = [read(f"{room.name}/{path.stem}") for room in sorted(RESULTS.iterdir()) for path in _results(room)]
    return [document for document in found if document and document.get("schema") == SCHEMA]


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


def _results(folder: Path) -> list[Path]:
    """Whole results and folders of them."""
    return [path for path in sorted(folder.iterdir()) if not path.name.endswith(".partial.json")]


def _joined(name: str, parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One document of those of several arms, which must have been measured alike."""
    if not parts:
        return None
    for part in parts:
        if _settings(part) != _settings(parts[0]):
            raise ValueError(f"{part['name']}: must have the settings of {parts[0]['name']}; measure it again.")
    machines = [{"date": part["date"]} | part["machine"] for part in parts]
    return parts[0] | {
        "name": name, "command": f"python -m {module_of(name)}", "date": max(part["date"] for part in parts),
        "earlier": _different([m for part in parts for m in part.get("earlier", [])] + machines, parts[0]["machine"]),
        "claims": [c for part in parts for c in part["claims"]], "rows": [r for part in parts for r in part["rows"]],
    }  # fmt: skip


def _load(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _arms(document: Mapping[str, Any]) -> dict[str, Any]:
    """The arms of a document with their settings."""
    arms = plain(document.get("settings", {}).get("arms", {}))
    return arms if isinstance(arms, dict) else dict.fromkeys(arms)


def _same_arm(arm: Any, known: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether rows of an arm, or of what is no arm, are still what is asked for."""
    return (arm in known) == (arm in wanted) and known.get(arm) == wanted.get(arm)


def _same(head: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return all(found.get(k) == v for k, v in plain(head).items())


def _same_but_versions(head: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether two documents differ in nothing but their arms and the versions of libraries."""

    def kept(document: Mapping[str, Any]) -> list[Any]:
        machine = {k: v for k, v in document.get("machine", {}).items() if k not in VERSIONS}
        return [machine, _settings(document), *(document.get(k) for k in ("schema", "name", "command"))]

    return kept(head) == kept(found)


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides a row, whichever arms there are."""
    return {k: v for k, v in plain(document.get("settings", {})).items() if k != "arms"}


def _different(machines: Sequence[dict[str, Any]], ours: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that are not ours, each once, the date aside."""
    found: list[dict[str, Any]] = []
    for machine in machines:
        bare = {k: v for k, v in machine.items() if k != "date"}
        if bare != plain(ours) and all(bare != {k: v for k, v in f.items() if k != "date"} for f in found):
            found.append(machine)
    return found


def plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value))


def _write(file: Path, document: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
