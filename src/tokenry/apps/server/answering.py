"""Calls of our own tool answered before a client reads a reply, which may come at once or as a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from tokenry.apps.server.bodies import STYLES
from tokenry.apps.server.replies import with_account
from tokenry.apps.server.retrieving import Again, asked_again
from tokenry.apps.server.streams.anthropic import AnthropicStream
from tokenry.apps.server.streams.chat import ChatStream
from tokenry.apps.server.streams.events import events
from tokenry.apps.server.streams.joined import Joined, summed
from tokenry.apps.server.streams.responses import ResponsesStream

if TYPE_CHECKING:
    from tokenry.apps.server.passing import Passage

ROUNDS = 4
"""Times that a request is asked again with what a model retrieved."""
MOST_HELD = 16 << 20
"""Bytes of a reply that is held to be read as a whole; a longer one passes as it is."""
MOST_REMEMBERED = 10_000
"""Responses of several replies whose last id is remembered."""
JOINED: Mapping[str, type[Joined]] = {"chat": ChatStream, "anthropic": AnthropicStream, "responses": ResponsesStream}


async def whole(way: Passage, body: bytes, reply: httpx.Response, *, answers: bool) -> None:
    """A reply that is one object: calls of our own tool are answered, and its usage says what was shortened."""
    spent, chunks = dict[str, Any](), _chunks(reply)
    for turn in range(ROUNDS + 1):
        data, is_whole = await _held(chunks)
        said = _object(data) if is_whole else None
        again = await _again(way, body, partial(dict, said)) if said and answers and turn < ROUNDS else None
        if said is None or again is None:
            break
        body, usage = again.body, said.get("usage")
        spent = summed(spent, usage if isinstance(usage, dict) else {})
        await reply.aclose()
        reply = await way.ask(body)
        chunks = _chunks(reply)
        if reply.status_code != 200:
            data, is_whole, said = b"", False, None
            break
    way.row.status = reply.status_code
    try:
        if said is not None and isinstance(said.get("usage"), dict):
            data = await _told(way, data, spent)
        way.watched.see(data)
        await way.begin(reply, size=len(data) if is_whole else None)
        await way.say(data)
        if not is_whole:
            async for chunk in chunks:
                way.watched.see(chunk)
                await way.say(chunk)
        await way.say(b"", more=False)
    finally:
        await reply.aclose()


async def joined(way: Passage, body: bytes, reply: httpx.Response) -> None:
    """A stream: byte for byte until the model calls our own tool; the answer that follows goes on in its place."""
    stream = JOINED[STYLES[way.row.path][0]]()
    await way.begin(reply)
    try:
        while True:
            stream.holds = stream.turn < ROUNDS
            async for raw in events(reply.aiter_raw()):
                way.watched.see(raw)
                await way.say(stream.see(raw))
            again = await _again(way, body, stream.whole) if stream.asks else None
            if again is None:
                _remember(way, stream)
                await way.say(stream.released(), more=False)
                return
            await way.say(stream.answered())
            body = again.body
            await reply.aclose()
            way.watched.ends()
            reply = await way.ask(body)
            streams = reply.headers.get("content-type", "").startswith("text/event-stream")
            if reply.status_code != 200 or not streams:
                await way.say(stream.fault(await reply.aread()), more=False)
                return
    finally:
        await reply.aclose()


def _remember(way: Passage, stream: Joined) -> None:
    """The id by which the upstream knows what a client read as one response."""
    if isinstance(stream, ResponsesStream) and stream.turn:
        last = way.gateway.last_replies
        last[stream.key] = stream.last_key
        while len(last) > MOST_REMEMBERED:
            last.popitem(last=False)


async def _again(way: Passage, body: bytes, said: Callable[[], Mapping[str, Any]]) -> Again | None:
    """The request to send next, where a reply calls our own tool alone."""
    originals = way.gateway.originals
    assert originals is not None
    try:
        work = partial(asked_again, way.row.path, body, said(), originals, way.config.tokenizer)
        again: Again | None = await way.worked(work)
    except Exception as fault:
        way.gateway.failed(fault)
        return None
    way.row.retrieved += again.tokens if again is not None else 0
    return again


async def _told(way: Passage, data: bytes, spent: Mapping[str, Any]) -> bytes:
    """A reply that says in its usage what was done to the request."""
    account = way.account() if way.config.usage else {}
    try:
        told: bytes = await way.worked(partial(with_account, data, spent, account))
    except Exception as fault:
        way.gateway.failed(fault)
        return data
    return told


async def _chunks(reply: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in reply.aiter_raw():
        yield chunk


async def _held(chunks: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """A reply up to what may be held, and whether that is all of it."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > MOST_HELD:
            return b"".join(parts), False
    return b"".join(parts), True


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
