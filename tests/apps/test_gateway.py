"""The gateway: bytes pass as they came but for results of tools, replies are never taken apart, and faults pass on."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from tests.apps.gateways import LONG, PATHS, STREAM, entered, serving, talk
from tests.pipeline.test_messages import call, result
from tokenry.apps.server.config import Config
from tokenry.apps.server.gateway import Gateway
from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals


@pytest.mark.parametrize("style", PATHS)
def test_only_the_result_is_exchanged(gateway, upstream, style):
    body = json.dumps(talk(style), indent=1).replace('"n": 1,', '"n": 1.50,')
    with gateway() as client:
        said = client.post(PATHS[style], content=body, headers={"authorization": "Bearer secret"})
    path, sent, headers = upstream.seen[0]
    assert (said.status_code, path, headers["authorization"]) == (200, PATHS[style], "Bearer secret")
    quoted = json.dumps(LONG)
    before, _, after = body.partition(quoted)
    assert sent.decode().startswith(before)
    assert sent.decode().endswith(after)
    assert len(sent) < len(body)
    assert "123456789012345678901234567890" in sent.decode()
    assert int(said.headers["x-tokenry-tokens-out"]) < int(said.headers["x-tokenry-tokens-in"])
    assert said.headers["x-own"] == "1"
    assert b"secret" not in (gateway.gateway.ledger.file).read_bytes()


def test_streams_pass_byte_for_byte_as_they_come(gateway, upstream):
    """The upstream sends the rest only after the client got the first part."""
    upstream.goes_on.clear()
    with gateway() as client, client.stream("POST", PATHS["chat"], json=talk(stream=True)) as said:
        parts = []
        for part in said.iter_raw():
            parts.append(part)
            upstream.goes_on.set()
    assert parts[0] == STREAM[0]
    assert b"".join(parts) == b"".join(STREAM)
    assert said.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("status", [400, 429, 500])
def test_faults_of_the_upstream_reach_the_client(gateway, upstream, status):
    upstream.replies.append(Response(b"\x00 odd", status, {"retry-after": "7"}))
    with gateway() as client:
        said = client.post(PATHS["chat"], json=talk())
    assert (said.status_code, said.content, said.headers["retry-after"]) == (status, b"\x00 odd", "7")


def test_an_upstream_that_is_not_there(tmp_path):
    config = Config(upstream="http://127.0.0.1:1", ledger=str(tmp_path / "l"), tokenizer="sample-unigram")
    with serving(Gateway(config).app()) as own:
        said = httpx.post(own + PATHS["chat"], json=talk())
    assert said.status_code == 502
    assert said.json()["error"]["message"] == "upstream: ConnectError"


def test_a_fault_of_ours_passes_the_request_on(gateway, upstream, monkeypatch):
    monkeypatch.setattr("tokenry.apps.server.passing.shortened", lambda *a, **k: 1 / 0)
    body = json.dumps(talk()).encode()
    with gateway() as client:
        assert client.post(PATHS["chat"], content=body).status_code == 200
        assert 'tokenry_faults_total{kind="ZeroDivisionError"} 1.0' in client.get("/metrics").text
    assert upstream.seen[0][1] == body


def test_one_that_takes_too_long_passes(gateway, upstream, monkeypatch):
    monkeypatch.setattr("tokenry.apps.server.passing.shortened", lambda *a, **k: time.sleep(1))
    with gateway(seconds=0.1) as client:
        said = client.post(PATHS["chat"], json=talk())
    assert said.headers["x-tokenry-passed"] == "fault: TimeoutError"


def test_a_request_chooses_among_what_is_allowed(gateway, upstream):
    other = "compress/random:budget=0.1,units=auto"
    with gateway(allowed=(other,)) as client:
        sent = {
            use: client.post(PATHS["chat"], json=talk(), headers={"x-tokenry-use": use}).headers.get("x-tokenry-use")
            for use in (other, "off", "compress/random:budget=0.9")
        }
    assert sent[other] == other
    assert sent["off"] is None
    assert sent["compress/random:budget=0.9"] == "lexical_relevance:budget=0.25,units=auto"
    assert json.loads(upstream.seen[1][1]) == talk()
    assert all("x-tokenry-use" not in headers for _, _, headers in upstream.seen)


def test_keys_and_limits(gateway, upstream):
    with gateway(keys=("k",), most_bytes=10_000) as client:
        assert client.post(PATHS["chat"], json={}).status_code == 401
        assert client.get("/").status_code == 401
        key = {"x-tokenry-key": "k"}
        assert client.post(PATHS["chat"], content=b"x" * 20_000, headers=key).status_code == 413
        assert client.get("/v1/models", headers=key).status_code == 200
        assert client.get("/healthz").text == "ok\n"
    assert [path for path, *_ in upstream.seen] == ["/v1/models"]


def test_the_ledger_and_its_page(gateway, upstream):
    with gateway() as client:
        client.post(PATHS["chat"], json=talk())
        client.post(PATHS["chat"], json={"messages": []})
        entered(gateway.gateway, 2)
        found = client.get("/savings.json").json()["summary"]
        assert "tokenry gateway" in client.get("/").text
    assert (found["requests"], found["shortened"], found["cache_read"], found["prompt"]) == (2, 1, 14, 22)
    assert found["saved"] == found["tokens_in"] - found["tokens_out"] > 0
    assert list(found["by_content"]) == ["json"]
    assert found["passed_on"] == {"nothing to shorten": 1}


def test_nothing_is_saved_by_what_no_model_read(gateway, upstream):
    """Requests that were refused, or asked for a count alone, and the reason of each that passed as it was."""
    upstream.replies = [JSONResponse({}, 429), JSONResponse({"input_tokens": 3}), JSONResponse({"data": []})]
    with gateway() as client:
        client.post(PATHS["chat"], json=talk())
        client.post("/v1/messages/count_tokens", json=talk("anthropic"))
        assert client.post("/v1/embeddings", json={}).headers["x-tokenry-passed"] == "no messages"
        found = entered(gateway.gateway, 3)
        assert 'tokenry_passed_total{why="no messages"} 1.0' in client.get("/metrics").text
        assert [row["tokens_in"] > 0 for row in gateway.gateway.ledger.latest()] == [False, True, True]
    assert (found["shortened"], found["tokens_in"], found["saved"]) == (0, 0, 0)
    assert (found["by_method"], found["by_content"], found["passed_on"]) == ({}, {}, {"no messages": 1})


def test_what_a_client_brings_back_is_nothing_saved(gateway, upstream):
    with gateway(retrieve="offer") as client:
        first = client.post(PATHS["chat"], json=talk())
        key = Originals.key_of(LONG)
        brought = retrieve.answer(gateway.gateway.originals, {"id": key})
        more = [call("chat", "r", retrieve.NAME, {"id": key}), result("chat", "r", brought)]
        client.post(PATHS["chat"], json={"messages": talk()["messages"] + more})
        found = entered(gateway.gateway, 2)
    assert brought == LONG
    assert json.loads(upstream.seen[1][1])["messages"][-1]["content"] == brought
    before, after = (int(first.headers[f"x-tokenry-tokens-{side}"]) for side in ("in", "out"))
    assert found["retrieved"] == before
    assert found["saved"] == 2 * (before - after) - before


def test_configuration(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text('upstream = "http://a"\nport = 1\nkeep = ["read_*"]\n')
    found = Config.read(file, {"TOKENRY_SERVE_PORT": "2", "TOKENRY_SERVE_RECORD_TEXT": "yes"}, floor=7)
    assert (found.upstream, found.port, found.keep, found.floor, found.record_text) == (
        "http://a", 2, ("read_*",), 7, True,
    )  # fmt: skip
    for name, value in {
        "prot": "1",
        "port": "x",
        "floor": "-1",
        "upstream": "ftp://a",
        "older_every": "-1",
        "older_use": "window",
        "retrieve": "y",
        "use": "window",
    }.items():
        with pytest.raises(InvalidValue):
            Config.read(file, {f"TOKENRY_SERVE_{name.upper()}": value})
    with pytest.raises(InvalidValue, match="without a password") as refused:
        Config.read(file, upstream="https://me:secret@a.example")
    assert "secret" not in str(refused.value)
    file.write_text("port = ")
    with pytest.raises(UnreadableInput, match="must be TOML"):
        Config.read(file, {})
