"""Replies as they pass: what an upstream says of tokens is read from them, and their usage may say what we did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenry.apps.server.streams.joined import summed
from tokenry.pipeline.messages.raw import entered, spans

TAIL = 1 << 16
"""Bytes at the end of a reply that are looked at; usage stands last in a stream."""
HEAD = 1 << 14
"""Bytes at the beginning, where Anthropic's streams say what was read."""


class Watched:
    """The beginning and the end of a reply, or of several that answer one request."""

    def __init__(self) -> None:
        self.head, self.tail = b"", b""
        self._ended: dict[str, int] = {}

    def see(self, chunk: bytes) -> None:
        if len(self.head) < HEAD:
            self.head += chunk[: HEAD - len(self.head)]
        self.tail = (self.tail + chunk)[-TAIL:]

    def ends(self) -> None:
        """A reply ended, and another one follows."""
        self._ended, self.head, self.tail = self.usage(), b"", b""

    def usage(self) -> dict[str, int]:
        """Tokens of prompt and completion, and what the upstream's cache read and kept; 0 where it does not say."""
        found = self._latest()
        return {name: found.get(name, 0) + self._ended.get(name, 0) for name in {**self._ended, **found}}

    def _latest(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for usage in (*_usages(self.head), *_usages(self.tail)):
            details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
            for name, value in {
                "prompt": usage.get("prompt_tokens", usage.get("input_tokens")),
                "completion": usage.get("completion_tokens", usage.get("output_tokens")),
                "cache_read": usage.get("cache_read_input_tokens", _get(details, "cached_tokens")),
                "cache_written": usage.get("cache_creation_input_tokens"),
            }.items():
                if isinstance(value, int) and not isinstance(value, bool):
                    found[name] = max(found.get(name, 0), value)
        return found


def with_account(data: bytes, spent: Mapping[str, Any], account: Mapping[str, Any]) -> bytes:
    """A reply whose usage has a member `tokenry`, and counts earlier replies to the same request; the rest stays.

    Args:
        spent: what these used.
        account: what was done to the request; nothing is said where it is empty.
    """
    text = data.decode("utf-8")
    if spent:
        start, end = spans(text)["usage",]
        usage = json.dumps(summed(spent, json.loads(text[start:end])), ensure_ascii=False)
        text = text[:start] + usage + text[end:]
    if account:
        text = entered(text, ("usage",), "tokenry", json.dumps(account))
    return text.encode("utf-8")


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _usages(data: bytes) -> list[Mapping[str, Any]]:
    """All objects called usage in some bytes of a reply."""
    found, decoder = [], json.JSONDecoder()
    text = data.decode("utf-8", "replace")
    at = text.find('"usage"')
    while at >= 0:
        start = text.find("{", at, at + 16)
        if start >= 0:
            try:
                value, _ = decoder.raw_decode(text, start)
                found.append(value)
            except (ValueError, RecursionError):
                pass
        at = text.find('"usage"', at + 1)
    return [value for value in found if isinstance(value, Mapping)]
