"""Adapters, each in the real library: what it sends is shorter, and everything else is as without it."""

from __future__ import annotations

import asyncio
import json
import os

import httpx
import pytest

from tests.compress.test_shorten import TEXTS
from tests.pipeline.test_messages import call, result
from tokenry import wrap
from tokenry.core.errors import InvalidValue
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

SETTINGS = {"tokenizer": "sample-unigram", "floor": 50}
LONG = TEXTS["json"]


def talk(style):
    return [{"role": "user", "content": "the one called n17"}, call(style, "c", "q", {}), result(style, "c", LONG)]


class Sent:
    """A transport of an HTTP library that keeps what was sent and says the same to all."""

    def __init__(self, said, library=httpx):
        self.said, self.requests, self._library = said, [], library
        self.transport = library.MockTransport(self._answer)

    def _answer(self, request):
        self.requests.append(json.loads(request.content))
        return self._library.Response(200, json=self.said)


CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
CHAT = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
MESSAGE = {"id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
           "stop_sequence": None, "content": [{"type": "text", "text": "ok"}],
           "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip


def test_openai(tmp_path):
    openai = pytest.importorskip("openai")
    sent = Sent(CHAT)
    plain = openai.OpenAI(api_key="k", base_url="http://a/v1", http_client=httpx.Client(transport=sent.transport))
    client = wrap(plain, **SETTINGS, originals=Originals(tmp_path / "o"))
    said = client.chat.completions.create(model="m", messages=talk("chat"))
    assert said.choices[0].message.content == "ok"
    assert len(sent.requests[0]["messages"][2]["content"]) < len(LONG)
    assert sent.requests[0]["messages"][:2] == talk("chat")[:2]
    assert retrieve.carries(sent.requests[0]["tools"])
    assert client.api_key == "k"
    client = wrap(plain, **SETTINGS, older_every=1)
    pasted = {"role": "user", "content": f"the one called n17\n\n```\n{LONG}\n```"}
    said = [pasted, {"role": "user", "content": "So?"}, {"role": "user", "content": "And?"}]
    client.chat.completions.create(model="m", messages=said)
    assert len(sent.requests[-1]["messages"][0]["content"]) < len(LONG)
    assert sent.requests[-1]["messages"][1:] == said[1:]
    with pytest.raises(InvalidValue, match="must be one of openai or anthropic"):
        wrap(object())


@pytest.mark.parametrize(
    "reach",
    [
        lambda c: c.chat.completions.with_raw_response.create,
        lambda c: c.with_raw_response.chat.completions.create,
        lambda c: c.copy(timeout=3).chat.completions.create,
        lambda c: c.beta.chat.completions.parse,
    ],
)
def test_every_way_to_a_call_shortens(reach):
    openai = pytest.importorskip("openai")
    sent = Sent(CHAT)
    plain = openai.OpenAI(api_key="k", base_url="http://a/v1", http_client=httpx.Client(transport=sent.transport))
    reach(wrap(plain, **SETTINGS))(model="m", messages=talk("chat"))
    assert len(sent.requests[0]["messages"][2]["content"]) < len(LONG)


def test_openai_for_asyncio():
    openai = pytest.importorskip("openai")
    sent = Sent(CHAT)
    http = httpx.AsyncClient(transport=sent.transport)
    client = wrap(openai.AsyncOpenAI(api_key="k", base_url="http://a/v1", http_client=http), **SETTINGS)
    asyncio.run(client.chat.completions.create(model="m", messages=talk("chat")))
    assert len(sent.requests[0]["messages"][2]["content"]) < len(LONG)
    assert "tools" not in sent.requests[0]


def test_anthropic():
    anthropic = pytest.importorskip("anthropic")
    httpx2 = pytest.importorskip("httpx2")
    sent = Sent(MESSAGE, httpx2)
    http = httpx2.Client(transport=sent.transport)
    client = wrap(anthropic.Anthropic(api_key="k", base_url="http://a", http_client=http), **SETTINGS)
    said = client.messages.create(model="m", max_tokens=9, messages=talk("anthropic"))
    assert said.content[0].text == "ok"
    (tool, image) = sent.requests[0]["messages"][2]["content"]
    assert len(tool["content"][0]["text"]) < len(LONG)
    assert tool["content"][0]["cache_control"] == {}
    assert image == talk("anthropic")[2]["content"][1]


def test_litellm(monkeypatch):
    litellm = pytest.importorskip("litellm")
    from tokenry.apps.adapters.litellm import Shortening

    seen = []

    class Last(litellm.CustomLLM):
        async def acompletion(self, *args, **options):
            seen.append(options["messages"])
            return litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": "ok"}}])

    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "own", "custom_handler": Last()}])
    monkeypatch.setattr(litellm, "callbacks", [Shortening(**SETTINGS)])
    asyncio.run(litellm.acompletion(model="own/m", messages=talk("chat")))
    assert len(seen[0][2]["content"]) < len(LONG)
    data = {"model": "m", "messages": talk("chat")}
    found = asyncio.run(Shortening(**SETTINGS).async_pre_call_hook(None, None, data, "completion"))
    assert len(found["messages"][2]["content"]) < len(LONG)
    assert data["messages"] == talk("chat")


def test_langchain():
    pytest.importorskip("langchain")
    from langchain.agents import create_agent
    from langchain_core.documents import Document
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, ToolMessage

    from tokenry.apps.adapters.langchain import DocumentShortening, ShorteningMiddleware

    seen = []

    class Model(GenericFakeChatModel):
        def _generate(self, messages, *args, **options):
            seen.append(list(messages))
            return super()._generate(messages, *args, **options)

        def bind_tools(self, tools, **options):
            return self

    def search(name: str) -> str:
        """Search."""
        return LONG

    call = AIMessage("", tool_calls=[{"name": "search", "args": {"name": "n17"}, "id": "c"}])
    model = Model(messages=iter([call, AIMessage("ok")]))
    agent = create_agent(model, tools=[search], middleware=[ShorteningMiddleware(**SETTINGS)])
    state = agent.invoke({"messages": [{"role": "user", "content": "the one called n17"}]})
    (read,) = [m for m in seen[1] if isinstance(m, ToolMessage)]
    (kept,) = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert len(read.content) < len(kept.content) == len(LONG)
    assert '"n17"' in read.content
    documents = [Document(TEXTS["prose"], metadata={"a": 1})]
    (short,) = DocumentShortening(tokenizer="sample-unigram").compress_documents(documents, "number 41")
    assert "number 41" in short.page_content
    assert len(short.page_content) < len(TEXTS["prose"])
    assert short.metadata == {"a": 1}


def test_llama_index():
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeWithScore, TextNode

    from tokenry.apps.adapters.llama_index import NodeShortening

    nodes = [NodeWithScore(node=TextNode(text=TEXTS["prose"], metadata={"a": 1}), score=0.5)]
    (short,) = NodeShortening(tokenizer="sample-unigram").postprocess_nodes(nodes, query_str="number 41")
    assert "number 41" in short.node.text
    assert len(short.node.text) < len(TEXTS["prose"])
    assert (short.score, short.node.metadata, nodes[0].node.text) == (0.5, {"a": 1}, TEXTS["prose"])


def test_mcp(tmp_path):
    pytest.importorskip("mcp")
    from mcp import Client

    from tokenry.apps.adapters.mcp import server

    async def talk_to_it():
        async with Client(server(Originals(tmp_path / "o"), tokenizer="sample-unigram")) as client:
            assert {t.name for t in (await client.list_tools()).tools} == {
                "shorten_text", "tokenry_retrieve", "count_tokens"
            }  # fmt: skip
            asked = {"text": LONG, "question": "the one called n17"}
            short = (await client.call_tool("shorten_text", asked)).structured_content
            key = Originals.key_of(LONG)
            assert key in short["text"]
            assert short["tokens_out"] < short["tokens_in"]
            back = await client.call_tool("tokenry_retrieve", {"id": key})
            assert back.content[0].text == LONG
            wrong = await client.call_tool("shorten_text", {"text": "a", "use": "window"})
            assert wrong.is_error

    asyncio.run(talk_to_it())
