"""What a gateway saved: one row for each request, without its text, in a SQLite file that outlives it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from tokenry.core.errors import StorageError

COLUMNS = (
    "time", "path", "model", "use", "status", "results", "shortened", "tokens_in", "tokens_out", "cache_read",
    "cache_written", "prompt", "completion", "retrieved", "seconds", "total_seconds", "why", "kinds",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Row:
    """One request.

    Args:
        results: of tools that it held, and how many were `shortened`.
        tokens_in: of those results before, `tokens_out` after; what was brought back later counts as `retrieved`.
        cache_read: tokens that the upstream says it had, `cache_written` those it keeps; `prompt` and `completion` too.
        seconds: that shortening took, of `total_seconds` until the last byte of the reply.
        why: why it passed as it was; empty where it was shortened.
        kinds: tokens before and after, by the kind of content.
    """

    time: float = field(default_factory=time.time)
    path: str = ""
    model: str = ""
    use: str = ""
    status: int = 0
    results: int = 0
    shortened: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cache_read: int = 0
    cache_written: int = 0
    prompt: int = 0
    completion: int = 0
    retrieved: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0
    why: str = ""
    kinds: dict[str, list[int]] = field(default_factory=dict)


class Ledger:
    """Rows of requests.

    Args:
        file: a SQLite file; in the user's cache where not given.

    Raises:
        StorageError: the file is no ledger, or cannot be written.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        home = Path(os.environ.get("TOKENRY_CACHE", "") or user_cache_path("tokenry"))
        self.file = Path(file) if file else home / "ledger.sqlite"
        self._lock = threading.Lock()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))
            self._base = sqlite3.connect(self.file, timeout=10.0, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(f"CREATE TABLE IF NOT EXISTS requests ({', '.join(COLUMNS)})")
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self.file}: must be a ledger that can be written; {error}.") from error

    def add(self, row: Row) -> None:
        """Enter a request."""
        values = asdict(row)
        values["kinds"] = json.dumps(row.kinds)
        with self._lock:
            self._base.execute(
                f"INSERT INTO requests VALUES ({', '.join('?' * len(COLUMNS))})", [values[c] for c in COLUMNS]
            )

    def summary(self, since: float = 0.0) -> dict[str, Any]:
        """Sums over all requests since a moment, and by method, content and reason."""
        with self._lock:
            total = self._base.execute(
                "SELECT COUNT(*), SUM(shortened > 0), SUM(tokens_in), SUM(tokens_out), SUM(retrieved), SUM(cache_read),"
                " SUM(cache_written), SUM(prompt), SUM(completion), SUM(seconds) FROM requests WHERE time >= ?",
                (since,),
            ).fetchone()
            by_use = self._sums("use", since)
            why = self._base.execute(
                "SELECT why, COUNT(*) FROM requests WHERE time >= ? AND why <> '' GROUP BY why ORDER BY 2 DESC",
                (since,),
            ).fetchall()
            rows = self._base.execute("SELECT kinds FROM requests WHERE time >= ?", (since,)).fetchall()
        names = ("requests", "shortened", "tokens_in", "tokens_out", "retrieved", "cache_read", "cache_written",
                 "prompt", "completion", "seconds")  # fmt: skip
        found: dict[str, Any] = {name: value or 0 for name, value in zip(names, total, strict=True)}
        found["saved"] = found["tokens_in"] - found["tokens_out"] - found["retrieved"]
        return found | {
            "by_method": by_use,
            "by_content": _by_kind([json.loads(kinds) for (kinds,) in rows]),
            "passed_on": dict(why),
        }

    def latest(self, most: int = 100) -> list[dict[str, Any]]:
        """The last requests, the newest first."""
        with self._lock:
            rows = self._base.execute("SELECT * FROM requests ORDER BY time DESC LIMIT ?", (most,)).fetchall()
        return [dict(zip(COLUMNS, row, strict=True)) | {"kinds": json.loads(row[-1])} for row in rows]

    def close(self) -> None:
        self._base.close()

    def _sums(self, column: str, since: float) -> dict[str, dict[str, int]]:
        rows = self._base.execute(
            f"SELECT {column}, COUNT(*), SUM(tokens_in), SUM(tokens_out) FROM requests"
            f" WHERE time >= ? AND shortened > 0 GROUP BY {column}",
            (since,),
        )
        return {name: {"requests": n, "tokens_in": a, "tokens_out": b} for name, n, a, b in rows}


def _by_kind(kinds: Sequence[dict[str, list[int]]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for kind, (before, after) in (item for row in kinds for item in row.items()):
        sums = found.setdefault(kind, {"results": 0, "tokens_in": 0, "tokens_out": 0})
        sums["results"] += 1
        sums["tokens_in"] += before
        sums["tokens_out"] += after
    return found
