"""Clients that know what they should hear, and the processes that they talk to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.apps.fake_upstream import EVENTS
from benchmarks.record import ROOT
from tokenry.apps.server.bodies import shortened
from tokenry.pipeline.messages.originals import Originals

PATH = "/v1/chat/completions"
TOKENIZER, FLOOR, USE = "o200k_base", 500, ("lexical_relevance:budget=0.25,units=auto",)
ROWS = 120
"""Of the JSON that a tool gives: about 20 KB."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and what every event of its answer must say.

    Args:
        kind: `plain` holds no result of a tool, `results` one that is shortened, `retrieve` one that is asked back.
    """

    kind: str
    body: bytes
    told: str


@dataclass(slots=True)
class Heard:
    """What clients heard.

    Args:
        first: seconds until the first event, by kind of request.
        under_way: seconds from the upstream to the client, of every event.
        wrong: answers that were not the right ones, what was heard of them.
        cut: clients whose server went away in the middle.
    """

    first: dict[str, list[float]] = field(default_factory=dict)
    under_way: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cut: int = 0

    def add(self, other: Heard) -> None:
        """What was heard in another round."""
        for kind, times in other.first.items():
            self.first.setdefault(kind, []).extend(times)
        self.under_way += other.under_way
        self.wrong += other.wrong
        self.cut += other.cut

    @property
    def answers(self) -> int:
        return sum(map(len, self.first.values()))


def asks(client: int, *, passed: bool, originals: Originals | None = None) -> dict[str, Ask]:
    """The requests of one client by kind; no two clients have the same.

    Args:
        passed: they reach the upstream as they are, since nothing shortens them.
        originals: where originals are kept, so that the marks are those of the gateway.
    """
    random = Random(client)
    names = [f"n{random.getrandbits(40):x}" for _ in range(ROWS)]
    rows = json.dumps([{"name": name, "size": random.randrange(10**6), "note": "as planned " * 8} for name in names])
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    talk = [{"role": "user", "content": f"where is {names[client % ROWS]}?"}]
    results = [
        *talk,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": rows},
    ]
    bodies = {
        kind: json.dumps({"model": kind, "stream": True, "messages": said}).encode()
        for kind, said in {"plain": talk, "results": results, "retrieve": results}.items()
    }
    if not passed:
        options = {"use": USE, "tokenizer": TOKENIZER, "floor": FLOOR, "keep": ()}
        sent = shortened(PATH, bodies["results"], originals=originals, **options).body
    told = {kind: _hash(body) for kind, body in bodies.items()}
    if not passed:
        told |= {"results": _hash(sent), "retrieve": _hash(rows.encode())}
    return {kind: Ask(kind, bodies[kind], told[kind]) for kind in bodies}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def talk(port: int, every: Sequence[dict[str, Ask]], kinds: Sequence[str], seconds: float) -> Heard:
    """All clients at once, for a time; each asks its kinds in turn, until the server is gone."""
    heard, until = Heard(), time.monotonic() + seconds
    clients = (_client(port, i, own, kinds, until, heard) for i, own in enumerate(every))
    for ended in await asyncio.gather(*clients, return_exceptions=True):
        if isinstance(ended, asyncio.IncompleteReadError | ConnectionError):
            heard.cut += 1
        elif ended is not None:
            raise ended
    return heard


async def _client(
    port: int, number: int, own: dict[str, Ask], kinds: Sequence[str], until: float, heard: Heard
) -> None:
    await asyncio.sleep(Random(number).random())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    turn = number
    while time.monotonic() < until:
        ask, key = own[kinds[turn % len(kinds)]], f"{number}-{turn}"
        turn += 1
        start = time.monotonic()
        writer.write(request(ask.body, key))
        events, times = [], []
        async for event in chunks(reader):
            events.append(event)
            times.append(time.monotonic())
        said = b"".join(events).decode(errors="replace").split("\n\n")
        words = [_content(event) for event in said[:-2]]
        if [w[:3] for w in words] != [[key, str(i), ask.told] for i in range(EVENTS)] or said[-2:] != [
            "data: [DONE]",
            "",
        ]:
            heard.wrong.append(f"{ask.kind} {key}: {said!r:.2000}")
            continue
        heard.first.setdefault(ask.kind, []).append(times[0] - start)
        if len(times) > EVENTS:
            heard.under_way += [at - int(w[3]) / 1e9 for at, w in zip(times, words, strict=False)]
    writer.close()


def _content(event: str) -> list[str]:
    with suppress(ValueError, KeyError, IndexError, TypeError, AttributeError):
        return str(json.loads(event.removeprefix("data: "))["choices"][0]["delta"]["content"]).split(" ")
    return []


def request(body: bytes, key: str = "") -> bytes:
    """A request as bytes."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-ask: {key}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


async def chunks(reader: asyncio.StreamReader):
    """The parts of a chunked reply as they come."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        yield head
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


async def heard_of(port: int, how: str) -> tuple[bytes, bytes, bool]:
    """Status line, bytes and whether a reply ended as it should, of a request for one that is broken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": how, "stream": True, "messages": []}).encode()
    writer.write(request(body).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
    reply = b""
    with suppress(ConnectionError):
        while part := await reader.read(1 << 16):
            reply += part
    writer.close()
    head, _, rest = reply.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return head[9:12], rest, bool(reply)
    data, ended = b"", rest.endswith(b"0\r\n\r\n")
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        data, rest = data + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return head[9:12], data, ended


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server as a process of its own: a module with the port in place of `PORT`; the process, and the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *(str(port) if a == "PORT" else str(a) for a in arguments)]
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while child.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield child, port
    finally:
        child.kill()
        child.wait()


upstream = partial(process, "benchmarks.apps.fake_upstream", "PORT")


def bare(to: int):
    """The bare proxy in front of a port."""
    return process("benchmarks.apps.bare_proxy", "PORT", f"http://127.0.0.1:{to}")


def gateway(to: int, folder: Path):
    """The gateway in front of a port; its files stand in a folder."""
    settings = folder / "gateway.toml"
    settings.write_text(
        f'upstream = "http://127.0.0.1:{to}"\nuse = ["{USE[0]}"]\ntokenizer = "{TOKENIZER}"\nfloor = {FLOOR}\n'
        f'retrieve = "answer"\nledger = "{folder}/ledger.sqlite"\noriginals = "{folder}/originals.sqlite"\n',
        encoding="utf-8",
    )
    return process("tokenry", "serve", "--config", settings, "--port", "PORT")
