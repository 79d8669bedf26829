"""Chat messages with shorter results of tools: everything else stays as it is, and so does every prefix."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from html import escape
from typing import Any

from tokenry.compress.base import Compressor
from tokenry.compress.kept.shortening import Compressed, shorten
from tokenry.compress.parts.auto import kind_of
from tokenry.core.errors import Incompatible, InvalidValue, TokenryError
from tokenry.core.registry import parse
from tokenry.models.text.counting import Counter
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals
from tokenry.pipeline.messages.results import Path, Result, replaced, results

USE = ("lexical_relevance:budget=0.25,units=auto",)
KEPT = "kept by name"
FLOOR = 2000
"""Tokens below which a result is not touched."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one result.

    Args:
        path: where it stands.
        tool: who gave it.
        tokens_in: before, and `tokens_out` after.
        seconds: that it took.
        why: the reason why it stayed as it was; empty where it was shortened.
        key: under which its original is kept.
        kind: what it was cut as, such as `json` or `log`; `repeat` where it is a reference to an earlier one.
    """

    path: Path
    tool: str
    tokens_in: int
    tokens_out: int
    seconds: float
    why: str = ""
    key: str | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages on their way to a model.

    Args:
        messages: with shorter results.
        tools: those of the request; with `tokenry_retrieve` where originals are kept.
        changes: what became of every result.
    """

    messages: list[Any]
    tools: list[Any] | None = None
    changes: tuple[Change, ...] = field(default=())

    @property
    def tokens_in(self) -> int:
        """Tokens of all results before."""
        return sum(c.tokens_in for c in self.changes)

    @property
    def tokens_out(self) -> int:
        """Tokens of all results after."""
        return sum(c.tokens_out for c in self.changes)

    def __iter__(self) -> Any:
        return iter(self.messages)

    def _repr_html_(self) -> str:
        """What notebooks show: what became of every result."""
        rows = "".join(
            f"<tr><td>{escape(c.tool)}</td><td>{c.kind}</td><td>{c.tokens_in:,}</td><td>{c.tokens_out:,}</td>"
            f"<td>{escape(c.why)}</td></tr>"
            for c in self.changes
        )
        heads = "".join(f"<th>{name}</th>" for name in ("tool", "content", "before", "after", "why not"))
        return f"<p>{self.tokens_in:,} → {self.tokens_out:,} tokens</p><table><tr>{heads}</tr>{rows}</table>"


def compress_messages(
    messages: Sequence[Any],
    *,
    tools: Sequence[Any] | None = None,
    use: str | Compressor | Sequence[str | Compressor] = USE,
    tokenizer: Any = "o200k_base",
    ask: str | None = None,
    keep: Collection[str] = (),
    floor: int = FLOOR,
    originals: Originals | None = None,
    style: str = "chat",
) -> Messages:
    """Shorten the results of tools in a conversation; ids, arguments, roles, schemas and what people say stay.

    A result is shortened with the question of its own turn and what its tool was called with, which later messages do
    not change. One that would be sent a second time, byte for byte, is a reference to the first. So what is sent for
    the first k messages is the beginning of what is sent for k + 1, and a provider's prompt cache goes on being hit.

    Args:
        messages: of OpenAI's chat or responses, or of Anthropic's messages; not changed.
        tools: of the same request.
        use: one or more compressors, applied one after the other.
        tokenizer: whose tokens are counted, see `Counter.of`.
        ask: the question, in place of what the user said before each result.
        keep: names of tools whose results stay, with `*` for any letters, such as `read_*`.
        floor: results of fewer tokens stay.
        originals: where originals are kept; marks then carry an id, and the tools one that brings them back.
        style: how that tool is declared: `chat`, `responses` or `anthropic`.

    Raises:
        InvalidValue: no list of messages, or a method that does not exist.
        Incompatible: a method that is no compressor.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise InvalidValue(f"messages: must be a list of messages; got {type(messages).__name__}; wrap it in a list.")
    methods = _methods((use,) if isinstance(use, str | Compressor) else tuple(use))
    counter = Counter.of(tokenizer)
    changes, texts = [], {}
    sent: dict[str, Result] = {}
    for result in results(messages):
        start = time.perf_counter()
        text, size, why, key = result.text, counter(result.text), "", None
        after = size
        if any(fnmatch(result.tool, name) for name in keep):
            why = KEPT
        elif size < floor:
            why = "below the floor"
        else:
            text, after, why, key = _shortened(result, methods, counter, ask, originals)
        kind = "" if why else kind_of(result.text).name()
        first = sent.setdefault(text, result) if size >= floor else result
        if first is not result and why != KEPT and counter(_reference(first)) < after:
            text, why, kind = _reference(first), "", "repeat"
            after = counter(text)
        if not why:
            texts[result.path] = text
        changes.append(Change(result.path, result.tool, size, after, time.perf_counter() - start, why, key, kind))
    given = None if tools is None else list(tools)
    if originals is not None and not retrieve.carries(given):
        given = [*(given or []), retrieve.schema(style)]
    return Messages(replaced(messages, texts), given, tuple(changes))


def _shortened(
    result: Result, methods: tuple[Compressor, ...], counter: Counter, ask: str | None, originals: Originals | None
) -> tuple[str, int, str, str | None]:
    """Text, tokens, why not, and the key of the original."""
    key = None if originals is None else Originals.key_of(result.text)
    text, size = result.text, counter(result.text)
    question = ask or result.ask or None
    for method in methods:
        try:
            found: Compressed = shorten(method, text, counter, question, key=key)
        except TokenryError as error:
            return result.text, counter(result.text), str(error), None
        text, size = found.text, found.tokens_out
    if size >= counter(result.text):
        return result.text, counter(result.text), "not shorter", None
    if originals is not None:
        key = originals.put(result.text)
    return text, size, "", key


def _reference(first: Result) -> str:
    """What stands for a result that was sent before; the earlier messages alone decide what it says."""
    call = f"call {first.call}" if first.call else f"message {int(first.path[0]) + 1}"
    return f"[the same as the result of {call}{f' ({first.tool})' if first.tool else ''} above]"


@lru_cache(maxsize=32)
def _methods(use: tuple[str | Compressor, ...]) -> tuple[Compressor, ...]:
    found = tuple(parse(m) if isinstance(m, str) else m for m in use)
    for method in found:
        if not isinstance(method, Compressor):
            raise Incompatible(f"messages: text cannot carry {method}; use compressors.")
    return tuple(m for m in found if isinstance(m, Compressor))
