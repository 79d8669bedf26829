"""A model at hand: what cannot be read is said in a sentence, and whoever leaves makes room for others."""

from __future__ import annotations

import json
import socket
import threading
import time

import httpx
import pytest

from tests.apps.gateways import serving
from tests.apps.test_model_api import TEMPLATE, talk
from tests.compress.compress_rows import characters
from tokenry.apps.server.model import ModelApi
from tokenry.apps.server.speaking import Speaker, sampling_of
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def language():
    tokenizer = characters()
    tokenizer.chat_template = TEMPLATE
    return LanguageModel.of(tiny("llama"), tokenizer)


@pytest.fixture(scope="module")
def address(language):
    speaker = Speaker(language)
    with serving(ModelApi(speaker, most_bytes=1 << 20).app()) as address:
        yield address
    speaker.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[" * 10_000, b'{"messages": ' + b'[{"a":' * 10_000, b"\xff\xfe", b"x" * (2 << 20), b"[3]",
     b'{"messages": [{"role": "user", "content": "\\ud800"}]}', b'{"messages": [{"role": "\\udc00", "content": "a"}]}',
     b'{"messages": [{"role": "user", "content": "a", "tool_calls": 5}]}', b'{"messages": [{"role": 3}]}',
     b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1' + b"0" * 5000 + b"}",
     b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}',
     b'{"messages": [{"role": "user", "content": "a"}], "top_p": NaN}']
)  # fmt: skip
@pytest.mark.parametrize("path", [PATH, "/v1/messages", "/v1/completions"])
def test_what_cannot_be_read_is_said(address, body, path):
    said = httpx.post(address + path, content=body)
    assert said.status_code == 400
    assert said.json()["error"]["message"]


@pytest.mark.parametrize(
    "more",
    [{"stop": ["\n"]}, {"stop_sequences": ["x"]}, {"top_k": 5}, {"logprobs": True}, {"presence_penalty": 0.5},
     {"response_format": {"type": "json_object"}}, {"n": 2}]
)  # fmt: skip
def test_what_would_be_passed_over_is_refused(address, more):
    said = httpx.post(address + PATH, json={"messages": talk("a"), **more})
    assert (said.status_code, next(iter(more)) in said.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    "more",
    [{"seed": 10**30}, {"seed": -1, "temperature": 1}, {"temperature": 1e-320}, {"stop": None},
     {"frequency_penalty": 0.0, "response_format": {"type": "text"}}, {"seed": "x", "temperature": 0.5},
     {"messages": [{"role": "wizard", "content": None}, {"role": "tool", "tool_call_id": "no", "content": "a"}]}]
)  # fmt: skip
def test_what_is_only_odd_is_answered(address, more):
    for stream in (False, True):
        said = httpx.post(address + PATH, json={"messages": talk("a"), "max_tokens": 3, "stream": stream, **more})
        assert said.status_code == 200


def test_a_name_that_is_said_twice_counts_as_the_last(address):
    said = httpx.post(
        address + PATH, content=b'{"messages": [], "messages": [{"role": "user", "content": "a"}], "n": 1}'
    )
    assert said.json()["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_makes_room(language, stream, monkeypatch):
    """One answer at a time: the second is written although the first would never have ended."""
    speaker, began, ended = Speaker(language), threading.Event(), threading.Event()
    own = Speaker.speak

    def endless(self, messages, sampling, tell=None):
        if messages[0]["content"] != "endless":
            return own(self, messages, sampling, tell)
        try:
            while True:
                began.set()
                tell("a ")
                time.sleep(0.005)
        finally:
            ended.set()

    monkeypatch.setattr(Speaker, "speak", endless)
    with serving(ModelApi(speaker, most_at_once=1).app()) as address:
        host, port = address.removeprefix("http://").split(":")
        body = json.dumps({"messages": talk("endless"), "stream": stream}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((host, int(port))) as line:
            line.sendall(head + body)
            assert began.wait(10)
            assert not ended.is_set()
        assert ended.wait(10)
        assert httpx.post(address + PATH, json={"messages": talk("a"), "max_tokens": 2}).status_code == 200
    speaker.close()


def test_who_leaves_while_waiting_is_not_answered(language, monkeypatch):
    speaker, asked, goes_on = Speaker(language), [], threading.Event()
    own = Speaker.speak

    def slow(self, messages, sampling, tell=None):
        asked.append(messages[0]["content"])
        goes_on.wait(10)
        return own(self, messages, sampling, tell)

    monkeypatch.setattr(Speaker, "speak", slow)
    with serving(ModelApi(speaker, most_at_once=1).app()) as address:

        def ask(text, timeout=30.0):
            try:
                return httpx.post(address + PATH, json={"messages": talk(text), "max_tokens": 2}, timeout=timeout)
            except httpx.TimeoutException:
                return None

        first = threading.Thread(target=ask, args=("first",))
        first.start()
        while not asked:
            time.sleep(0.01)
        assert ask("impatient", timeout=0.3) is None
        goes_on.set()
        assert ask("last").status_code == 200
        first.join()
    speaker.close()
    assert asked == ["first", "last"]


def test_prefixes_are_read_once_by_several_at_once(language):
    """Eight conversations that begin alike: each reads its own end, and says what it says alone."""
    speaker = Speaker(language)
    long = "a story that is long enough to be kept for what comes after it, and then some"
    bodies = [talk(long, "yes", f"and number {i}?") for i in range(8)]
    alone = []
    for body in bodies:
        fresh = Speaker(language)
        alone.append(fresh.speak(body, sampling_of({"max_tokens": 6})).text)
        fresh.close()
    with serving(ModelApi(speaker, most_at_once=8).app()) as address:
        httpx.post(address + PATH, json={"messages": talk(long), "max_tokens": 2})
        found = {}

        def ask(i):
            found[i] = httpx.post(address + PATH, json={"messages": bodies[i], "max_tokens": 6}, timeout=60).json()

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    speaker.close()
    assert [found[i]["choices"][0]["message"]["content"] for i in range(8)] == alone
    assert all(found[i]["usage"]["prompt_tokens_details"]["cached_tokens"] > 60 for i in range(8))
