"""What became of messages: every change, and what it saved and cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

from tokenry.pipeline.messages.places import Path
from tokenry.pipeline.messages.points import Point

MOST = 100
"""Results that notebooks show."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one result, or of one document that a user pasted.

    Args:
        path: where it stands.
        tool: who gave it.
        tokens_in: before, and `tokens_out` after.
        seconds: that it took.
        why: the reason why it stayed as it was; empty where it was shortened.
        key: under which its original is kept.
        kind: what it was cut as, such as `json` or `log`; `repeat` where it is a reference to an earlier one.
        older: whether it was cut, or cut further, at a point of `older_every`.
    """

    path: Path
    tool: str
    tokens_in: int
    tokens_out: int
    seconds: float
    why: str = ""
    key: str | None = None
    kind: str = ""
    older: bool = False


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages on their way to a model.

    Args:
        messages: with shorter results.
        tools: those of the request; with `tokenry_retrieve` where originals are kept.
        changes: what became of every result.
        points: where older turns shrank further, what that saved and what it cost.
    """

    messages: list[Any]
    tools: list[Any] | None = None
    changes: tuple[Change, ...] = field(default=())
    points: tuple[Point, ...] = field(default=())

    @property
    def tokens_in(self) -> int:
        """Tokens of all results before."""
        return sum(c.tokens_in for c in self.changes)

    @property
    def tokens_out(self) -> int:
        """Tokens of all results after."""
        return sum(c.tokens_out for c in self.changes)

    @property
    def texts(self) -> dict[Path, str]:
        """The texts that are others now, by where they stand."""
        return {c.path: _at(self.messages, c.path) for c in self.changes if not c.why}

    def __iter__(self) -> Any:
        return iter(self.messages)

    def _repr_html_(self) -> str:
        """What notebooks show: what became of every result."""
        rows = "".join(
            f"<tr><td>{escape(c.tool)}</td><td>{escape(c.kind)}</td><td>{c.tokens_in:,}</td><td>{c.tokens_out:,}</td>"
            f"<td>{escape(c.why)}</td></tr>"
            for c in self.changes[:MOST]
        )
        more = f"<p>… and {len(self.changes) - MOST:,} more</p>" if len(self.changes) > MOST else ""
        heads = "".join(f"<th>{name}</th>" for name in ("tool", "content", "before", "after", "why not"))
        points = "".join(
            f"<p>before message {p.message + 1}, older turns shrank: {p.saved:,} tokens fewer from there on, "
            f"{p.reread:,} read again once</p>"
            for p in self.points[-MOST:]
        )
        return (
            f"<p>{self.tokens_in:,} → {self.tokens_out:,} tokens</p><table><tr>{heads}</tr>{rows}</table>{more}{points}"
        )


def _at(value: Any, path: Path) -> str:
    for key in path:
        value = value[key]
    assert isinstance(value, str)
    return value
