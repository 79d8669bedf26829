"""How training says how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what goes on, how much of it is done, and how much there is; 0 where nobody knows."""


def silent(phase: str, done: int, total: int) -> None:
    """Nobody listens."""
