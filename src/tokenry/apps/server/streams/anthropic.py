"""Streams of Anthropic's messages, joined."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenry.apps.server.streams.events import Event, written
from tokenry.apps.server.streams.joined import Joined, Part, summed
from tokenry.pipeline.messages.retrieve import NAME


class AnthropicStream(Joined):
    """`/v1/messages`. Blocks of later replies are numbered on, and one message begins and ends."""

    _shown = 0
    """Blocks that the client has got."""

    def whole(self) -> dict[str, Any]:
        blocks = (self._blocks[i] for i in sorted(self._blocks))
        # The API refuses texts that are empty.
        return {"content": [b for b in blocks if b["type"] != "text" or b["text"]]}

    def _begin(self) -> None:
        super()._begin()
        self._blocks: dict[int, dict[str, Any]] = {}
        self._given: dict[int, str] = {}
        self._ours: set[int] = set()
        self._places: dict[int, int] = {}

    def _note(self, event: Event) -> Part:
        data = event.data or {}
        kind, index = data.get("type"), data.get("index", -1)
        if kind == "message_start":
            self._usage = dict(data["message"].get("usage") or {})
        elif kind == "content_block_start":
            block = self._blocks[index] = dict(data["content_block"])
            if block["type"] == "tool_use":
                if block["name"] != NAME:
                    return "other"
                self._ours.add(index)
        elif kind == "content_block_delta":
            self._add(index, data["delta"])
        elif kind == "content_block_stop":
            if given := self._given.get(index):
                self._blocks[index]["input"] = json.loads(given)
        elif kind in ("message_delta", "message_stop"):
            self._usage |= {k: v for k, v in (data.get("usage") or {}).items() if v is not None}
            return "end" if self._ours else ""
        return "call" if index in self._ours else ""

    def _add(self, index: int, delta: Mapping[str, Any]) -> None:
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._given[index] = self._given.get(index, "") + delta["partial_json"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta["citation"]]

    def _count(self, data: Mapping[str, Any]) -> None:
        if data.get("type") == "content_block_start":
            self._places[data["index"]] = self._shown
            self._shown += 1

    def _shifted(self, data: Mapping[str, Any]) -> bytes:
        kind = data["type"]
        if kind == "message_start":
            return b""
        if "index" in data:
            data = {**data, "index": self._places[data["index"]]}
        if kind == "message_delta":
            data = {**data, "usage": summed(self.spent, self._usage)}
        return written(data, kind)
