"""The studio: a page on which one sees what happens to tokens, and what it asks the server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tokenry.apps.server.config import LOOPBACK
from tokenry.apps.studio.cards import cards, in_full
from tokenry.apps.studio.guard import Guard, refused
from tokenry.apps.studio.shelf import Shelf
from tokenry.apps.studio.task import Task
from tokenry.apps.studio.work import Works, refused_work
from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.report import template

PAGE = Path(__file__).parent / "page"
HOMES = {"studio": PAGE, "drawing": template.HERE / "drawing", "trace": template.HERE / "trace"}
"""Folders whose scripts and styles the page loads."""
KINDS = {".js": "text/javascript", ".css": "text/css"}
MOST_BYTES = 64 << 20
"""Of one request."""


class Studio:
    """A studio.

    Args:
        readers: names of tokenizers and models beside those that are ready.
        methods: in their one-line form, those of the way that a page begins with.
        hosts: names that it may be called by, and `key`: see `Guard`.
    """

    def __init__(
        self, readers: Sequence[str] = (), methods: Sequence[str] = (), *, hosts: tuple[str, ...] = LOOPBACK,
        key: str = "",
    ) -> None:  # fmt: skip
        self.shelf = Shelf(readers)
        self._first = [in_full(spec) for spec in methods]
        self._is_warm = False
        self._guard: dict[str, Any] = {"hosts": hosts, "key": key}

    def app(self) -> Starlette:
        """The application, for uvicorn, or to be mounted in another one."""
        return Starlette(
            routes=[
                Route("/", lambda _: FileResponse(PAGE / "index.html", media_type="text/html")),
                Route("/assets/{home}/{name}", self._asset),
                Route("/api/cards", self._cards),
                Route("/api/run", self._run, methods=["POST"]),
                Route("/api/page", self._page, methods=["POST"]),
                Route("/api/neighbours", self._neighbours, methods=["POST"]),
            ],
            middleware=[Middleware(Guard, **self._guard)],
            exception_handlers={ClientDisconnect: lambda *_: Response(), TokenryError: _sentence},
        )

    @cached_property
    def _works(self) -> Works:
        # Made by the first task, since its semaphores belong to the loop that serves.
        return Works(self.shelf)

    async def _asset(self, request: Request) -> Response:
        home, name = HOMES.get(request.path_params["home"]), request.path_params["name"]
        file = None if home is None else next((f for f in home.iterdir() if f.name == name), None)
        if file is None or file.suffix not in KINDS:
            return refused(404, f"asset: must be one of the page's; got {name!r}.")
        return FileResponse(file, media_type=KINDS[file.suffix])

    async def _cards(self, _: Request) -> Response:
        found, readers = await run_in_threadpool(cards), await run_in_threadpool(self.shelf.offered)
        offer = {"methods": found, "readers": readers, "first": self._first}
        # Libraries are loaded while people still look for what to paste, and not before there is a page.
        return JSONResponse(offer, background=BackgroundTask(self._warm))

    def _warm(self) -> None:
        if not self._is_warm:
            self._is_warm = True
            # In a thread that nobody waits for, so that the studio can be stopped meanwhile.
            threading.Thread(target=self.shelf.warm, daemon=True).start()

    async def _run(self, request: Request) -> Response:
        try:
            lines = self._works.events(Task.read(await _object(request)))
        except TokenryError as error:
            # Told like what goes wrong later: a browser takes a status of its own for a fault of the page.
            lines = refused_work(error)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def _page(self, request: Request) -> Response:
        from tokenry.report.page import render

        trace = await _object(request)
        page = await run_in_threadpool(render, trace)
        return Response(page.encode(errors="replace"), media_type="application/octet-stream")

    async def _neighbours(self, request: Request) -> Response:
        body = await _object(request)
        language = self.shelf.loaded(str(body.get("reader")))
        if language is None:
            return JSONResponse({"neighbours": None})
        from tokenry.apps.studio.neighbours import neighbours

        return JSONResponse({"neighbours": await run_in_threadpool(neighbours, language, body.get("id"))})


def mount(app: Starlette, host: str, readers: Sequence[str] = ()) -> None:
    """Put the studio below `/studio/` of a server that other programs of this machine ask as well.

    Raises:
        InvalidValue: a server that others than this machine reach; the studio alone asks for a key there.
    """
    if host not in LOOPBACK:
        raise InvalidValue(
            f"studio: must be on this machine alone beside a server; got host {host!r}; leave --host out, or start "
            "`tokenry studio --host` by itself."
        )
    app.mount("/studio", Studio(readers).app())


async def _object(request: Request) -> Mapping[str, Any]:
    """The body as JSON.

    Raises:
        InvalidValue: too much, or no object.
    """
    parts, size = list[bytes](), 0
    async for chunk in request.stream():
        parts.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES:
            raise InvalidValue(f"body: must be at most {MOST_BYTES >> 20} MB; take a smaller input.")
    try:
        found = await asyncio.to_thread(json.loads, b"".join(parts))
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"body: must be JSON; {error}.") from error
    if not isinstance(found, dict):
        raise InvalidValue(f"body: must be an object; got {type(found).__name__}.")
    return found


def _sentence(_: Request, error: Exception) -> Response:
    return refused(400, str(error))
