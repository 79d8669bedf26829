"""Where chat messages hold results of tools: OpenAI's chat and responses, and Anthropic's messages.

Nothing else of a message is looked at; what is not known is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[int | str, ...]
"""How a text is reached in a list of messages: `(3, "content", 0, "text")`."""

_TEXT = ("text", "input_text", "output_text")


@dataclass(frozen=True, slots=True)
class Result:
    """A text that a tool gave.

    Args:
        path: where it stands.
        text: what it says.
        tool: the name of the tool, where the call is among the messages.
        ask: what the user said last before it, and what the tool was called with.
        call: the id of that call.
    """

    path: Path
    text: str
    tool: str
    ask: str
    call: str = ""


def results(messages: Sequence[Any]) -> Iterator[Result]:
    """All results of tools, in order."""
    calls: dict[str, tuple[str, str]] = {}
    asked = ""
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            continue
        for key, name, given in _calls(message):
            calls[key] = name, given
        said = _said_by_user(message)
        for path, text, key in _texts(message):
            tool, given = calls.get(key, ("", ""))
            yield Result((i, *path), text, tool, " ".join(filter(None, (asked, given))), key)
        asked = said or asked


def replaced(messages: Sequence[Any], texts: Mapping[Path, str]) -> list[Any]:
    """The messages with other texts in some places; everything else is the same object as before."""
    out = list(messages)
    for path, text in texts.items():
        out[_index(path[0])] = _with(out[_index(path[0])], path[1:], text)
    return out


def _with(value: Any, path: Path, text: str) -> Any:
    if not path:
        return text
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _with(value[path[0]], path[1:], text)
    return copy


def _index(key: int | str) -> int:
    assert isinstance(key, int)
    return key


def _texts(message: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Path, text and call of every result in one message."""
    if message.get("role") in ("tool", "function"):
        key = str(message.get("tool_call_id") or message.get("name") or "")
        yield from ((path, text, key) for path, text in _parts(message, "content"))
    elif message.get("type") in ("function_call_output", "custom_tool_call_output"):
        key = str(message.get("call_id", ""))
        yield from ((path, text, key) for path, text in _parts(message, "output"))
    elif isinstance(message.get("content"), list):
        for i, part in enumerate(message["content"]):
            if isinstance(part, Mapping) and part.get("type") == "tool_result":
                key = str(part.get("tool_use_id", ""))
                yield from ((("content", i, *path), text, key) for path, text in _parts(part, "content"))


def _parts(holder: Mapping[str, Any], name: str) -> Iterator[tuple[Path, str]]:
    """The texts of a field that is a text or a list of parts."""
    found = holder.get(name)
    if isinstance(found, str):
        yield (name,), found
    elif isinstance(found, list):
        for i, part in enumerate(found):
            if isinstance(part, Mapping) and part.get("type") in _TEXT and isinstance(part.get("text"), str):
                yield (name, i, "text"), part["text"]


def _calls(message: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Id, name and arguments of every call in one message."""
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            yield str(call.get("id", "")), str(function.get("name", "")), _words(function.get("arguments"))
    if message.get("type") == "function_call":
        yield str(message.get("call_id", "")), str(message.get("name", "")), _words(message.get("arguments"))
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and part.get("type") == "tool_use":
            yield str(part.get("id", "")), str(part.get("name", "")), _words(part.get("input"))


def _said_by_user(message: Mapping[str, Any]) -> str:
    if message.get("role") != "user":
        return ""
    content = message.get("content")
    return content if isinstance(content, str) else " ".join(text for _, text in _parts(message, "content"))


def _words(given: Any) -> str:
    """The texts and numbers that a tool was called with."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return given
    found, left = [], [given]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += list(value.values())[::-1]
        elif isinstance(value, list):
            left += value[::-1]
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            found.append(str(value))
    return " ".join(found)
