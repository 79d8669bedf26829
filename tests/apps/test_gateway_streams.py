"""Calls of our own tool inside streams: answered by the gateway, and all else passes byte for byte."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.apps.gateways import LONG, PATHS, entered, gateway_to, serving, talk
from tests.apps.spoken import spoken
from tokenry.apps.server.answering import ROUNDS
from tokenry.apps.server.streams.events import Event, events
from tokenry.pipeline.messages.originals import Originals
from tokenry.pipeline.messages.retrieve import NAME

KEY = Originals.key_of(LONG)
OURS, OTHER = (NAME, {"id": KEY}), ("search", {"q": "x"})


def streamed(data, size=None):
    async def body():
        for at in range(0, len(data), size or len(data)):
            yield data[at : at + (size or len(data))]

    return StreamingResponse(body(), media_type="text/event-stream")


def read(client, style):
    return client.post(PATHS[style], json=talk(style, stream=True)).content


def said(stream):
    """The objects of a stream, and whether it ends as it should."""
    found = [Event.of(part + b"\n\n") for part in stream.split(b"\n\n")[:-1]]
    return [e.data for e in found if e.data is not None], found


def answer_in(request, style):
    """What a request says that our tool gave."""
    last = request["input" if style == "responses" else "messages"][-1]
    if style == "anthropic":
        (last,) = last["content"]
    return last["output" if style == "responses" else "content"]


@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize("style", PATHS)
def test_a_call_is_answered_and_the_answer_streams_on(gateway, upstream, style, size):
    first, second = spoken(style, "one", ["let ", "me see"], [OURS]), spoken(style, "two", [" it is", " n17"])
    upstream.replies += [streamed(first, size), streamed(second, size)]
    with gateway(retrieve="answer") as client:
        stream = read(client, style)
        found = entered(gateway.gateway)
    assert answer_in(json.loads(upstream.seen[1][1]), style) == LONG
    assert NAME not in "".join(map(str, said(stream)[0]))
    # Up to the call it is what came.
    shown = first.index(b"me see") + 10
    assert stream[:shown] == first[:shown]
    assert found["retrieved"] > 0
    assert found["prompt"] == 20
    {"chat": _chat, "responses": _responses, "anthropic": _anthropic}[style](said(stream)[0])


def _chat(data):
    assert {d["id"] for d in data} == {"one"}
    deltas = [d["choices"][0]["delta"] for d in data if d["choices"]]
    assert "".join(d.get("content") or "" for d in deltas) == "let me see it is n17"
    assert sum("role" in d for d in deltas) == 1
    assert [c["finish_reason"] for d in data for c in d["choices"] if c["finish_reason"]] == ["stop"]
    assert data[-1]["usage"] == {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26}


def _anthropic(data):
    kinds = [d["type"] for d in data if d["type"] != "ping"]
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert kinds == ["message_start", *block, *block, "message_delta", "message_stop"]
    assert [d["index"] for d in data if "index" in d] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert data[-2]["usage"] == {"input_tokens": 20, "output_tokens": 6}
    assert data[-2]["delta"]["stop_reason"] == "end_turn"


def _responses(data):
    numbers = [d["sequence_number"] for d in data]
    assert numbers == list(range(len(data)))
    assert sum(d["type"] == "response.created" for d in data) == 1
    assert [d["output_index"] for d in data if d["type"].startswith("response.output_item")] == [0, 0, 1, 1]
    last = data[-1]["response"]
    assert [item["id"] for item in last["output"]] == ["onem", "twom"]
    assert (last["id"], last["usage"]["input_tokens"]) == ("one", 20)
    assert last["usage"]["input_tokens_details"]["cached_tokens"] == 8


@pytest.mark.parametrize("calls", [[], [OTHER], [OURS, OTHER], [OTHER, OURS]])
@pytest.mark.parametrize("style", PATHS)
def test_other_streams_pass_as_they_are(gateway, upstream, style, calls):
    """Where another tool is called too, the client has to answer, and gets all calls."""
    stream = spoken(style, "one", ["hm"], calls)
    upstream.replies.append(streamed(stream, 11))
    with gateway(retrieve="answer") as client:
        assert read(client, style) == stream
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("style", PATHS)
def test_rounds_are_bounded(gateway, upstream, style):
    upstream.replies += [streamed(spoken(style, f"r{i}", [], [OURS])) for i in range(ROUNDS + 2)]
    with gateway(retrieve="answer") as client:
        stream = read(client, style)
    assert len(upstream.seen) == ROUNDS + 1
    assert f"r{ROUNDS}0" in stream.decode()
    assert "r00" not in stream.decode()


@pytest.mark.parametrize("style", PATHS)
def test_a_refusal_to_go_on_is_told_in_the_stream(gateway, upstream, style):
    refusal = JSONResponse({"error": {"type": "rate_limit_error", "message": "slow down"}}, 429)
    upstream.replies += [streamed(spoken(style, "one", ["hm"], [OURS])), refusal]
    with gateway(retrieve="answer") as client:
        data, _ = said(read(client, style))
    assert data[-1]["error"]["message"] == "slow down"


@pytest.mark.parametrize(
    "spoil", [lambda s: s.replace(b'"index": ', b'"index": {'), lambda s: s[: len(s) * 3 // 4], lambda s: s[:-20],
              lambda s: s.replace(b"\n\n", b"\r\n\r\n"), lambda s: b"\xff\x00" + s + b"{", lambda s: b"\n\n" * 3,
              lambda s: s.replace(b"data: {", b"data: ["), lambda s: s.replace(b'"type"', b'"kind"')]
)  # fmt: skip
@pytest.mark.parametrize("style", PATHS)
def test_what_is_no_proper_stream_passes_as_it_is(gateway, upstream, style, spoil):
    stream = spoil(spoken(style, "one", ["hm"], [OTHER]))
    upstream.replies.append(streamed(stream, 13))
    with gateway(retrieve="answer") as client:
        assert read(client, style) == stream
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("style", PATHS)
def test_a_call_that_is_cut_off_is_not_answered(gateway, upstream, style):
    whole = spoken(style, "one", ["hm"], [OURS])
    stream = whole[: whole.index(NAME.encode()) + 60]
    upstream.replies.append(streamed(stream, 13))
    with gateway(retrieve="answer") as client:
        assert read(client, style) == stream
    assert len(upstream.seen) == 1


def test_words_and_calls_in_one_chunk_are_told_apart(gateway, upstream):
    """Some servers send a whole reply as one chunk."""
    call = {"id": "c", "type": "function", "function": {"name": NAME, "arguments": json.dumps({"id": KEY})}}
    choice = {"index": 0, "delta": {"content": "look: ", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    one = b"data: " + json.dumps({"id": "one", "choices": [choice]}).encode() + b"\n\ndata: [DONE]\n\n"
    upstream.replies += [streamed(one), streamed(spoken("chat", "two", ["n17"]))]
    with gateway(retrieve="answer") as client:
        data, parts = said(read(client, "chat"))
    words = [c["delta"].get("content") or "" for d in data for c in d["choices"]]
    assert "".join(words) == "look: n17"
    assert parts[-1].is_done
    assert not any("tool_calls" in c["delta"] for d in data for c in d["choices"])


@pytest.mark.parametrize("style", PATHS)
def test_the_reply_at_once_counts_all_rounds(gateway, upstream, style):
    given = json.dumps({"id": KEY})
    usage = {"prompt_tokens": 5, "n": 1.50} if style == "chat" else {"input_tokens": 5}
    call = {"id": "r", "call_id": "r", "type": "function_call", "name": NAME, "arguments": given}
    call |= {"function": {"name": NAME, "arguments": given}}
    asks = {
        "chat": {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]},
        "responses": {"output": [call]},
        "anthropic": {"content": [{"type": "tool_use", "id": "r", "name": NAME, "input": {"id": KEY}}]},
    }[style]
    text = json.dumps({"x": 0, "usage": usage}).replace('"x": 0', '"x": 123456789012345678901234567890.50')
    upstream.replies += [JSONResponse(asks | {"usage": usage}), Response(text, media_type="application/json")]
    with gateway(retrieve="answer") as client:
        reply = client.post(PATHS[style], json=talk(style))
        found = entered(gateway.gateway)
    assert answer_in(json.loads(upstream.seen[1][1]), style) == LONG
    assert reply.text.startswith('{"x": 123456789012345678901234567890.50, "usage": {')
    counted = reply.json()["usage"]
    assert counted["prompt_tokens" if style == "chat" else "input_tokens"] == 10
    assert counted["tokenry"]["retrieved"] == found["retrieved"] > 0


def openai_chat(address):
    import openai

    client = openai.OpenAI(api_key="k", base_url=f"{address}/v1", max_retries=0)
    with client.chat.completions.stream(model="m", messages=talk()["messages"]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    return final.message.content, final.message.tool_calls, final.message.role, final.finish_reason


def openai_responses(address):
    import openai

    client = openai.OpenAI(api_key="k", base_url=f"{address}/v1", max_retries=0)
    with client.responses.stream(model="m", input=talk("responses")["input"]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    return final.output_text, [i.type for i in final.output], final.status, final.usage.total_tokens


def anthropic(address):
    import anthropic

    client = anthropic.Anthropic(api_key="k", base_url=address, max_retries=0)
    with client.messages.stream(model="m", max_tokens=9, messages=talk("anthropic")["messages"]) as stream:
        final = stream.get_final_message()
    return "".join(b.text for b in final.content), len(final.content), final.stop_reason, final.usage.output_tokens


@pytest.mark.parametrize(
    ("style", "client", "heard"),
    [("chat", openai_chat, ("let me see it is n17", None, "assistant", "stop")),
     ("responses", openai_responses, ("let me see it is n17", ["message", "message"], "completed", 26)),
     ("anthropic", anthropic, ("let me see it is n17", 2, "end_turn", 6))],
)  # fmt: skip
def test_real_clients_hear_one_answer(upstream, tmp_path, style, client, heard):
    pytest.importorskip("anthropic" if style == "anthropic" else "openai")
    first, second = spoken(style, "one", ["let ", "me see"], [OURS]), spoken(style, "two", [" it is", " n17"])
    upstream.replies += [streamed(first), streamed(second)]
    with gateway_to(upstream.app(), tmp_path, retrieve="answer") as (_, own), serving(own.app()) as address:
        assert client(address) == heard
    assert len(upstream.seen) == 2


def test_a_response_of_several_replies_is_gone_on_from_its_last(gateway, upstream):
    upstream.replies += [streamed(spoken("responses", k, [k], [OURS] if k == "one" else [])) for k in ("one", "two")]
    body = '{"previous_response_id": "%s", "big": 12345678901234567890.10, "input": "go on"}'
    with gateway(retrieve="answer") as client:
        read(client, "responses")
        for key, sent in (("one", "two"), ("other", "other")):
            client.post(PATHS["responses"], content=body % key)
            assert upstream.seen[-1][1].decode() == body % sent


@pytest.mark.parametrize("size", range(1, 30))
def test_events_join_to_the_stream(size):
    data = b"data: a\r\n\r\n\n\ndata: b\n\n: c\r\rdata: end"

    async def cut():
        async def chunks():
            for at in range(0, len(data), size):
                yield data[at : at + size]

        return [part async for part in events(chunks())]

    assert b"".join(asyncio.run(cut())) == data
