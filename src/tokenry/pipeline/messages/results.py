"""Where chat messages hold results of tools and documents: OpenAI's chat and responses, and Anthropic's messages.

Nothing else of a message is looked at; what is not known is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.pipeline.messages.pasted import is_turn, pasted, words
from tokenry.pipeline.messages.places import Path, Span, parts

PASTED = "pasted document"
"""What stands in place of the name of a tool."""


@dataclass(frozen=True, slots=True)
class Result:
    """A text that a tool gave, or a document that a user pasted.

    Args:
        path: where it stands.
        text: what it says.
        tool: the name of the tool, where the call is among the messages; `PASTED` of a document.
        ask: of a result what the user said last before it, and what the tool was called with; of a document what the
            user said beside it or, where that is nothing, in the next turn.
        call: the id of that call.
        span: the characters of the text at `path` that it is.
    """

    path: Path
    text: str
    tool: str
    ask: str
    call: str = ""
    span: Span | None = None

    @property
    def index(self) -> int:
        """The message in which it stands, from 0."""
        first = self.path[0]
        assert isinstance(first, int)
        return first

    @property
    def place(self) -> Span:
        return self.span or (0, len(self.text))

    @property
    def is_pasted(self) -> bool:
        return self.span is not None


def results(messages: Sequence[Any], *, documents: bool = False) -> Iterator[Result]:
    """All results of tools, in order, and with `documents` those too that users pasted."""
    calls: dict[str, tuple[str, str]] = {}
    asked = ""
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            continue
        for key, name, given in _calls(message):
            calls[key] = name, given
        said = words(message)
        for path, text, key in _texts(message):
            tool, given = calls.get(key) or (str(message.get("name") or ""), "")
            yield Result((i, *path), text, tool, " ".join(filter(None, (asked, given))), key)
        if documents:
            about = said or _next(messages, i)
            yield from (Result((i, *path), text, PASTED, about, span=span) for path, span, text in pasted(message))
        if is_turn(message):
            asked = said or " ".join(text for _, text in parts(message, "content")) or asked


def _texts(message: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Path, text and call of every result in one message."""
    if message.get("role") in ("tool", "function"):
        key = str(message.get("tool_call_id") or message.get("name") or "")
        yield from ((path, text, key) for path, text in parts(message, "content"))
    elif message.get("type") in ("function_call_output", "custom_tool_call_output"):
        key = str(message.get("call_id", ""))
        yield from ((path, text, key) for path, text in parts(message, "output"))
    elif isinstance(message.get("content"), list):
        for i, part in enumerate(message["content"]):
            if isinstance(part, Mapping) and part.get("type") == "tool_result":
                key = str(part.get("tool_use_id", ""))
                yield from ((("content", i, *path), text, key) for path, text in parts(part, "content"))


def _calls(message: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Id, name and arguments of every call in one message."""
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            yield str(call.get("id", "")), str(function.get("name", "")), _words(function.get("arguments"))
    function = message.get("function_call")
    if isinstance(function, Mapping):  # as chat had it before calls had ids
        yield str(function.get("name", "")), str(function.get("name", "")), _words(function.get("arguments"))
    if message.get("type") in ("function_call", "custom_tool_call"):
        given = message.get("arguments", message.get("input"))
        yield str(message.get("call_id", "")), str(message.get("name", "")), _words(given)
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and part.get("type") == "tool_use":
            yield str(part.get("id", "")), str(part.get("name", "")), _words(part.get("input"))


def _next(messages: Sequence[Any], i: int) -> str:
    """What a user says in the next turn."""
    return next((words(message) for message in messages[i + 1 :] if is_turn(message)), "")


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
