"""One request on its way through a gateway: read, shortened, sent on, and its reply as it comes."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Send

from tokenry.apps.server import answering, upstream
from tokenry.apps.server.bodies import STYLES, Shortened, followed, shortened
from tokenry.apps.server.ledger import Row
from tokenry.apps.server.replies import Watched
from tokenry.core.errors import InvalidValue
from tokenry.pipeline.messages.compressing import BROUGHT

if TYPE_CHECKING:
    from tokenry.apps.server.gateway import Gateway


class Passage:
    """One request; it holds a slot of the gateway while it runs.

    Args:
        gateway: whose settings hold.
        send: to the client.
    """

    def __init__(self, gateway: Gateway, request: Request, send: Send) -> None:
        self.gateway, self.config, self.request = gateway, gateway.config, request
        self.row, self.start = Row(path=request.url.path), time.perf_counter()
        self._send, self._began, self._ended = send, False, False
        self.watched = Watched()

    async def go(self) -> None:
        """Pass the request on and its reply back; where the client leaves, nothing goes on."""
        try:
            body = await self._read()
        except TimeoutError:
            await self._tell(error(408, "body: must come without long pauses"))
            return
        except ClientDisconnect:
            return
        if body is None:
            await self._tell(error(413, f"body: must be at most {self.config.most_bytes} bytes"))
            return
        async with asyncio.TaskGroup() as group:
            way = group.create_task(self._passed(body))
            gone = group.create_task(self._left(way))
            way.add_done_callback(lambda _: gone.cancel())

    async def _left(self, way: asyncio.Task[None]) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        # After its last byte every client is told to have left.
        self.row.why = self.row.why if self._ended else "client: left"
        way.cancel()

    async def _read(self) -> bytes | None:
        """The whole body; None where it is too large."""
        if int(self.request.headers.get("content-length") or 0) > self.config.most_bytes:
            return None
        parts, size = list[bytes](), 0
        chunks = self.request.stream()
        while True:
            async with asyncio.timeout(self.config.client_seconds):
                chunk = await anext(chunks, None)
            if chunk is None:
                return b"".join(parts)
            parts.append(chunk)
            size += len(chunk)
            if size > self.config.most_bytes:
                return None

    async def _passed(self, body: bytes) -> None:
        found = Shortened(body, why="no messages")
        try:
            if self.request.method == "POST" and self.row.path in STYLES:
                found = await self._shortened(body)
            else:
                self._noted(found, time.perf_counter())
            await self._replied(found)
        except (httpx.TimeoutException, httpx.HTTPError, httpx.InvalidURL) as fault:
            self.row.why = f"upstream: {type(fault).__name__}"
            if not self._began:
                # Where a reply began, its connection is cut, as the upstream's was.
                late = isinstance(fault, httpx.TimeoutException)
                self.row.status = 400 if isinstance(fault, httpx.InvalidURL) else 504 if late else 502
                await self._tell(error(self.row.status, f"upstream: {type(fault).__name__}"))
        except TimeoutError:
            self.row.why = "client: took nothing"
        finally:
            for name, value in self.watched.usage().items():
                setattr(self.row, name, value)
            self.row.total_seconds = time.perf_counter() - self.start
            self.gateway.enter(self.row, body, found.body)

    async def _shortened(self, body: bytes) -> Shortened:
        """The request with shorter results; any fault of ours passes it on as it came, and counts."""
        start, config = time.perf_counter(), self.config
        body = self._followed(body)
        use = config.chosen(self.request.headers.get("x-tokenry-use"))
        self.row.use = " ".join(use)
        if not use:
            return self._noted(Shortened(body, why="turned off"), start)
        work = partial(
            shortened, self.row.path, body, use=use, tokenizer=config.tokenizer, floor=config.floor,
            keep=config.keep, older_every=config.older_every, older_use=config.older_use,
            originals=self.gateway.originals,
        )  # fmt: skip
        try:
            async with asyncio.timeout(config.seconds):
                found = await self.worked(work)
        except Exception as fault:
            # Fails open: whatever goes wrong here must never stop a request.
            self.gateway.failed(fault)
            found = Shortened(body, why=f"fault: {type(fault).__name__}")
        return self._noted(found, start)

    def _followed(self, body: bytes) -> bytes:
        """The request, going on from the last reply where it goes on from one of several."""
        last = self.gateway.last_replies
        try:
            return followed(body, last) if last and self.row.path == "/v1/responses" else body
        except (ValueError, KeyError, TypeError, RecursionError, InvalidValue):
            return body

    def _noted(self, found: Shortened, start: float) -> Shortened:
        row = self.row
        row.why, row.seconds, row.results = found.why, time.perf_counter() - start, len(found.changes)
        for change in found.changes:
            row.tokens_in += change.tokens_in
            row.tokens_out += change.tokens_out
            row.shortened += not change.why
            row.retrieved += change.tokens_in if change.why == BROUGHT else 0
            if not change.why:
                before = row.kinds.setdefault(change.kind, [0, 0])
                row.kinds[change.kind] = [before[0] + change.tokens_in, before[1] + change.tokens_out]
        self.gateway.metrics.note(row)
        return found

    async def worked(self, work: Any) -> Any:
        """What takes a processor, beside the loop that serves all."""
        return await asyncio.get_running_loop().run_in_executor(self.gateway.workers, work)

    async def _replied(self, found: Shortened) -> None:
        reply = await self.ask(found.body)
        try:
            self.row.status = reply.status_code
            kind = "" if "content-encoding" in reply.headers else reply.headers.get("content-type", "")
            answers = self.config.retrieve == "answer" and any(change.key for change in found.changes)
            if reply.status_code == 200 and answers and kind.startswith("text/event-stream"):
                await answering.joined(self, found.body, reply)
            elif reply.status_code == 200 and self.row.shortened and kind.startswith("application/json"):
                await answering.whole(self, found.body, reply, answers=answers)
            else:
                await self.begin(reply)
                async for chunk in reply.aiter_raw():
                    self.watched.see(chunk)
                    await self.say(chunk)
                await self.say(b"", more=False)
        finally:
            await reply.aclose()

    async def ask(self, body: bytes) -> httpx.Response:
        client = self.gateway.client
        assert client is not None
        return await client.send(upstream.asked(client, self.request.scope, body), stream=True)

    def account(self) -> dict[str, Any]:
        """What was done to the request."""
        row = self.row
        found: dict[str, Any] = {
            "tokens_in": row.tokens_in, "tokens_out": row.tokens_out, "ms": round(1000 * row.seconds, 1),
        }  # fmt: skip
        found |= {"use": row.use} if row.use else {}
        return found | ({"retrieved": row.retrieved} if row.retrieved else {})

    async def begin(self, reply: httpx.Response, size: int | None = None) -> None:
        """Status and headers of a reply, with ours.

        Args:
            size: of the body, where it is another one now.
        """
        headers = upstream.onward(reply.headers.raw)
        if size is not None:
            headers = [h for h in headers if h[0] != b"content-length"] + [(b"content-length", b"%d" % size)]
        account = self.account() | ({"passed": self.row.why} if self.row.why else {})
        for name, value in account.items():
            text = str(value).encode("ascii", "replace").translate(None, bytes(range(32)))
            headers.append((upstream.OURS + name.replace("_", "-").encode(), text))
        self._began = True
        await self._out({"type": "http.response.start", "status": reply.status_code, "headers": headers})

    async def say(self, chunk: bytes, *, more: bool = True) -> None:
        self._ended = not more
        if chunk or not more:
            await self._out({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _out(self, message: Any) -> None:
        async with asyncio.timeout(self.config.client_seconds):
            await self._send(message)

    async def _tell(self, response: Response) -> None:
        self._ended = True
        await response(self.request.scope, self.request.receive, self._send)


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A reply of the gateway's own."""
    return JSONResponse({"error": {"message": message, "type": "tokenry_gateway"}}, status, headers)
