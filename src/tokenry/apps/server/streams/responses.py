"""Streams of OpenAI's responses, joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenry.apps.server.streams.events import Event, written
from tokenry.apps.server.streams.joined import Joined, Part, summed
from tokenry.pipeline.messages.retrieve import NAME


class ResponsesStream(Joined):
    """`/v1/responses`. Items and events of later replies are numbered on.

    The response that ends the stream holds all items that were shown. It keeps the id of the first reply; the upstream
    knows the whole conversation by that of the last.
    """

    def __init__(self) -> None:
        self._shown: list[Any] = []
        """Items that the client has got, of which `_earlier` are those of earlier replies."""
        self._next = 0
        self.key = self.last_key = ""
        super().__init__()

    def whole(self) -> dict[str, Any]:
        return {"output": [self._items[i] for i in sorted(self._items)]}

    def _begin(self) -> None:
        super()._begin()
        self._earlier = list(self._shown)
        self._items: dict[int, Any] = {}
        self._ours: set[int] = set()
        self._places: dict[int, int] = {}

    def _note(self, event: Event) -> Part:
        data = event.data or {}
        kind, index = data.get("type"), data.get("output_index", -1)
        if kind == "response.created":
            self.last_key = data["response"]["id"]
            self.key = self.key or self.last_key
        elif kind == "response.output_item.added":
            item = data["item"]
            if item["type"] == "function_call" and item["name"] == NAME:
                self._ours.add(index)
            elif item["type"] in ("function_call", "custom_tool_call"):
                return "other"
        elif kind == "response.output_item.done":
            self._items[index] = data["item"]
        elif kind == "response.completed":
            self._usage = dict(data["response"].get("usage") or {})
            return "end" if self._ours else ""
        elif kind in ("response.incomplete", "response.failed", "error"):
            return "other"
        return "call" if index in self._ours else ""

    def _count(self, data: Mapping[str, Any]) -> None:
        if data.get("type") == "response.output_item.added":
            self._places[data["output_index"]] = len(self._earlier) + len(self._places)
        elif data.get("type") == "response.output_item.done":
            self._shown.append(data["item"])
        if self.turn == 0 and "sequence_number" in data:
            self._next = data["sequence_number"] + 1

    def _shifted(self, data: Mapping[str, Any]) -> bytes:
        kind, data = data["type"], dict(data)
        if kind in ("response.created", "response.queued", "response.in_progress"):
            return b""
        if "sequence_number" in data:
            data["sequence_number"] = self._next
            self._next += 1
        if "output_index" in data:
            data["output_index"] = self._places[data["output_index"]]
        if response := data.get("response"):
            usage = summed(self.spent, response.get("usage") or {})
            whole = [*self._earlier, *response["output"]]
            data["response"] = {**response, "id": self.key, "output": whole, "usage": usage}
        return written(data, kind)
