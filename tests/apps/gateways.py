"""A gateway in front of an upstream that keeps what it was sent, each on a free port of this machine."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager, nullcontext

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.compress.test_shorten import TEXTS
from tests.pipeline.test_messages import call, result
from tokenry.apps.cli.serve import PARSER
from tokenry.apps.server.config import Config
from tokenry.apps.server.gateway import Gateway

STREAM = [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b": ping\n\n", b"data: [DONE]\n\n"]
LONG = TEXTS["json"]
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}


class Upstream:
    """A model's API that keeps what it was sent."""

    def __init__(self):
        self.seen: list[tuple[str, bytes, dict]] = []
        self.replies: list[Response] = []
        self.goes_on = threading.Event()
        """Streams are sent on after their first part."""
        self.goes_on.set()
        self.left = threading.Event()
        """Somebody who was read a stream went away."""

    async def answer(self, request):
        self.seen.append((request.scope["raw_path"].decode(), await request.body(), dict(request.headers)))
        if self.replies:
            return self.replies.pop(0)
        if b'"stream":true' in self.seen[-1][1].replace(b" ", b""):
            return StreamingResponse(self._stream(), media_type="text/event-stream")
        usage = {"prompt_tokens": 11, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 7}}
        return JSONResponse({"choices": [{"message": {"content": "ok"}}], "usage": usage}, headers={"x-own": "1"})

    async def _stream(self):
        try:
            yield STREAM[0]
            while not self.goes_on.is_set():
                await asyncio.sleep(0.01)
            for part in STREAM[1:]:
                yield part
        except asyncio.CancelledError:
            self.left.set()
            raise

    def app(self):
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])


@contextmanager
def serving(app):
    """An application on a free port of this machine."""
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=PARSER, log_level="error", date_header=False, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{free.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def gateway_to(app, folder, address=None, **settings):
    """A gateway with some settings in front of an application, or of an address; its client, and itself."""
    with nullcontext(address) if address else serving(app) as address:
        config = Config(
            upstream=address, **{"tokenizer": "sample-unigram", "floor": 50, **settings},
            ledger=str(folder / "l.sqlite"), originals=str(folder / "o.sqlite"),
        )  # fmt: skip
        gateway = Gateway(config)
        with serving(gateway.app()) as own, httpx.Client(base_url=own, timeout=None) as client:
            yield client, gateway


def talk(style="chat", **more):
    """A request with one long result."""
    field = "input" if style == "responses" else "messages"
    said = [{"role": "user", "content": "the one called n17"}, call(style, "c", "q", {}), result(style, "c", LONG)]
    return {"model": "m", field: said, "n": 1, "big": 123456789012345678901234567890, **more}


def entered(gateway, n=1):
    """The summary of a gateway's ledger, as soon as it has so many requests."""
    while (found := gateway.ledger.summary())["requests"] < n:
        time.sleep(0.01)
    return found


def sse(*events):
    """Events as a stream sends them: objects with names, without, and plain lines."""
    out = b""
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        out += (f"event: {name}\n" if name else "").encode()
        out += b"data: " + (data.encode() if isinstance(data, str) else json.dumps(data).encode()) + b"\n\n"
    return out
