"""Several streams of an upstream as the one that a client reads: calls of our own tool are held back and answered."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from tokenry.apps.server.streams.events import Event, written

Part = Literal["", "call", "end", "other"]
"""What an event is: something said, a call of our own tool, the end of a reply with one, or what lets all pass."""
MALFORMED = (KeyError, TypeError, IndexError, AttributeError, ValueError)


class Joined:
    """One stream of a client. Bytes pass as they came until our own tool is called; from there on they are held.

    When a reply ends that called our tool alone, the call is left out and the next reply goes on in its place. With
    another tool's call beside it, what was held goes on as it came.
    """

    def __init__(self) -> None:
        self.turn = 0
        self.holds = True
        """Whether calls of our own tool are held; where not, they pass like any other."""
        self.spent: dict[str, Any] = {}
        """What the upstream counted for earlier replies."""
        self._held: list[tuple[Event, Part]] = []
        self._begin()

    def see(self, raw: bytes) -> bytes:
        """What goes to the client now that an event came."""
        event = Event.of(raw)
        try:
            part = self._note(event)
        except MALFORMED:
            part = "other"
        if part == "other":
            self.holds = False
            return self.released() + self._out(event)
        if self.holds and (part or self._held):
            self._held.append((event, part))
            return b""
        return self._out(event)

    @property
    def asks(self) -> bool:
        """Whether the reply ended, having called our own tool and no other."""
        return any(part == "end" for _, part in self._held)

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """The reply as it would have come at once."""

    def released(self) -> bytes:
        """What was held, for the client after all."""
        held, self._held = self._held, []
        return b"".join(self._out(event) for event, _ in held)

    def answered(self) -> bytes:
        """What was said beside the calls; the next reply follows."""
        held, self._held = self._held, []
        out = b"".join(self._beside(event) if part else self._out(event) for event, part in held)
        self.spent = summed(self.spent, self._usage)
        self.turn += 1
        self._begin()
        return out

    def fault(self, reply: bytes) -> bytes:
        """An upstream's refusal to go on, told in the stream that the client reads already."""
        try:
            said = json.loads(reply)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, Mapping) or "error" not in said:
            said = {"error": {"message": "upstream: did not go on", "type": "upstream_error"}}
        return written({"type": "error", **said}, "error")

    def _out(self, event: Event) -> bytes:
        """An event as the client gets it."""
        if event.data is None:
            return event.raw
        try:
            self._count(event.data)
            return self._shifted(event.data) if self.turn else event.raw
        except MALFORMED:
            return event.raw

    def _begin(self) -> None:
        """A reply begins."""
        self._usage: dict[str, Any] = {}

    @abstractmethod
    def _note(self, event: Event) -> Part: ...

    def _count(self, data: Mapping[str, Any]) -> None:
        """An event goes to the client."""

    @abstractmethod
    def _shifted(self, data: Mapping[str, Any]) -> bytes:
        """An event of a later reply as a part of the first."""

    def _beside(self, event: Event) -> bytes:
        """What an event says beside a call or an end."""
        return b""


def summed(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """What two replies used, together; what is no number is that of the second."""
    out = {**a, **b}
    for name in a.keys() & b.keys():
        old, new = a[name], b[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            out[name] = summed(old, new)
        elif type(old) is int and type(new) is int:
            out[name] = old + new
    return out
