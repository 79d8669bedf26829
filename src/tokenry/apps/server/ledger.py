"""What a gateway saved: one row for each request, in a SQLite file that outlives it; its text only where asked to."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from tokenry.core.errors import StorageError

TEXTS = 1000
"""Requests whose texts are kept, where they are."""
TAKEN = "status BETWEEN 200 AND 299 AND requests.path NOT LIKE '%/count_tokens'"
"""Requests that a model read: one that was refused, or asked for a count alone, saved nothing."""
TOKENS = ("tokens_in", "tokens_out", "retrieved")
COLUMNS = (
    "time", "path", "use", "status", "results", "shortened", "tokens_in", "tokens_out", "cache_read",
    "cache_written", "prompt", "completion", "retrieved", "seconds", "total_seconds", "why", "kinds",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Row:
    """One request.

    Args:
        results: of tools that it held, and how many were `shortened`.
        tokens_in: of those results before, `tokens_out` after; `retrieved` are those that were brought back.
        cache_read: tokens that the upstream says it had, `cache_written` those it keeps; `prompt` and `completion` too.
        seconds: that shortening took, of `total_seconds` until the last byte of the reply.
        why: why it passed as it was, or ended before its reply did; empty where it was shortened.
        kinds: tokens before and after, by the kind of content.
    """

    time: float = field(default_factory=time.time)
    path: str = ""
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
            self._base.execute("CREATE TABLE IF NOT EXISTS texts (request INTEGER PRIMARY KEY, came BLOB, went BLOB)")
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self.file}: must be a ledger that can be written; {error}.") from error

    def add(self, row: Row, came: bytes | None = None, went: bytes | None = None) -> None:
        """Enter a request.

        Args:
            came: what it said, to be kept beside the row, and `went` what went on.
        """
        values = asdict(row)
        values["kinds"] = json.dumps(row.kinds)
        marks = ", ".join("?" * len(COLUMNS))
        with self._lock, self._base:
            self._base.execute("BEGIN")
            entered = self._base.execute(
                f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({marks})", [values[c] for c in COLUMNS]
            ).lastrowid
            if came is not None:
                self._base.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", (entered, came, went))
                self._base.execute("DELETE FROM texts WHERE request <= ?", ((entered or 0) - TEXTS,))

    def texts(self, most: int = TEXTS) -> list[tuple[bytes, bytes]]:
        """What the latest requests said, as it came and as it went on, the newest first."""
        with self._lock:
            return self._base.execute("SELECT came, went FROM texts ORDER BY request DESC LIMIT ?", (most,)).fetchall()

    def summary(self, since: float = 0.0) -> dict[str, Any]:
        """Sums over all requests since a moment, and by method, content and reason; savings of those that were read."""
        with self._lock:
            total = self._base.execute(
                "SELECT COUNT(*), "
                + ", ".join(f"SUM({n}) FILTER (WHERE {TAKEN})" for n in ("shortened > 0", *TOKENS))
                + ", SUM(cache_read), SUM(cache_written), SUM(prompt), SUM(completion), SUM(seconds)"
                " FROM requests WHERE time >= ?",
                (since,),
            ).fetchone()
            by_use = self._sums("use", since)
            why = self._base.execute(
                "SELECT why, COUNT(*) FROM requests WHERE time >= ? AND why <> '' GROUP BY why ORDER BY 2 DESC",
                (since,),
            ).fetchall()
            by_content = self._by_content(since)
        names = ("requests", "shortened", *TOKENS, "cache_read", "cache_written", "prompt", "completion", "seconds")
        found: dict[str, Any] = {name: value or 0 for name, value in zip(names, total, strict=True)}
        found["saved"] = found["tokens_in"] - found["tokens_out"] - found["retrieved"]
        return found | {
            "by_method": by_use,
            "by_content": by_content,
            "passed_on": dict(why),
        }

    def latest(self, most: int = 100) -> list[dict[str, Any]]:
        """The last requests, the newest first."""
        with self._lock:
            rows = self._base.execute(
                f"SELECT {', '.join(COLUMNS)} FROM requests ORDER BY rowid DESC LIMIT ?", (most,)
            ).fetchall()
        return [dict(zip(COLUMNS, row, strict=True)) | {"kinds": json.loads(row[-1])} for row in rows]

    def close(self) -> None:
        self._base.close()

    def _sums(self, column: str, since: float) -> dict[str, dict[str, int]]:
        rows = self._base.execute(
            f"SELECT {column}, COUNT(*), SUM(tokens_in), SUM(tokens_out) FROM requests"
            f" WHERE time >= ? AND shortened > 0 AND {TAKEN} GROUP BY {column}",
            (since,),
        )
        return {name: {"requests": n, "tokens_in": a, "tokens_out": b} for name, n, a, b in rows}

    def _by_content(self, since: float) -> dict[str, dict[str, int]]:
        rows = self._base.execute(
            "SELECT key, COUNT(*), SUM(json_extract(value, '$[0]')), SUM(json_extract(value, '$[1]'))"
            " FROM requests, json_each(kinds)"
            f" WHERE time >= ? AND kinds <> '{{}}' AND {TAKEN} GROUP BY key ORDER BY MIN(requests.rowid)",
            (since,),
        )
        return {kind: {"results": n, "tokens_in": a, "tokens_out": b} for kind, n, a, b in rows}
