"""The API of a model at hand: chat completions as OpenAI writes them, streamed token by token."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tokenry.apps.server.speaking import Said, Speaker, Stopped, sampling_of
from tokenry.core.errors import TokenryError

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
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    async def _models(self, _: Request) -> Response:
        one = {"id": self.speaker.language.name, "object": "model", "created": 0, "owned_by": "tokenry"}
        return JSONResponse({"object": "list", "data": [one]})

    async def _chat(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
                return _error(400, "body: must be an object with messages")
            sampling = sampling_of(body)
            if body.get("stream"):
                return StreamingResponse(self._stream(body, sampling), media_type="text/event-stream")
            async with self._slots:
                said = await run_in_threadpool(self.speaker.speak, body["messages"], sampling)
        except (ValueError, RecursionError, TokenryError) as error:
            return _error(400, str(error))
        message = {"role": "assistant", "content": said.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if said.finished else "length"}
        return JSONResponse(self._head("chat.completion") | {"choices": [choice], "usage": _usage(said)})

    async def _stream(self, body: dict[str, Any], sampling: Any) -> AsyncIterator[str]:
        """Events of an answer while it is written; when nobody listens any more, writing stops."""
        head = self._head("chat.completion.chunk")
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        loop, gone = asyncio.get_running_loop(), False

        def tell(piece: str) -> None:
            if gone:
                raise Stopped
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def event(delta: dict[str, Any], why: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": why}
            return f"data: {json.dumps(head | {'choices': [choice]} | more, ensure_ascii=False)}\n\n"

        async with self._slots:
            work = partial(self.speaker.speak, body["messages"], sampling, tell)
            task = asyncio.ensure_future(run_in_threadpool(work))
            task.add_done_callback(lambda _: pieces.put_nowait(_END))
            try:
                yield event({"role": "assistant", "content": ""})
                while (piece := await pieces.get()) is not _END:
                    yield event({"content": piece})
                said = task.result()
                yield event({}, "stop" if said.finished else "length", usage=_usage(said))
            except TokenryError as error:
                yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'invalid_request_error'}})}\n\n"
            finally:
                gone = True
            yield "data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()),
            "model": self.speaker.language.name,
        }  # fmt: skip


def _usage(said: Said) -> dict[str, Any]:
    return {
        "prompt_tokens": said.prompt, "completion_tokens": said.completion,
        "total_tokens": said.prompt + said.completion, "prompt_tokens_details": {"cached_tokens": said.cached},
    }  # fmt: skip


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)
