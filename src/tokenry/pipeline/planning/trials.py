"""What every setting cost and lost on every sample, kept so that a plan that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import read_json, write_text

SCHEMA = "tokenry.trials/0"

Trial = dict[str, Any]


@dataclass(slots=True)
class Trials:
    """Numbers by setting and sample.

    Args:
        head: what must be the same for numbers to belong together.
        file: where they are kept after every sample, or None.
    """

    head: Mapping[str, Any]
    file: Path | None = None
    rows: dict[str, list[Trial]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, head: Mapping[str, Any], file: str | Path | None) -> Trials:
        """No trials, or those that a plan of the same kind left in the file.

        Raises:
            InvalidValue: the file holds another plan's.
            StorageError: the file holds something else.
        """
        made = cls(json.loads(json.dumps({"schema": SCHEMA, **head})), None if file is None else Path(file))
        if made.file is None or not made.file.exists():
            return made
        found = read_json(made.file)
        other = next((name for name in made.head if found.get(name) != made.head[name]), None)
        if other is not None or not isinstance(found.get("rows"), dict):
            raise InvalidValue(
                f"results: {file} must be of the same plan to be gone on with; {other or 'rows'} differs; choose "
                "another file."
            )
        made.rows, made.notes = found["rows"], found.get("notes", {})
        return made

    def of(self, spec: str) -> Sequence[Trial]:
        """What is known of a setting, in the order of the samples."""
        return self.rows.get(spec, [])

    def add(self, spec: str, trial: Trial) -> None:
        """Enter the next sample of a setting."""
        self.rows.setdefault(spec, []).append(trial)
        self._write()

    def refuse(self, spec: str, why: str) -> None:
        """Note why a setting cannot be tried."""
        self.notes[spec] = why
        self._write()

    def _write(self) -> None:
        if self.file is not None:
            write_text(self.file, json.dumps({**self.head, "rows": self.rows, "notes": self.notes}) + "\n")
