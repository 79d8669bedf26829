"""The smallest proxy that passes streams on, of the same libraries: what a gateway costs that does nothing.

`python -m benchmarks.apps.bare_proxy PORT UPSTREAM` serves it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def app(upstream: str) -> Starlette:
    """Requests go on with their headers, and replies come back."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    client = httpx.AsyncClient(base_url=upstream, timeout=None, limits=limits)

    async def passed(request: Request) -> Response:
        headers = [(n, v) for n, v in request.headers.raw if n not in (b"host", b"content-length")]
        asked = client.build_request(request.method, request.url.path, headers=headers, content=await request.body())
        reply = await client.send(asked, stream=True)
        kind = reply.headers["content-type"]
        return StreamingResponse(reply.aiter_raw(), media_type=kind, background=BackgroundTask(reply.aclose))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(routes=[Route("/{path:path}", passed, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", access_log=False)
