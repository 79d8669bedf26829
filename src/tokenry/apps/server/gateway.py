"""A gateway in front of any model: results of tools become shorter on the way, and everything else passes as it is."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tokenry.apps.server import upstream
from tokenry.apps.server.bodies import shortened
from tokenry.apps.server.config import Config
from tokenry.apps.server.ledger import Ledger, Row
from tokenry.apps.server.metrics import Metrics
from tokenry.apps.server.page import page
from tokenry.apps.server.passing import Passage, error
from tokenry.pipeline.messages.originals import Originals

log = logging.getLogger("tokenry.serve")

FIRST = (
    rb"""{"messages": [{"role": "user", "content": "b"}, {"role": "tool", "content": "[{\"a\": 1}, {\"b\": 2}]"}]}"""
)
"""A request with a result, which is shortened before others come."""


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
        self.client: httpx.AsyncClient | None = None
        # No more at a time than there are processors: each would only make all others later.
        self.workers = ThreadPoolExecutor(os.cpu_count() or 1, "tokenry-shorten")
        self._writer = ThreadPoolExecutor(1, "tokenry-ledger")
        self.last_replies: OrderedDict[str, str] = OrderedDict()
        """Ids of responses that clients were told, and of the last reply that each of them was made of."""
        self._transport = transport
        self._slots = asyncio.Semaphore(config.most_at_once)
        self._waiting = 0

    def app(self) -> Starlette:
        """The application, for uvicorn."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/savings.json", self._savings),
                Route("/healthz", lambda _: PlainTextResponse("ok\n")),
                Route("/readyz", self._ready),
                Route("/metrics", lambda _: Response(self.metrics.text(), media_type="text/plain; version=0.0.4")),
                Route("/v1/{path:path}", _Door(self)),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(self.workers, self._warm)
        async with upstream.client(self.config, self._transport) as self.client:
            yield
        self.client = None
        self.workers.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown()

    def _warm(self) -> None:
        """Load what the first request would wait for, and all others with it."""
        try:
            shortened(
                "/v1/chat/completions", FIRST, use=self.config.use, tokenizer=self.config.tokenizer, floor=0, keep=(),
                originals=None,
            )  # fmt: skip
        except Exception as fault:
            self.failed(fault)

    async def _page(self, request: Request) -> Response:
        return self._refusal(request) or HTMLResponse(page())

    async def _savings(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        summary, latest = await run_in_threadpool(lambda: (self.ledger.summary(), self.ledger.latest()))
        return JSONResponse({"summary": summary, "latest": latest})

    async def _ready(self, _: Request) -> Response:
        return PlainTextResponse("ready\n" if self.client else "starting\n", 200 if self.client else 503)

    def _refusal(self, request: Request) -> Response | None:
        """What a request gets that may not be asked; None for others."""
        given = request.headers.get("x-tokenry-key", "").encode()
        if not self.config.is_called(request.headers.get("host", "")):
            return error(421, "host: must be a name of the gateway; see its setting hosts")
        if self.config.keys and not any(hmac.compare_digest(given, key.encode()) for key in self.config.keys):
            return error(401, "key: must be one of the gateway's, in the header x-tokenry-key")
        if upstream.leads_astray(request.scope["path"]):
            return error(400, "path: must not lead upwards, nor over the end of its line")
        return None

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: a slot, its way, and the slot is free again, however that ends."""
        request = Request(scope, receive)
        refusal = self._refusal(request)
        if refusal is None and self._slots.locked() and self._waiting >= self.config.most_waiting:
            self.metrics.refused.inc()
            refusal = error(503, "gateway: too many requests wait; try again later", {"retry-after": "1"})
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            await Passage(self, request, send).go()
        finally:
            self._slots.release()

    def enter(self, row: Row, came: bytes, went: bytes) -> None:
        """Note a request that ended, beside the loop that serves all."""
        self.metrics.replied(row)
        texts = (came, went) if self.config.record_text else (None, None)
        self._writer.submit(self._entered, replace(row), *texts)

    def failed(self, fault: Exception) -> None:
        """Count a fault of ours; what it was about passes as it came."""
        self.metrics.faults.labels(type(fault).__name__).inc()
        log.warning("passed on as it came: %s", type(fault).__name__)

    def _entered(self, row: Row, came: bytes | None, went: bytes | None) -> None:
        try:
            self.ledger.add(row, came, went)
        except Exception as fault:
            self.metrics.faults.labels("Ledger").inc()
            log.warning("the ledger could not be written: %s", type(fault).__name__)


class _Door:
    """Requests as they are: Starlette takes objects for applications, and functions for what makes a reply."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gateway.pass_on(scope, receive, send)
