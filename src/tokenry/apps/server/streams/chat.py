"""Streams of OpenAI's chat, joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenry.apps.server.streams.events import Event, written
from tokenry.apps.server.streams.joined import Joined, Part, summed
from tokenry.pipeline.messages.retrieve import NAME


class ChatStream(Joined):
    """`/v1/chat/completions`. All chunks have the id of the first reply, and the role is said once."""

    _head: Mapping[str, Any] = {}

    def whole(self) -> dict[str, Any]:
        calls = [{k: v for k, v in call.items() if k != "index"} for call in self._calls]
        return {"choices": [{"message": {"role": "assistant", "content": self._content or None, "tool_calls": calls}}]}

    def fault(self, reply: bytes) -> bytes:
        return super().fault(reply).partition(b"\n")[2]

    def _begin(self) -> None:
        super()._begin()
        self._content, self._calls = "", list[dict[str, Any]]()

    def _note(self, event: Event) -> Part:
        data = event.data
        if data is None:
            return "end" if event.is_done and self._calls else ""
        self._head = self._head or {k: data[k] for k in ("id", "created") if k in data}
        self._usage = dict(data.get("usage") or self._usage)
        choices = data.get("choices")
        if not choices:
            return "end" if self._calls else ""
        if len(choices) > 1 or choices[0].get("index"):
            return "other"
        delta = choices[0].get("delta") or {}
        self._content += delta.get("content") or ""
        for part in delta.get("tool_calls") or ():
            self._call(part)
        if any(call["function"].get("name") != NAME for call in self._calls):
            return "other"
        if self._calls and choices[0].get("finish_reason"):
            return "end"
        return "call" if delta.get("tool_calls") else ""

    def _call(self, part: Mapping[str, Any]) -> None:
        """A piece of a call; servers that send calls whole may give the same index to all of them."""
        index, key = part.get("index", len(self._calls)), part.get("id")
        found = next((c for c in reversed(self._calls) if c["index"] == index and key in (None, "", c["id"])), None)
        function = dict(part.get("function") or {})
        if found is None:
            self._calls.append({**part, "index": index, "id": key, "type": "function", "function": function})
        else:
            given = found["function"].get("arguments") or ""
            found["function"]["arguments"] = given + (function.get("arguments") or "")

    def _shifted(self, data: Mapping[str, Any]) -> bytes:
        data = {**data, **self._head}
        if data.get("choices"):
            choice = dict(data["choices"][0])
            choice["delta"] = {k: v for k, v in (choice.get("delta") or {}).items() if k != "role"}
            data["choices"] = [choice]
        if data.get("usage"):
            data["usage"] = summed(self.spent, data["usage"])
        return written(data)

    def _beside(self, event: Event) -> bytes:
        data = event.data or {}
        choices = data.get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        if not delta.get("content"):
            return b""
        said = {"delta": {k: v for k, v in delta.items() if k != "tool_calls"}, "finish_reason": None}
        data = {**data, "choices": [{**choices[0], **said}]}
        return self._shifted(data) if self.turn else written(data)
