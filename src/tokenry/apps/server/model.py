"""The API of a model at hand, as OpenAI and Anthropic have it, streamed token by token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tokenry.apps.server.speaking import Said, Speaker, Stopped, sampling_of
from tokenry.apps.server.streams.events import written
from tokenry.apps.server.styles import STYLES, Anthropic, Style
from tokenry.core.errors import TokenryError
from tokenry.models.generate.answer import Sampling

_END = object()


class ModelApi:
    """Requests to one model.

    Args:
        speaker: the model.
        most_at_once: answers that are written at a time; others wait.
        most_bytes: of one request.
    """

    def __init__(self, speaker: Speaker, *, most_at_once: int = 4, most_bytes: int = 32 << 20) -> None:
        self.speaker, self._most_bytes = speaker, most_bytes
        self._slots = asyncio.Semaphore(most_at_once)

    def app(self) -> Starlette:
        """The application, for uvicorn."""
        return Starlette(
            routes=[
                Route("/healthz", lambda _: PlainTextResponse("ok\n")),
                Route("/readyz", lambda _: PlainTextResponse("ready\n")),
                Route("/v1/models", self._models),
                Route("/v1/messages/count_tokens", self._count, methods=["POST"]),
                *(Route(path, self._answer, methods=["POST"]) for path in STYLES),
            ],
            exception_handlers={ClientDisconnect: lambda *_: Response()},
        )

    async def _models(self, _: Request) -> Response:
        one = {"id": self.speaker.language.name, "object": "model", "created": 0, "owned_by": "tokenry"}
        return JSONResponse({"object": "list", "data": [one]})

    async def _count(self, request: Request) -> Response:
        try:
            messages = Anthropic.messages(_object(await self._read(request)))
            return JSONResponse({"input_tokens": len(self.speaker.ids(messages))})
        except (ValueError, RecursionError, TokenryError) as error:
            return _error(400, str(error))

    async def _answer(self, request: Request) -> Response:
        style = STYLES[request.url.path](self.speaker.language.name)
        try:
            body = _object(await self._read(request))
            messages, sampling = style.messages(body), sampling_of(body)
            if body.get("stream"):
                return StreamingResponse(self._stream(style, messages, sampling), media_type="text/event-stream")
            said = await self._whole(request, messages, sampling)
        except (ValueError, RecursionError, TokenryError) as error:
            return _error(400, str(error))
        return JSONResponse(style.whole(said))

    async def _read(self, request: Request) -> bytes:
        parts, size = list[bytes](), 0
        async for chunk in request.stream():
            parts.append(chunk)
            size += len(chunk)
            if size > self._most_bytes:
                raise ValueError(f"body: must be at most {self._most_bytes} bytes.")
        return b"".join(parts)

    async def _spoken(
        self, messages: Sequence[Any], sampling: Sampling, tell: Callable[[str], None]
    ) -> asyncio.Future[Said]:
        """An answer that is being written; it holds its slot until it is not any more."""
        await self._slots.acquire()
        task = asyncio.ensure_future(run_in_threadpool(partial(self.speaker.speak, messages, sampling, tell)))

        def done(task: asyncio.Future[Said]) -> None:
            self._slots.release()
            # What nobody waits for any more went wrong for nobody.
            if not task.cancelled():
                task.exception()

        task.add_done_callback(done)
        return task

    async def _whole(self, request: Request, messages: Sequence[Any], sampling: Sampling) -> Said:
        """An answer at once; when nobody waits any more, writing stops."""
        gone = False

        def tell(_: str) -> None:
            if gone:
                raise Stopped

        async def left() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        async def finished() -> Said:
            return await asyncio.shield(await self._spoken(messages, sampling, tell))

        work, watch = asyncio.ensure_future(finished()), asyncio.ensure_future(left())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        finally:
            gone = True
            work.cancel()
            watch.cancel()

    async def _stream(self, style: Style, messages: Sequence[Any], sampling: Sampling) -> AsyncIterator[bytes]:
        """Events of an answer while it is written; when nobody listens any more, writing stops."""
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        loop, gone = asyncio.get_running_loop(), False

        def tell(piece: str) -> None:
            if gone:
                raise Stopped
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        task = await self._spoken(messages, sampling, tell)
        task.add_done_callback(lambda _: pieces.put_nowait(_END))
        try:
            for name, data in style.begins():
                yield written(data, name)
            while (piece := await pieces.get()) is not _END:
                name, data = style.piece(piece)
                yield written(data, name)
            for name, data in style.ends(task.result()):
                yield written(data, name)
        except TokenryError as error:
            yield written({"type": "error", "error": _fault(str(error))}, "error")
        finally:
            gone = True
        if style.done is not None:
            yield f"data: {style.done}\n\n".encode()


def _object(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"body: must be an object; got {type(found).__name__}.")
    return found


def _fault(message: str) -> dict[str, str]:
    return {"message": message, "type": "invalid_request_error"}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"type": "error", "error": _fault(message)}, status)
