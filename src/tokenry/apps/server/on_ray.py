"""A server on Ray Serve: a door here, and replicas behind it, of which one keeps each conversation.

A replica holds what it read of a conversation, so the next turn must come to the same one. Which it is follows from how
the conversation begins, which later turns do not change.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenry.apps.server.bodies import STYLES

PREFIX = ("system", "instructions", "tools")
"""Fields of a request that stand before its messages."""
REPLICA = b"x-tokenry-replica"
KNOWN = 10_000
"""Ids of responses of which the door knows who gave them."""
_ID = re.compile(rb'"id"\s*:\s*"(resp[^"\\]{1,200})"')
_LOOKED_AT = 1 << 16

Ask = Callable[[Scope, bytes], AsyncIterator[Message]]
"""Has a replica answer a request."""


def beginning_of(path: str, body: bytes) -> tuple[bytes, str]:
    """What a conversation begins with, as a hash, and the id of the response that a request goes on from.

    Both are empty for a request that holds no conversation.
    """
    style = STYLES.get(path)
    try:
        given = json.loads(body) if style else None
    except (ValueError, RecursionError):
        given = None
    if style is None or not isinstance(given, dict):
        return b"", ""
    before = given.get("previous_response_id")
    messages = given.get(style[1])
    first: list[Any] = [messages]
    if isinstance(messages, list):
        asked = (i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") == "user")
        first = messages[: next(asked, 0) + 1]
    key = json.dumps([*(given.get(name) for name in PREFIX), first], sort_keys=True)
    return hashlib.sha256(key.encode()).digest(), before if isinstance(before, str) else ""


class Door:
    """The application in front of replicas.

    Args:
        replicas: what has each of them answer.
        most_bytes: of one request.
        most: requests under way.
        client_seconds: in which a client sends no byte, or takes none, after which its request ends.
    """

    def __init__(
        self, replicas: Sequence[Ask], most_bytes: int, *, most: int = 320, client_seconds: float = 60.0
    ) -> None:
        self._replicas, self._most_bytes, self._most, self._seconds = replicas, most_bytes, most, client_seconds
        self._under_way = 0
        self._gave: OrderedDict[str, int] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        if self._under_way >= self._most:
            await _refuse(send, 503, "gateway: too many requests wait; try again later")
            return
        self._under_way += 1
        try:
            body = await self._read(receive)
            if body is None:
                await _refuse(send, 413, f"body: must be at most {self._most_bytes} bytes")
            else:
                await self._answer(scope, receive, send, body)
        except TimeoutError:
            # Who is too slow is not spoken to any more.
            return
        finally:
            self._under_way -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        at = self.place(scope, body)
        begun = False
        answer = self._replicas[at](scope, body)
        pump = asyncio.ensure_future(_gone(receive))
        try:
            async for message in _until(answer, pump):
                if message["type"] == "http.response.start":
                    begun = True
                    message = {**message, "headers": [*message["headers"], (REPLICA, str(at).encode())]}
                elif scope["path"] == "/v1/responses":
                    self._learn(message.get("body", b""), at)
                await asyncio.wait_for(send(message), self._seconds)
        except TimeoutError:
            raise
        except Exception:
            if begun:
                # A client must not take half a reply for a whole one.
                raise
            await _refuse(send, 503, "gateway: a replica ended; try again later")
        finally:
            pump.cancel()

    def place(self, scope: Scope, body: bytes) -> int:
        """The replica that a request goes to."""
        wanted = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("replica", [""])[0]
        if wanted.isdecimal() and scope["method"] == "GET":
            return int(wanted) % len(self._replicas)
        key, before = beginning_of(scope["path"], body)
        if before in self._gave:
            return self._gave[before]
        return int.from_bytes(key[:8]) % len(self._replicas)

    def _learn(self, chunk: bytes, at: int) -> None:
        """Who gave a response: who goes on from it comes to the same replica."""
        for found in _ID.findall(chunk[:_LOOKED_AT]):
            self._gave[found.decode()] = at
            while len(self._gave) > KNOWN:
                self._gave.popitem(last=False)

    async def _read(self, receive: Receive) -> bytes | None:
        parts, size, more = list[bytes](), 0, True
        while more:
            message = await asyncio.wait_for(receive(), self._seconds)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most_bytes:
                return None
            more = message.get("more_body", False) and message["type"] == "http.request"
        return b"".join(parts)


class Replica:
    """One of the servers behind the door, which Ray Serve builds in a process of its own.

    Args:
        build: makes the application, from what it is `told`.
    """

    def __init__(self, build: Callable[..., ASGIApp], told: Mapping[str, Any]) -> None:
        self._app: Any = build(**told)
        self._block: Any = None

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """What the application says to one request, message by message."""
        if self._block is None:
            self._block = self._app.router.lifespan_context(self._app)
            await self._block.__aenter__()
        said: asyncio.Queue[Message | None] = asyncio.Queue()
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if given:
                return given.pop()
            # Who leaves has this task cancelled.
            await asyncio.Event().wait()
            raise AssertionError

        task = asyncio.ensure_future(self._app(scope, receive, said.put))
        task.add_done_callback(lambda _: said.put_nowait(None))
        try:
            while (message := await said.get()) is not None:
                yield message
            await task
        finally:
            task.cancel()


@contextmanager
def deployed(build: Callable[..., ASGIApp], told: Mapping[str, Any], number: int, at_once: int) -> Iterator[list[Ask]]:
    """Replicas, each an application of one, so that a conversation can be sent to it; they go when the block ends."""
    from ray import serve

    # Nobody but the door speaks to them.
    serve.start(proxy_location="Disabled")
    names = [f"tokenry-{os.getpid()}-{i}" for i in range(number)]
    each: dict[str, Any] = {"max_ongoing_requests": at_once, "ray_actor_options": {"num_cpus": 1}}
    try:
        made: Any = serve.deployment(Replica, name="tokenry", **each)
        made = made.bind(build, dict(told))
        yield [_asking(serve.run(made, name=n, route_prefix=None).options(stream=True)) for n in names]
    finally:
        for name in names:
            serve.delete(name, _blocking=False)


def gateway_app(**config: Any) -> ASGIApp:
    """The gateway of a configuration."""
    from tokenry.apps.server.config import Config
    from tokenry.apps.server.gateway import Gateway

    return Gateway(Config(**config)).app()


def model_app(model: str, use: str | None, host: str) -> ASGIApp:
    """The API of a model at hand."""
    from tokenry.apps.server.config import LOOPBACK
    from tokenry.apps.server.model import ModelApi
    from tokenry.apps.server.speaking import Speaker
    from tokenry.models.files.load import load

    app = ModelApi(Speaker(load(model), use)).app()
    if host in LOOPBACK:
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    return app


def _asking(handle: Any) -> Ask:
    async def ask(scope: Scope, body: bytes) -> AsyncIterator[Message]:
        plain = {name: scope[name] for name in _PLAIN if name in scope}
        answer = handle.answer.remote(plain, body)
        try:
            async for message in answer:
                yield message
        finally:
            answer.cancel()

    return ask


_PLAIN = (
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers",
    "client", "server",
)  # fmt: skip
"""What of a request another process can be told."""


async def _until(answer: AsyncIterator[Message], gone: asyncio.Future[None]) -> AsyncIterator[Message]:
    """What is said, until it ends or nobody listens any more."""
    try:
        while not gone.done():
            step = asyncio.ensure_future(anext(answer, None))
            await asyncio.wait((step, gone), return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                step.cancel()
                with suppress(asyncio.CancelledError):
                    await step
                return
            message = step.result()
            if message is None:
                return
            yield message
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        what = (await receive())["type"]
        await send({"type": f"{what}.complete"})
        if what == "lifespan.shutdown":
            return


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"type": "error", "error": {"message": message, "type": "tokenry"}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
