"""A pipeline as a file: its methods in their one-line form, and what is known of how well they do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenry.core import described
from tokenry.core.errors import StorageError
from tokenry.core.saving import read_json, write_text

SCHEMA = "tokenry.pipeline/0"


def write_pipeline(file: Path, use: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write methods to a file, whole or not at all.

    Args:
        facts: whatever else shall stand in it, for people.
    """
    write_text(file, json.dumps({"schema": SCHEMA, "use": list(use), **facts}, indent=1, ensure_ascii=False) + "\n")


def read_pipeline(file: Path) -> tuple[str, ...]:
    """The methods that a file holds, in their one-line form.

    Raises:
        StorageError: no such file, or another one.
        UnknownMethod, InvalidValue: a method or a field that there is not.
    """
    found = read_json(file)
    use = found.get("use")
    if found.get("schema") != SCHEMA or not isinstance(use, list) or not all(isinstance(s, str) for s in use):
        raise StorageError(f"{file}: must be a pipeline of the schema {SCHEMA}; it is not; write it with tokenry plan.")
    for spec in use:
        described.check(spec)
    return tuple(use)
