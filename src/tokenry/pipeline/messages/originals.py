"""Originals of what was shortened, on disk: by content, bounded in bytes and age, and readable by their owner alone."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from tokenry.core.errors import InvalidValue, StorageError

KEY = re.compile(r"[0-9a-f]{12}")
MEGABYTE = 1 << 20
DAY = 86400.0


class Originals:
    """A store of texts. A text has one key, whoever puts it there; using it makes it young again.

    Args:
        file: a SQLite file; in the user's cache where not given.
        most_bytes: beyond which the oldest go.
        most_days: after which they go.

    Raises:
        StorageError: the file cannot be opened or written.
    """

    def __init__(self, file: str | Path | None = None, *, most_bytes: int = 512 * MEGABYTE, most_days: float = 30.0):
        home = Path(os.environ.get("TOKENRY_CACHE", "") or user_cache_path("tokenry"))
        self.file = Path(file) if file is not None else home / "originals.sqlite"
        self.most_bytes, self.most_days = most_bytes, most_days
        self._lock = threading.Lock()
        with self._saying():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Made before SQLite does, so that it is never readable by others.
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))
            self._base = sqlite3.connect(self.file, timeout=10.0, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS originals (key TEXT PRIMARY KEY, text BLOB, bytes INTEGER, used REAL)"
            )

    @staticmethod
    def key_of(text: str) -> str:
        """The key of a text: the beginning of its hash."""
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def put(self, text: str) -> str:
        """Keep a text; its key."""
        key, data = self.key_of(text), text.encode("utf-8", "surrogatepass")
        now = time.time()
        with self._saying(), self._lock:
            self._base.execute(
                "INSERT INTO originals VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET used = excluded.used",
                (key, data, len(data), now),
            )
            self._base.execute("DELETE FROM originals WHERE used < ?", (now - self.most_days * DAY,))
            self._base.execute(
                "DELETE FROM originals WHERE key <> ?2 AND key IN (SELECT key FROM ("
                "SELECT key, SUM(bytes) OVER (ORDER BY used DESC, key) AS total FROM originals) WHERE total > ?1)",
                (self.most_bytes, key),
            )
        return key

    def get(self, key: str) -> str | None:
        """The text under a key; None where there is none, or no longer."""
        if not KEY.fullmatch(key):
            raise InvalidValue(f"id: must be twelve hexadecimal digits; got {key!r:.40}; copy it from a mark.")
        with self._saying(), self._lock:
            row = self._base.execute("SELECT text FROM originals WHERE key = ?", (key,)).fetchone()
            if row is not None:
                self._base.execute("UPDATE originals SET used = ? WHERE key = ?", (time.time(), key))
        return None if row is None else row[0].decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        with self._saying(), self._lock:
            return int(self._base.execute("SELECT COUNT(*) FROM originals").fetchone()[0])

    def close(self) -> None:
        self._base.close()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self.file}: must be a store of originals that can be written; {error}.") from error
