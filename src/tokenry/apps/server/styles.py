"""How answers are asked for and written: OpenAI's chat and completions, and Anthropic's messages."""

from __future__ import annotations

import json
import time
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenry.core.errors import InvalidValue

if TYPE_CHECKING:
    from tokenry.apps.server.speaking import Said

Event = tuple[str, Mapping[str, Any]]
"""The name of a server-sent event, empty where it has none, and its data."""


class Style:
    """One way of asking and answering; an object of it is one answer.

    Args:
        model: the name of the model.
    """

    prefix = ""
    done: str | None = None
    """The last line of a stream, beside its events."""

    def __init__(self, model: str) -> None:
        self.model, self.key = model, f"{self.prefix}{uuid.uuid4().hex}"

    @staticmethod
    @abstractmethod
    def messages(body: Mapping[str, Any]) -> Sequence[Any]:
        """The conversation in a request; a text stands for itself."""

    @abstractmethod
    def whole(self, said: Said) -> dict[str, Any]:
        """An answer at once."""

    def begins(self) -> Iterator[Event]:
        """What a stream says first."""
        return iter(())

    @abstractmethod
    def piece(self, text: str) -> Event:
        """A part of the answer."""

    @abstractmethod
    def ends(self, said: Said) -> Iterator[Event]:
        """What a stream says last."""


class Chat(Style):
    """`/v1/chat/completions`."""

    prefix, done = "chatcmpl-", "[DONE]"
    kind = "chat.completion"

    @staticmethod
    def messages(body: Mapping[str, Any]) -> Sequence[Any]:
        found = body.get("messages")
        if not isinstance(found, list) or not found:
            raise InvalidValue("messages: must be a list of at least one message; got none.")
        return [_plain(m) for m in found]

    def whole(self, said: Said) -> dict[str, Any]:
        message = {"role": "assistant", "content": said.text}
        choice = {"index": 0, "message": message, "finish_reason": _why(said)}
        return self._head(self.kind) | {"choices": [choice], "usage": _usage(said)}

    def begins(self) -> Iterator[Event]:
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> Event:
        return self._chunk({"content": text})

    def ends(self, said: Said) -> Iterator[Event]:
        name, data = self._chunk({}, _why(said))
        yield name, {**data, "usage": _usage(said)}

    def _chunk(self, delta: Mapping[str, Any], why: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": why}
        return "", self._head(f"{self.kind}.chunk") | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.key, "object": kind, "created": int(time.time()), "model": self.model}


class Completion(Chat):
    """`/v1/completions`: a text that is gone on with, without the chat template."""

    prefix, kind = "cmpl-", "text_completion"

    @staticmethod
    def messages(body: Mapping[str, Any]) -> Sequence[Any]:
        if not isinstance(body.get("prompt"), str) or not body["prompt"]:
            raise InvalidValue(f"prompt: must be a text; got {body.get('prompt')!r:.40}.")
        return [body["prompt"]]

    def whole(self, said: Said) -> dict[str, Any]:
        choice = {"index": 0, "text": said.text, "finish_reason": _why(said), "logprobs": None}
        return self._head(self.kind) | {"choices": [choice], "usage": _usage(said)}

    def begins(self) -> Iterator[Event]:
        return iter(())

    def _chunk(self, delta: Mapping[str, Any], why: str | None = None) -> Event:
        choice = {"index": 0, "text": delta.get("content", ""), "finish_reason": why, "logprobs": None}
        return "", self._head(self.kind) | {"choices": [choice]}


class Anthropic(Style):
    """`/v1/messages`."""

    prefix = "msg_"

    @staticmethod
    def messages(body: Mapping[str, Any]) -> Sequence[Any]:
        found = Chat.messages(body)
        system = body.get("system")
        return [*([_plain({"role": "system", "content": system})] if system else []), *found]

    def whole(self, said: Said) -> dict[str, Any]:
        content = [{"type": "text", "text": said.text}]
        return self._head() | {"content": content, "stop_reason": self._why(said), "usage": self._counts(said)}

    def begins(self) -> Iterator[Event]:
        usage = {"input_tokens": 0, "output_tokens": 0}
        yield self._event("message_start", message=self._head() | {"content": [], "stop_reason": None, "usage": usage})
        yield self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})

    def piece(self, text: str) -> Event:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def ends(self, said: Said) -> Iterator[Event]:
        yield self._event("content_block_stop", index=0)
        delta = {"stop_reason": self._why(said), "stop_sequence": None}
        yield self._event("message_delta", delta=delta, usage=self._counts(said))
        yield self._event("message_stop")

    def _head(self) -> dict[str, Any]:
        return {"id": self.key, "type": "message", "role": "assistant", "model": self.model, "stop_sequence": None}

    @staticmethod
    def _event(name: str, **data: Any) -> Event:
        return name, {"type": name, **data}

    @staticmethod
    def _why(said: Said) -> str:
        return "end_turn" if said.finished else "max_tokens"

    @staticmethod
    def _counts(said: Said) -> dict[str, int]:
        return {
            "input_tokens": said.prompt - said.cached, "cache_read_input_tokens": said.cached,
            "cache_creation_input_tokens": 0, "output_tokens": said.completion,
        }  # fmt: skip


STYLES: Mapping[str, type[Style]] = {
    "/v1/chat/completions": Chat, "/v1/completions": Completion, "/v1/messages": Anthropic,
}  # fmt: skip


def _plain(message: Any) -> dict[str, str]:
    """Role and text of a message; calls of tools and their results are written as text.

    Raises:
        InvalidValue: something that a text model cannot read.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidValue(f"messages: must be objects with a role; got {message!r:.80}.")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidValue(f"messages: tool_calls must be a list; got {calls!r:.40}.")
    parts = [_text(message.get("content"))]
    parts += [json.dumps(call.get("function")) for call in calls if isinstance(call, Mapping)]
    role = "system" if message["role"] == "developer" else str(message["role"])
    return {"role": role, "content": "\n".join(p for p in parts if p)}


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise InvalidValue(f"messages: content must be a text or a list of parts; got {content!r:.40}.")
    found = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "tool_use":
            found.append(json.dumps({"name": part.get("name"), "arguments": part.get("input")}))
        elif kind == "tool_result":
            found.append(_text(part.get("content")))
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            found.append(part["text"])
        else:
            raise InvalidValue(f"messages: must hold text alone, which is all that this model reads; got {kind!r}.")
    return "\n".join(found)


def _why(said: Said) -> str:
    return "stop" if said.finished else "length"


def _usage(said: Said) -> dict[str, Any]:
    return {
        "prompt_tokens": said.prompt, "completion_tokens": said.completion,
        "total_tokens": said.prompt + said.completion, "prompt_tokens_details": {"cached_tokens": said.cached},
    }  # fmt: skip
