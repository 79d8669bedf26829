"""A model's API that tells each request what it was sent, slowly, and breaks in every way that it is asked to.

`python -m benchmarks.apps.fake_upstream PORT` serves it. Every event says who asked, what the body was and when it was
sent, so that whoever reads it knows whether it is theirs and how long it was under way.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time

EVENTS, PAUSE = 10, 0.1
"""Events of one answer, and seconds between two."""
BREAKS = ("429", "500", "reset", "cut", "slow", "malformed")
"""How an answer may be broken: refused, no reply at all, cut off in the middle, late, or no proper stream."""
MODEL = re.compile(rb'"model": ?"([a-z0-9]+)"')
KEY = re.compile(rb'\bid[ \\":]+([0-9a-f]{12})\b')
DONE = b"data: [DONE]\n\n"


async def serve(port: int) -> None:
    """Answer until the process ends."""
    server = await asyncio.start_server(_answer, "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            names = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
            body = await reader.readexactly(int(names.get(b"content-length", b"0")))
            ask, found = names.get(b"x-ask", b"").decode(), MODEL.search(body)
            model = found[1].decode() if found else ""
            if model in BREAKS:
                if not await _broken(model, writer):
                    return
            elif model == "retrieve" and b'"tool_call_id": "r"' not in body:
                await _stream(writer, [_chunk(ask, call=KEY.findall(body)[0].decode())], 0.0)
            else:
                told = hashlib.sha256(body).hexdigest()
                if model == "retrieve":
                    told = hashlib.sha256(json.loads(body)["messages"][-1]["content"].encode()).hexdigest()
                await _stream(writer, [f"{ask} {i} {told}" for i in range(EVENTS)], PAUSE)
            if names.get(b"connection") == b"close":
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _stream(writer: asyncio.StreamWriter, events: list[str | bytes], pause: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for i, event in enumerate(events):
        if i:
            await asyncio.sleep(pause)
        written = event if isinstance(event, bytes) else _chunk(f"{event} {time.monotonic_ns()}")
        writer.write(b"%x\r\n%s\r\n" % (len(written), written))
        await writer.drain()
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE))
    await writer.drain()


def _chunk(text: str, call: str = "") -> bytes:
    delta: dict[str, object] = {"content": text}
    if call:
        given = json.dumps({"id": call})
        delta = {"tool_calls": [{"index": 0, "id": "r", "function": {"name": "tokenry_retrieve", "arguments": given}}]}
    choice = {"index": 0, "delta": delta, "finish_reason": "tool_calls" if call else None}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


async def _broken(how: str, writer: asyncio.StreamWriter) -> bool:
    """Answer badly; whether the connection still stands."""
    if how in ("429", "500"):
        text = b'{"error": {"message": "%s"}}' % how.encode()
        head = b"HTTP/1.1 %s Broken\r\nretry-after: 7\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % (how.encode(), len(text)) + text)
    elif how == "slow":
        await asyncio.sleep(0.5)
        await _stream(writer, [b"data: {}\n\n"], 0.0)
    elif how == "malformed":
        await _stream(writer, [b"data: {\n\n", b"\xff\x00\xfe", b"event\n\n\n\ndata: ]"], 0.01)
    else:
        if how == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"9\r\ndata: a\n\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.transport.abort()
        return False
    await writer.drain()
    return True


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
