"""A gateway in front of any model: results of tools become shorter on the way, and everything else passes as it is."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tokenry.apps.server.bodies import STYLES, Shortened, shortened
from tokenry.apps.server.config import Config
from tokenry.apps.server.ledger import Ledger, Row
from tokenry.apps.server.metrics import Metrics
from tokenry.apps.server.page import page
from tokenry.apps.server.replies import Watched
from tokenry.apps.server.retrieving import asked_again
from tokenry.pipeline.messages.originals import Originals

log = logging.getLogger("tokenry.serve")

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
OURS = "x-tokenry-"
ROUNDS = 4
"""Times that a request is asked again with what a model retrieved."""


class Gateway:
    """The gateway of one configuration.

    Args:
        transport: how the upstream is reached; over the network where not given.
    """

    def __init__(self, config: Config, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self.ledger = Ledger(config.ledger or None)
        self.originals = None if config.retrieve == "no" else Originals(config.originals or None)
        self.metrics = Metrics()
        self._transport = transport
        self._slots = asyncio.Semaphore(config.most_at_once)
        self._waiting = 0
        self._client: httpx.AsyncClient | None = None

    def app(self) -> Starlette:
        """The application, for uvicorn."""
        everything = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/savings.json", self._savings),
                Route("/healthz", lambda _: PlainTextResponse("ok\n")),
                Route("/readyz", self._ready),
                Route("/metrics", lambda _: Response(self.metrics.text(), media_type="text/plain; version=0.0.4")),
                Route("/v1/{path:path}", self._pass, methods=everything),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.config.most_at_once)
        timeout = httpx.Timeout(self.config.upstream_seconds, connect=min(30.0, self.config.upstream_seconds))
        async with httpx.AsyncClient(
            base_url=self.config.upstream, transport=self._transport, timeout=timeout, limits=limits
        ) as self._client:
            yield
        self._client = None

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(page()) if self._may(request) else _refused()

    async def _savings(self, request: Request) -> Response:
        if not self._may(request):
            return _refused()
        return JSONResponse({"summary": self.ledger.summary(), "latest": self.ledger.latest()})

    async def _ready(self, _: Request) -> Response:
        return PlainTextResponse("ready\n" if self._client else "starting\n", 200 if self._client else 503)

    def _may(self, request: Request) -> bool:
        given = request.headers.get(f"{OURS}key", "")
        return not self.config.keys or any(hmac.compare_digest(given, key) for key in self.config.keys)

    async def _pass(self, request: Request) -> Response:
        if not self._may(request):
            return _refused()
        if any(part in ("..", ".") for part in request.path_params["path"].split("/")):
            return _error(400, "path: must not lead upwards")
        if self._slots.locked() and self._waiting >= self.config.most_waiting:
            self.metrics.refused.inc()
            return _error(503, "gateway: too many requests wait; try again later", {"retry-after": "1"})
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        handed_on = False
        try:
            response, handed_on = await self._answered(request)
            return response
        finally:
            if not handed_on:
                self._slots.release()

    async def _answered(self, request: Request) -> tuple[Response, bool]:
        """The reply, and whether its slot is given back when its last byte is sent."""
        start, row = time.perf_counter(), Row(path=request.url.path)
        body = await self._read(request)
        if body is None:
            return _error(413, f"body: must be at most {self.config.most_bytes} bytes"), False
        found = Shortened(body, why="no messages")
        if request.method == "POST" and request.url.path in STYLES:
            found = await self._shortened(request, body, row)
        try:
            reply = await self._send(request, found.body)
            retrieved = 0
            if self._answers(found, reply):
                reply, retrieved = await self._retrieved(request, found, reply)
        except httpx.TimeoutException as error:
            return self._failed(row, start, 504, error), False
        except httpx.HTTPError as error:
            return self._failed(row, start, 502, error), False
        row.status, row.retrieved = reply.status_code, retrieved
        headers = _onward(reply.headers.multi_items()) + _said(row)
        out = StreamingResponse(self._body(reply, row, start), reply.status_code)
        out.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return out, True

    async def _read(self, request: Request) -> bytes | None:
        """The whole body; None where it is too large."""
        parts, size = [], 0
        async for chunk in request.stream():
            parts.append(chunk)
            size += len(chunk)
            if size > self.config.most_bytes:
                return None
        return b"".join(parts)

    async def _shortened(self, request: Request, body: bytes, row: Row) -> Shortened:
        """The request with shorter results; any fault of ours passes it on as it came, and counts."""
        start = time.perf_counter()
        try:
            use = self._use(request)
            row.use = " ".join(use)
            if not use:
                return self._noted(row, Shortened(body, why="turned off"), start)
            work = partial(
                shortened, request.url.path, body, use=use, tokenizer=self.config.tokenizer, floor=self.config.floor,
                keep=self.config.keep, originals=self.originals if self._offers(body) else None,
            )  # fmt: skip
            found = await asyncio.wait_for(run_in_threadpool(work), self.config.seconds)
        except ClientDisconnect:
            raise
        except Exception as error:
            # Fails open: whatever goes wrong here must never stop a request.
            self.metrics.faults.labels(type(error).__name__).inc()
            log.warning("passed on as it came: %s", type(error).__name__)
            found = Shortened(body, why=f"fault: {type(error).__name__}")
        return self._noted(row, found, start)

    def _noted(self, row: Row, found: Shortened, start: float) -> Shortened:
        row.why, row.seconds, row.results = found.why, time.perf_counter() - start, len(found.changes)
        for change in found.changes:
            row.tokens_in += change.tokens_in
            row.tokens_out += change.tokens_out
            row.shortened += not change.why
            if not change.why:
                before = row.kinds.setdefault(change.kind, [0, 0])
                row.kinds[change.kind] = [before[0] + change.tokens_in, before[1] + change.tokens_out]
        self.metrics.note(row)
        return found

    def _use(self, request: Request) -> tuple[str, ...]:
        """The methods of a request: the operator's, or one of those that a request may choose."""
        wanted = request.headers.get(f"{OURS}use")
        if wanted is None:
            return self.config.use
        if wanted == "off":
            return ()
        return (wanted,) if wanted in (*self.config.allowed, *self.config.use) else self.config.use

    def _offers(self, body: bytes) -> bool:
        """Whether a request gets the tool: where calls are answered here, streams do not, since they are not held."""
        return self.config.retrieve == "offer" or b'"stream"' not in body

    def _answers(self, found: Shortened, reply: httpx.Response) -> bool:
        kept = any(c.key for c in found.changes)
        plain = reply.headers.get("content-type", "").startswith("application/json")
        return self.config.retrieve == "answer" and kept and plain and reply.status_code == 200

    async def _retrieved(self, request: Request, found: Shortened, reply: httpx.Response) -> tuple[httpx.Response, int]:
        """The reply after the calls of our own tool were answered, and the tokens that this brought back."""
        assert self.originals is not None
        body, tokens = found.body, 0
        for _ in range(ROUNDS):
            data = await reply.aread()
            again = asked_again(request.url.path, body, data, self.originals, self.config.tokenizer)
            if again is None:
                break
            body, tokens = again.body, tokens + again.tokens
            await reply.aclose()
            reply = await self._send(request, body)
        return reply, tokens

    async def _send(self, request: Request, body: bytes) -> httpx.Response:
        assert self._client is not None
        headers = [
            (name, value)
            for name, value in _onward(request.headers.items())
            if name.lower() not in ("host", "content-length", "accept-encoding")
        ]
        # What is not packed can be read as it passes.
        headers.append(("accept-encoding", "identity"))
        url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        sent = self._client.build_request(request.method, url, headers=headers, content=body)
        return await self._client.send(sent, stream=True)

    async def _body(self, reply: httpx.Response, row: Row, start: float) -> AsyncIterator[bytes]:
        """The bytes of a reply as they come; its slot is given back at the end, however that comes."""
        watched = Watched()
        try:
            if reply.is_stream_consumed:
                watched.see(reply.content)
                yield reply.content
            else:
                async for chunk in reply.aiter_raw():
                    watched.see(chunk)
                    yield chunk
        finally:
            self._slots.release()
            await reply.aclose()
            for name, value in watched.usage().items():
                setattr(row, name, value)
            self._enter(row, start)

    def _failed(self, row: Row, start: float, status: int, error: Exception) -> Response:
        row.status, row.why = status, row.why or f"upstream: {type(error).__name__}"
        self._enter(row, start)
        return _error(status, f"upstream: {type(error).__name__}")

    def _enter(self, row: Row, start: float) -> None:
        row.total_seconds = time.perf_counter() - start
        self.metrics.replied(row)
        try:
            self.ledger.add(replace(row))
        except Exception as error:
            self.metrics.faults.labels("Ledger").inc()
            log.warning("the ledger could not be written: %s", type(error).__name__)


def _onward(headers: Any) -> list[tuple[str, str]]:
    """Headers that go on to the other side."""
    return [(n, v) for n, v in headers if n.lower() not in HOP_BY_HOP and not n.lower().startswith(OURS)]


def _said(row: Row) -> list[tuple[str, str]]:
    """What the headers of a reply say of the request."""
    said: dict[str, Any] = {
        "tokens-in": row.tokens_in, "tokens-out": row.tokens_out, "ms": f"{1000 * row.seconds:.1f}",
    }  # fmt: skip
    said |= {"use": row.use} if row.use else {}
    said |= {"passed": row.why.encode("ascii", "replace").decode().replace("\n", " ")} if row.why else {}
    return [(OURS + name, str(value)) for name, value in said.items()]


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "type": "tokenry_gateway"}}, status, headers)


def _refused() -> Response:
    return _error(401, f"key: must be one of the gateway's, in the header {OURS}key")
