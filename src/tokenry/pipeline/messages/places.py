"""Texts inside messages: how each is reached, and the same messages with others in some places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Path = tuple[int | str, ...]
"""How a text is reached in a list of messages: `(3, "content", 0, "text")`."""
Span = tuple[int, int]
"""Characters of a text, from and to."""
Edits = Mapping[Path, Mapping[Span, str]]
"""What stands in place of some characters of some texts."""

_TEXT = ("text", "input_text", "output_text")


def parts(holder: Mapping[str, Any], name: str) -> Iterator[tuple[Path, str]]:
    """The texts of a field that is a text or a list of parts."""
    found = holder.get(name)
    if isinstance(found, str):
        yield (name,), found
    elif isinstance(found, list):
        for i, part in enumerate(found):
            if isinstance(part, Mapping) and part.get("type") in _TEXT and isinstance(part.get("text"), str):
                yield (name, i, "text"), part["text"]


def replaced(messages: Sequence[Any], edits: Edits) -> list[Any]:
    """The messages with other texts in some places; everything else is the same object as before."""
    out: Any = list(messages)
    for path, changes in edits.items():
        out = _with(out, path, changes)
    return out


def _with(value: Any, path: Path, changes: Mapping[Span, str]) -> Any:
    if not path:
        texts, at = [], 0
        for (start, end), text in sorted(changes.items()):
            texts += [value[at:start], text]
            at = end
        return "".join([*texts, value[at:]])
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _with(value[path[0]], path[1:], changes)
    return copy
