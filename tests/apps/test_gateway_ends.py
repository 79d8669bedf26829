"""How requests and gateways end: clients that leave, stall or are too many, SIGTERM, and SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmarks.apps import gateway_load, load
from benchmarks.apps.fake_upstream import BREAKS
from tests.apps.gateways import PATHS, STREAM, entered, gateway_to, talk
from tokenry.pipeline.messages.originals import Originals


def opened(client, body=b"", **headers):
    """A connection on which a request was sent, all of it or its beginning."""
    line = socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)
    headers = {"host": "localhost", "content-length": str(len(body)), **headers}
    head = "\r\n".join((f"POST {PATHS['chat']} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "", ""))
    line.sendall(head.encode() + body)
    return line


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_leaves_in_the_middle_of_a_stream_frees_the_slot(gateway, upstream):
    upstream.goes_on.clear()
    with gateway(most_at_once=1) as client:
        with opened(client, json.dumps(talk(stream=True)).encode()) as line:
            reply = b""
            while STREAM[0] not in reply:
                reply += line.recv(1 << 16)
            assert not upstream.left.is_set()
        assert upstream.left.wait(10)
        assert client.get("/v1/models", timeout=10).status_code == 200
        assert entered(gateway.gateway, 2)["passed_on"] == {"client: left": 1, "no messages": 1}


def test_who_leaves_before_the_first_byte_frees_the_slot(tmp_path):
    came, left = threading.Event(), threading.Event()

    async def silent(request):
        if request.method == "GET":
            return Response()
        came.set()
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        left.set()
        return Response()

    app = Starlette(routes=[Route("/{path:path}", silent, methods=["GET", "POST"])])
    with gateway_to(app, tmp_path, most_at_once=1) as (client, _):
        with opened(client, json.dumps(talk()).encode()):
            assert came.wait(10)
        assert left.wait(10)
        assert client.get("/v1/models", timeout=10).status_code == 200


def test_who_stalls_frees_the_slot(gateway, upstream):
    """One sends half of a body and stays, one sends half and leaves."""
    with gateway(most_at_once=1, client_seconds=0.3) as client:
        with opened(client, b"{", **{"content-length": "100"}) as line:
            assert line.recv(1 << 16).startswith(b"HTTP/1.1 408")
        opened(client, b"{", **{"content-length": "100"}).close()
        assert client.get("/v1/models", timeout=10).status_code == 200
    assert [path for path, *_ in upstream.seen] == ["/v1/models"]


def test_who_takes_nothing_frees_the_slot(tmp_path):
    async def much(request):
        async def body():
            for _ in range(64 if request.method == "POST" else 0):
                yield b"x" * (1 << 20)

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/{path:path}", much, methods=["GET", "POST"])])
    with (
        gateway_to(app, tmp_path, most_at_once=1, client_seconds=0.3) as (client, _),
        opened(client, json.dumps(talk()).encode()),
    ):
        assert client.get("/v1/models", timeout=10).status_code == 200


def test_who_is_too_many_waits_or_is_refused(gateway, upstream):
    upstream.goes_on.clear()
    with gateway(most_at_once=1, most_waiting=1) as client:
        body = json.dumps(talk(stream=True)).encode()
        with opened(client, body), opened(client, body) as second:
            wait_for(lambda: len(upstream.seen) == 1)
            wait_for(lambda: gateway.gateway._waiting == 1)
            refused = client.get("/v1/models")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert client.get("/healthz").status_code == 200
            upstream.goes_on.set()
            second.settimeout(10)
            assert second.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert "tokenry_refused_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("how", BREAKS)
def test_broken_upstreams_look_broken(tmp_path, how):
    with load.upstream() as (_, up), gateway_to(None, tmp_path, address=f"http://127.0.0.1:{up}") as (client, _):
        alone, through = (asyncio.run(load.heard_of(p, how)) for p in (up, client.base_url.port))
    if how == "reset":
        assert through[0] == b"502"
    else:
        assert through == alone


def test_sigterm_lets_requests_end(tmp_path):
    """What is under way is answered to its last byte; then the process ends, and says so."""
    ask = load.asks(0, passed=False, originals=Originals(tmp_path / "own.sqlite"))["plain"]
    with load.upstream() as (_, up), load.gateway(up, tmp_path) as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(load.request(ask.body, "a"))
            reply = line.recv(1 << 16)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionError):
                while part := line.recv(1 << 16):
                    reply += part
                    if reply.endswith(b"0\r\n\r\n"):
                        break
        assert reply.count(ask.told.encode()) == 10
        assert b"data: [DONE]" in reply
        assert process.wait(20) in (0, -signal.SIGTERM)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=1)
    assert gateway_load._asked(tmp_path / "ledger.sqlite", "SELECT status FROM requests") == [(200,)]


def test_nothing_is_torn_when_it_is_killed(tmp_path):
    row = gateway_load.killed(tmp_path, 8, 0)
    assert (row["sound"], row["torn"], row["wrong"], row["wrong_after"]) == (True, 0, 0, 0)
    assert row["answers_after"] > 0


def test_no_answer_is_wrong_under_load(tmp_path):
    """The benchmark in short: every client hears what the upstream said to it."""
    originals = Originals(tmp_path / "own.sqlite")
    every = [load.asks(i, passed=False, originals=originals) for i in range(8)]
    with load.upstream() as (_, up), load.gateway(up, tmp_path) as (_, port):
        heard = asyncio.run(load.talk(port, every, ("plain", "results", "retrieve"), 3.0))
    assert (heard.wrong, heard.cut) == ([], 0)
    assert {kind: bool(times) for kind, times in heard.first.items()} == dict.fromkeys(heard.first, True)
    assert len(heard.first) == 3


def test_an_upstream_that_stays_silent_is_a_504(tmp_path):
    async def silent(request):
        await asyncio.sleep(2)
        return Response()

    app = Starlette(routes=[Route("/{path:path}", silent, methods=["POST"])])
    with gateway_to(app, tmp_path, upstream_seconds=0.2) as (client, gateway):
        said = client.post(PATHS["chat"], json=talk())
        assert entered(gateway)["passed_on"] == {"upstream: ReadTimeout": 1}
    assert (said.status_code, said.json()["error"]["message"]) == (504, "upstream: ReadTimeout")


def test_texts_of_faults_hold_no_text(gateway, upstream, monkeypatch, caplog):
    def spoil(*_, **__):
        raise ValueError("the one called n17")

    monkeypatch.setattr("tokenry.apps.server.passing.shortened", spoil)
    with gateway() as client:
        said = client.post(PATHS["chat"], json=talk())
        assert "n17" not in client.get("/metrics").text
    assert said.headers["x-tokenry-passed"] == "fault: ValueError"
    assert "n17" not in caplog.text


def test_check_says_what_holds_or_what_is_wrong(tokenry, tmp_path):
    file = tmp_path / "t.toml"
    file.write_text('upstream = "http://a.example"\nkeys = ["secret"]\nfloor = 7\n', encoding="utf-8")
    said = tokenry("serve", "--config", file, "--check")
    assert said.status == 0
    assert "floor = 7\n" in said.out
    assert "keys = 1\n" in said.out
    assert "secret" not in said.out
    said = tokenry("serve", "--model", "smollm2", "--use", "token_select:budget=64", "--check")
    assert (said.status, "budget=64" in said.out) == (0, True)
    for options in (["--tokenizer", "no-such-tokenizer"], ["--floor", "-1"], ["--retrieve", "perhaps"]):
        assert tokenry("serve", "--config", file, *options, "--check").status == 2
    assert tokenry("serve", "--model", "smollm2", "--use", "lexical_relevance", "--check").status == 2
    file.write_text("ports = 3", encoding="utf-8")
    assert "has no 'ports'" in tokenry("serve", "--config", file, "--check").err
