"""The API of a model at hand, as OpenAI and Anthropic have it, streamed token by token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tokenry.apps.server.speaking import Speaker, Stopped, sampling_of
from tokenry.apps.server.styles import STYLES, Anthropic, Event, Style
from tokenry.core.errors import TokenryError
from tokenry.models.generate.answer import Sampling

_END = object()


class ModelApi:
    """Requests to one model.

    Args:
        speaker: the model.
        most_at_once: answers that are written at a time; others wait.
    """

    def __init__(self, speaker: Speaker, *, most_at_once: int = 4) -> None:
        self.speaker = speaker
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
            ]
        )

    async def _models(self, _: Request) -> Response:
        one = {"id": self.speaker.language.name, "object": "model", "created": 0, "owned_by": "tokenry"}
        return JSONResponse({"object": "list", "data": [one]})

    async def _count(self, request: Request) -> Response:
        try:
            messages = Anthropic.messages(_object(await request.body()))
            return JSONResponse({"input_tokens": len(self.speaker.ids(messages))})
        except (ValueError, RecursionError, TokenryError) as error:
            return _error(400, str(error))

    async def _answer(self, request: Request) -> Response:
        style = STYLES[request.url.path](self.speaker.language.name)
        try:
            body = _object(await request.body())
            messages, sampling = style.messages(body), sampling_of(body)
            if body.get("stream"):
                return StreamingResponse(self._stream(style, messages, sampling), media_type="text/event-stream")
            async with self._slots:
                said = await run_in_threadpool(self.speaker.speak, messages, sampling)
        except (ValueError, RecursionError, TokenryError) as error:
            return _error(400, str(error))
        return JSONResponse(style.whole(said))

    async def _stream(self, style: Style, messages: Sequence[Any], sampling: Sampling) -> AsyncIterator[str]:
        """Events of an answer while it is written; when nobody listens any more, writing stops."""
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        loop, gone = asyncio.get_running_loop(), False

        def tell(piece: str) -> None:
            if gone:
                raise Stopped
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        async with self._slots:
            task = asyncio.ensure_future(run_in_threadpool(partial(self.speaker.speak, messages, sampling, tell)))
            task.add_done_callback(lambda _: pieces.put_nowait(_END))
            try:
                for event in style.begins():
                    yield _written(event)
                while (piece := await pieces.get()) is not _END:
                    yield _written(style.piece(piece))
                for event in style.ends(task.result()):
                    yield _written(event)
            except TokenryError as error:
                yield _written(("error", {"type": "error", "error": _fault(str(error))}))
            finally:
                gone = True
            if style.done is not None:
                yield f"data: {style.done}\n\n"


def _object(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"body: must be an object; got {type(found).__name__}.")
    return found


def _written(event: Event) -> str:
    name, data = event
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _fault(message: str) -> dict[str, str]:
    return {"message": message, "type": "invalid_request_error"}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"type": "error", "error": _fault(message)}, status)
