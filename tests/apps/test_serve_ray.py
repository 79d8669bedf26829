"""The door in front of replicas: who gets a conversation, and what passes through."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from tests.apps.gateways import LONG, PATHS, serving
from tokenry.apps.server.on_ray import Door, Replica, beginning_of, gateway_app

SYSTEM = {"role": "system", "content": "You are kind."}


def turn(*asked):
    said = [SYSTEM]
    for text in asked:
        said += [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text}!"}]
    return json.dumps({"messages": said[:-1]}).encode()


def test_a_conversation_begins_the_same_at_every_turn():
    path = PATHS["chat"]
    first = beginning_of(path, turn("a"))
    assert first == beginning_of(path, turn("a", "b")) == beginning_of(path, turn("a", "b", "c"))
    assert first != beginning_of(path, turn("b", "a"))
    assert beginning_of("/v1/models", b"") == beginning_of(path, b"{") == beginning_of(path, b"[]") == (b"", "")
    assert beginning_of(PATHS["responses"], b'{"input": "x", "previous_response_id": "resp_1"}')[1] == "resp_1"


@pytest.fixture
def door(upstream, tmp_path):
    """A door in front of three gateways in this process."""
    with serving(upstream.app()) as there:
        told = {
            "upstream": there, "floor": 50, "ledger": str(tmp_path / "ledger"), "hosts": ("*",), "tokenizer": "smollm2"
        }  # fmt: skip
        behind = [Replica(gateway_app, told) for _ in range(3)]
        made = Door([r.answer for r in behind], 1 << 20)
        with serving(made) as here, httpx.Client(base_url=here, timeout=120) as client:
            yield client


def test_turns_come_to_one_replica_and_conversations_spread(door, upstream):
    seen = set()
    for name in "abcdefgh":
        at = {door.post(PATHS["chat"], content=turn(*turns)).headers["x-tokenry-replica"]
              for turns in ((name,), (name, "b"), (name, "b", "c"))}  # fmt: skip
        assert len(at) == 1
        seen |= at
    assert seen == {"0", "1", "2"}
    assert upstream.seen[0][1] == turn("a")


def test_results_shrink_and_streams_pass(door, upstream):
    from tests.pipeline.test_messages import call, result

    body = {
        "messages": [{"role": "user", "content": "Which?"}, call("chat", "1", "list", {}), result("chat", "1", LONG)]
    }
    done = door.post(PATHS["chat"], json=body)
    assert done.status_code == 200
    assert done.headers["x-own"] == "1"
    assert len(upstream.seen[0][1]) < len(json.dumps(body))
    with door.stream("POST", PATHS["chat"], json={"stream": True, "messages": [SYSTEM]}) as stream:
        assert b"".join(stream.iter_raw()).endswith(b"data: [DONE]\n\n")


def test_who_goes_on_from_a_response_comes_to_who_gave_it(door, upstream):
    from starlette.responses import JSONResponse

    upstream.replies += [JSONResponse({"id": f"resp_{i}", "output": []}) for i in range(4)]
    places = [door.post(PATHS["responses"], json={"input": f"text {i}"}).headers["x-tokenry-replica"] for i in range(4)]
    assert len(set(places)) > 1
    for i, place in enumerate(places):
        goes_on = door.post(PATHS["responses"], json={"input": "and?", "previous_response_id": f"resp_{i}"})
        assert goes_on.headers["x-tokenry-replica"] == place


def test_what_is_too_large_or_has_nobody_is_refused(door):
    assert door.post(PATHS["chat"], content=b"x" * (1 << 20 | 1)).status_code == 413

    async def dead(scope, body):
        raise RuntimeError("died")
        yield

    with serving(Door([dead], 100)) as here:
        found = httpx.get(f"{here}/healthz", timeout=60)
        assert found.status_code == 503
        assert "a replica ended" in found.text


def test_who_serves_ends_with_the_cluster():
    told = """
import socket, sys, time, types
from tokenry.pipeline import cluster

sys.modules["ray"] = types.SimpleNamespace(nodes=lambda: [{"Alive": alive}])
cluster.LOOK, alive = 0.01, True
there = socket.create_server(("127.0.0.1", 0))
with cluster.ending_with("127.0.0.1:%d" % there.getsockname()[1]):
    time.sleep(0.5)
    print("lives", flush=True)
    if sys.argv[1] == "machines":
        alive = False
    else:
        there.close()
    time.sleep(600)
"""
    for what in ("machines", "cluster"):
        run = subprocess.run([sys.executable, "-c", told, what], capture_output=True, text=True, check=False)
        assert run.stdout == "lives\n"
        assert run.returncode == 2
        assert "ray: must live until the end" in run.stderr


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as here:
        return here.getsockname()[1]


def test_what_closes_replicas_is_not_interrupted_again():
    told = """
import os, signal, time, types
from tokenry.apps.cli import interrupt, serve

def run(*_, **__):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
    except KeyboardInterrupt:
        pass

with interrupt.heard():
    serve._run(types.SimpleNamespace(run=run), None, "", 0, 1)
    time.sleep(2 * interrupt.AGAIN)
print("closed")
"""
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert run.stdout == "closed\n", run.stderr


@pytest.mark.slow
def test_replicas_on_ray_serve(upstream, tmp_path):
    pytest.importorskip("ray")
    with serving(upstream.app()) as there, (tmp_path / "said").open("w+") as said:
        port = free_port()
        command = [
            sys.executable, "-m", "tokenry", "serve", "--upstream", there, "--ray", "local", "--port",
            str(port), "--tokenizer", "smollm2", "--floor", "50",
        ]  # fmt: skip
        # Into a file: a pipe that nobody reads is full one day, and who writes to it waits.
        run = subprocess.Popen(command, stderr=said)
        try:
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
            while True:
                try:
                    assert client.get("/healthz").text == "ok\n"
                    break
                except httpx.ConnectError:
                    # However long a busy machine takes: it comes up, or it ends and says why.
                    assert run.poll() is None, (tmp_path / "said").read_text()
                    time.sleep(0.2)
            seen = set()
            for name in "abcdef":
                at = {client.post(PATHS["chat"], content=turn(*t)).headers["x-tokenry-replica"]
                      for t in ((name,), (name, "b"))}  # fmt: skip
                assert len(at) == 1
                seen |= at
            assert seen == {"0", "1"}
            with client.stream("POST", PATHS["chat"], json={"stream": True, "messages": [SYSTEM]}) as stream:
                assert b"".join(stream.iter_raw()).endswith(b"data: [DONE]\n\n")
            # Without its machine the door waits for nobody.
            for process in psutil.Process(run.pid).children():
                if process.name() == "raylet":
                    process.kill()
            assert run.wait() == 2
            assert "ray: must live until the end" in (tmp_path / "said").read_text()
        finally:
            run.kill()
            run.wait()
