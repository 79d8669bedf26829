"""Chat messages with shorter results of tools: everything else stays as it is, and so does every prefix."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from typing import Any

from tokenry.compress.base import Compressor
from tokenry.compress.kept.shortening import Compressed, shorten
from tokenry.compress.parts.auto import kind_of
from tokenry.core.errors import Incompatible, InvalidValue, TokenryError
from tokenry.core.registry import parse
from tokenry.models.text.counting import Counter
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals
from tokenry.pipeline.messages.outcome import Change, Messages
from tokenry.pipeline.messages.places import Path, Span, replaced
from tokenry.pipeline.messages.points import End, Point, ends, sizes
from tokenry.pipeline.messages.results import Result, results

USE = ("lexical_relevance:budget=0.25,units=auto",)
OLDER = ("lexical_relevance:budget=0.1,units=auto",)
FLOOR = 2000
"""Tokens below which a result is not touched."""
KEPT = "kept by name"
BROUGHT = "brought back"
BELOW = "below the floor"
WAITS = "whole until older turns shrink"

Use = str | Compressor | Sequence[str | Compressor]


def compress_messages(
    messages: Sequence[Any],
    *,
    tools: Sequence[Any] | None = None,
    use: Use = USE,
    tokenizer: Any = "o200k_base",
    ask: str | None = None,
    keep: Collection[str] = (),
    floor: int = FLOOR,
    older_every: int | None = None,
    older_use: Use = OLDER,
    originals: Originals | None = None,
    style: str = "chat",
) -> Messages:
    """Shorten the results of tools in a conversation; ids, arguments, roles, schemas and what people say stay.

    A result is shortened with the question of its own turn and what its tool was called with, which later messages do
    not change. One that would be sent a second time, byte for byte, is a reference to the first. So what is sent for
    the first k messages is the beginning of what is sent for k + 1, and a provider's prompt cache goes on being hit.

    With `older_every` there are points where that is given up: wherever a request may end, so many tokens came since
    the last point, and something is old enough. There, documents that users pasted are shortened by `use`, and results
    further by `older_use`, all but those of the last turn of the user and of the last exchange. Between two points
    every prefix stays again.

    Args:
        messages: of OpenAI's chat or responses, or of Anthropic's messages; not changed.
        tools: of the same request.
        use: one or more compressors, applied one after the other.
        tokenizer: whose tokens are counted, see `Counter.of`.
        ask: the question, in place of what the user said before each result.
        keep: names of tools whose results stay, with `*` for any letters, such as `read_*`.
        floor: results and documents of fewer tokens stay.
        older_every: tokens between two points at which older turns shrink; None for never.
        older_use: what results of older turns are shortened by, anew from the original.
        originals: where originals are kept; marks then carry an id, and the tools one that brings them back.
        style: how that tool is declared: `chat`, `responses` or `anthropic`.

    Raises:
        InvalidValue: no list of messages, or a method that does not exist.
        Incompatible: a method that is no compressor.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise InvalidValue(f"messages: must be a list of messages; got {type(messages).__name__}; wrap it in a list.")
    if older_every is not None and older_every < 1:
        raise InvalidValue(f"older_every: must be at least 1; got {older_every}; leave it out for never.")
    counter = Counter.of(tokenizer)
    run = _Run(_methods(use), _methods(older_use), counter, ask, tuple(keep), floor, originals)
    left: deque[End] = deque()
    if older_every is not None:
        run.every, run.sizes = older_every, sizes(messages, counter)
        left.extend(ends(messages, run.sizes))
    for result in results(messages, documents=older_every is not None):
        while left and left[0].message <= result.index:
            run.reach(left.popleft())
        run.take(result)
    for end in left:
        run.reach(end)
    given = None if tools is None else list(tools)
    if originals is not None and not retrieve.carries(given):
        given = [*(given or []), retrieve.schema(style)]
    return Messages(replaced(messages, run.edits()), given, tuple(f.change() for f in run.found), tuple(run.points))


@dataclass(slots=True)
class _Found:
    """A result as it is sent so far."""

    result: Result
    size: int
    text: str
    after: int
    why: str = ""
    key: str | None = None
    kind: str = ""
    seconds: float = 0.0
    older: bool = False
    named: bool = False  # a later result refers to it

    def change(self) -> Change:
        return Change(
            self.result.path, self.result.tool, self.size, self.after, self.seconds, self.why, self.key, self.kind,
            self.older,
        )  # fmt: skip


@dataclass(slots=True)
class _Run:
    """One way through a conversation, in which nothing looks ahead."""

    methods: tuple[Compressor, ...]
    older: tuple[Compressor, ...]
    counter: Counter
    ask: str | None
    keep: tuple[str, ...]
    floor: int
    originals: Originals | None
    every: int = 0
    sizes: list[int] = field(default_factory=list)
    found: list[_Found] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    _sent: dict[tuple[str, str], _Found] = field(default_factory=dict)
    _fresh: list[_Found] = field(default_factory=list)
    _shrunk_at: int = 0

    def take(self, result: Result) -> None:
        """Shorten a result as it is sent first; a document is sent whole."""
        start = time.perf_counter()
        size = self.counter(result.text)
        found = _Found(result, size, result.text, size)
        self.found.append(found)
        if retrieve.gave(result.tool):
            found.why = BROUGHT
        elif any(fnmatch(result.tool, name) for name in self.keep):
            found.why = KEPT
        elif size < self.floor:
            found.why = BELOW
        else:
            self._fresh.append(found)
            found.why = WAITS if result.is_pasted else self._shorten(found, self.methods)
        if size >= self.floor and not result.is_pasted:
            self._refer(found)
        found.seconds = time.perf_counter() - start

    def _refer(self, found: _Found) -> None:
        """Say once what would be sent a second time; of others, what is left may be the same by chance."""
        first = self._sent.setdefault((found.result.text, found.text), found)
        if first is found or found.why in (KEPT, BROUGHT):
            return
        reference = _reference(first.result)
        size = self.counter(reference)
        if size < found.after:
            found.text, found.after, found.why, found.kind = reference, size, "", "repeat"
            first.named = True

    def reach(self, end: End) -> None:
        """Shrink what is older than the last exchange, where enough came since that was done last."""
        if end.so_far - self._shrunk_at < self.every:
            return
        fresh, self._fresh = self._fresh, []
        first, saved = end.message, 0
        for found in fresh:
            if found.result.index >= end.before or found.result.index == end.user:
                self._fresh.append(found)
            elif less := self._shrink(found):
                first, saved = min(first, found.result.index), saved + less
        if saved:
            self._shrunk_at = end.so_far
            less = sum(f.size - f.after for f in self.found if first <= f.result.index < end.message)
            self.points.append(Point(end.message, saved, sum(self.sizes[first : end.message]) - less))

    def _shrink(self, found: _Found) -> int:
        """Tokens by which an older result or document gets shorter; one that later results refer to stays."""
        if found.kind == "repeat" or found.named:
            return 0
        text, before = found.text, found.after
        why = self._shorten(found, self.methods if found.result.is_pasted else self.older)
        if found.after == before:
            found.why = why if found.why == WAITS else found.why
            return 0
        found.why, found.older = "", True
        sent = found.result.text, text
        if self._sent.get(sent) is found:
            del self._sent[sent]
        return before - found.after

    def _shorten(self, found: _Found, methods: tuple[Compressor, ...]) -> str:
        """Shorten the original, where that gives fewer tokens than are sent so far; why not, where it does not."""
        original = found.result.text
        key = None if self.originals is None else Originals.key_of(original)
        text, size = original, found.size
        for method in methods:
            try:
                short: Compressed = shorten(method, text, self.counter, self.ask or found.result.ask or None, key=key)
            except TokenryError as error:
                return str(error)
            text, size = short.text, short.tokens_out
        if size >= found.after:
            return "not shorter"
        if self.originals is not None:
            found.key = self.originals.put(original)
        found.text, found.after, found.kind = text, size, kind_of(original).name()
        return ""

    def edits(self) -> dict[Path, dict[Span, str]]:
        """What stands in place of what."""
        edits: dict[Path, dict[Span, str]] = {}
        for found in self.found:
            if not found.why:
                edits.setdefault(found.result.path, {})[found.result.place] = found.text
        return edits


def _reference(first: Result) -> str:
    """What stands for a result that was sent before; the earlier messages alone decide what it says."""
    call = f"call {first.call}" if first.call else f"message {first.index + 1}"
    return f"[the same as the result of {call}{f' ({first.tool})' if first.tool else ''} above]"


def _methods(use: Use) -> tuple[Compressor, ...]:
    return _parsed((use,) if isinstance(use, str | Compressor) else tuple(use))


@lru_cache(maxsize=32)
def _parsed(use: tuple[str | Compressor, ...]) -> tuple[Compressor, ...]:
    found = tuple(parse(m) if isinstance(m, str) else m for m in use)
    for method in found:
        if not isinstance(method, Compressor):
            raise Incompatible(f"messages: text cannot carry {method}; use compressors.")
    return tuple(m for m in found if isinstance(m, Compressor))
