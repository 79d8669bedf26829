"""Clients of OpenAI and Anthropic whose requests get shorter: `client = wrap(OpenAI())`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tokenry.apps.adapters.settings import Settings
from tokenry.core.errors import InvalidValue

CALLS = {
    ("chat", "completions"): ("messages", "chat"),
    ("responses",): ("input", "responses"),
    ("messages",): ("messages", "anthropic"),
    ("beta", "messages"): ("messages", "anthropic"),
    ("beta", "chat", "completions"): ("messages", "chat"),
}
"""Where requests are made: the field that holds messages, and how they are written."""
ASKING = ("create", "stream", "parse", "count_tokens")
RAW = ("with_raw_response", "with_streaming_response")
"""The same calls, which give replies as they came."""


def wrap(client: Any, **settings: Any) -> Any:
    """A client that shortens results of tools in every request, and is the given one in everything else.

    Args:
        client: of the `openai` or the `anthropic` package, for threads or for asyncio.
        settings: those of `Settings`.

    Raises:
        InvalidValue: something that is no such client.
    """
    if not any(_reaches(client, path) for path in CALLS):
        raise InvalidValue(f"client: must be one of openai or anthropic; got {type(client).__name__}.")
    return _Around(client, (), Settings(**settings))


class _Around:
    """A part of a client, as if it were the part itself."""

    def __init__(self, inner: Any, path: tuple[str, ...], settings: Settings) -> None:
        self._inner, self._path, self._settings = inner, path, settings

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if self._path in CALLS and name in ASKING:
            return _asking(found, *CALLS[self._path], self._settings)
        path = self._path if name in RAW else (*self._path, name)
        if any(known[: len(path)] == path for known in CALLS) and not callable(found):
            return _Around(found, path, self._settings)
        return found

    def with_options(self, **options: Any) -> Any:
        """The same client with other options."""
        return _Around(self._inner.with_options(**options), self._path, self._settings)

    copy = with_options

    def __enter__(self) -> _Around:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._inner.__exit__(*error)

    async def __aenter__(self) -> _Around:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._inner.__aexit__(*error)


def _asking(ask: Callable[..., Any], field: str, style: str, settings: Settings) -> Callable[..., Any]:
    def request(options: dict[str, Any]) -> dict[str, Any]:
        tools = options.get("tools")
        messages, tools = settings.shortened(options.get(field), tools if isinstance(tools, list) else None, style)
        return options | {field: messages} | ({"tools": tools} if tools is not None else {})

    if inspect.iscoroutinefunction(ask):

        async def later(**options: Any) -> Any:
            import asyncio

            return await ask(**await asyncio.to_thread(request, options))

        return later
    return lambda **options: ask(**request(options))


def _reaches(client: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        client = getattr(client, name, None)
    return callable(getattr(client, "create", None))
