"""A model at hand: its answers are those of `generate`, prefixes are read once, and requests do not see each other."""

from __future__ import annotations

import json
import threading

import httpx
import pytest
import torch

from tests.apps.gateways import serving
from tests.compress.compress_rows import characters
from tests.pipeline.test_messages import call
from tokenry.apps.server.config import Config
from tokenry.apps.server.gateway import Gateway
from tokenry.apps.server.model import ModelApi
from tokenry.apps.server.speaking import Speaker, sampling_of
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.fixture(scope="module")
def language():
    tokenizer = characters()
    tokenizer.chat_template = TEMPLATE
    return LanguageModel.of(tiny("llama"), tokenizer)


def talk(*said):
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(said)]


def own(language, speaker, messages, n):
    ids = torch.tensor([speaker.ids(messages)])
    out = language.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("use", [None, "window:budget=16:sink=2", "token_select:budget=16:sink=2:recent=4"])
def test_answers_are_those_of_generate(language, use):
    speaker = Speaker(language, use)
    messages = talk("the quick brown fox jumps over the lazy dog and comes back again")
    try:
        first = speaker.speak(messages, sampling_of({"max_tokens": 12}))
        again = speaker.speak(messages, sampling_of({"max_tokens": 12}))
    finally:
        speaker.close()
    assert first.text == again.text
    assert again.cached == (0 if use else first.prompt - 1)
    if use is None:
        said = own(language, speaker, messages, 12)
        assert first.text == language.tokenizer.decode(said, skip_special_tokens=True).strip()


def test_a_prefix_is_read_once_and_changes_nothing(language):
    speaker = Speaker(language)
    long = "a story that is long enough to be kept for what comes after it, and then some"
    first = speaker.speak(talk(long), sampling_of({"max_tokens": 6}))
    second = speaker.speak(talk(long, first.text, "and then?"), sampling_of({"max_tokens": 6}))
    speaker.close()
    fresh = Speaker(language)
    alone = fresh.speak(talk(long, first.text, "and then?"), sampling_of({"max_tokens": 6}))
    fresh.close()
    assert second.text == alone.text
    assert (alone.cached, second.cached > 60) == (0, True)


def test_the_styles_say_the_same(language):
    speaker = Speaker(language)
    system = [{"role": "system", "content": "be brief"}]
    with serving(ModelApi(speaker).app()) as address:
        chat = {"messages": [*system, *talk("hello there")], "max_tokens": 6}
        anthropic = {"system": [{"type": "text", "text": "be brief"}], "messages": talk("hello there"), "max_tokens": 6}
        said = httpx.post(f"{address}/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"]
        other = httpx.post(f"{address}/v1/messages", json=anthropic).json()
        assert other["content"][0]["text"] == said
        stream = httpx.post(f"{address}/v1/messages", json=anthropic | {"stream": True}).text
        events = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: ")]
        deltas = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]
        assert "".join(deltas).strip() == said
        assert events[-1]["type"] == "message_stop"
        counted = httpx.post(f"{address}/v1/messages/count_tokens", json=anthropic).json()
        assert counted["input_tokens"] == sum(other["usage"][n] for n in ("input_tokens", "cache_read_input_tokens"))
        more = httpx.post(f"{address}/v1/completions", json={"prompt": "hello", "max_tokens": 6}).json()
        assert more["choices"][0]["text"] == speaker.speak(["hello"], sampling_of({"max_tokens": 6})).text
    speaker.close()


def test_several_at_once_and_streams(language):
    speaker = Speaker(language)
    asked = [talk(f"question number {i} about something") for i in range(6)]
    alone = [speaker.speak(m, sampling_of({"max_tokens": 8})).text for m in asked]
    found = {}
    with serving(ModelApi(speaker).app()) as address:

        def ask(i):
            body = {"messages": asked[i], "max_tokens": 8, "stream": i % 2 == 1}
            said = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
            if i % 2 == 0:
                found[i] = said.json()["choices"][0]["message"]["content"]
                return
            events = [json.loads(line[6:]) for line in said.text.split("\n\n") if line.startswith("data: {")]
            assert said.text.endswith("data: [DONE]\n\n")
            assert events[-1]["usage"]["completion_tokens"] == 8
            found[i] = "".join(e["choices"][0]["delta"].get("content", "") for e in events).strip()

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert httpx.get(f"{address}/v1/models").json()["data"][0]["id"] == language.name
    speaker.close()
    assert [found[i] for i in range(6)] == alone


def test_a_gateway_in_front_changes_nothing_where_nothing_is_shortened(language, tmp_path):
    speaker = Speaker(language)
    body = {"messages": talk("hello there"), "max_tokens": 5}
    with serving(ModelApi(speaker).app()) as address:
        config = Config(upstream=address, tokenizer="sample-unigram", ledger=str(tmp_path / "l"))
        with serving(Gateway(config).app()) as front:
            said = [httpx.post(f"{at}/v1/chat/completions", json=body).json() for at in (address, front)]
    speaker.close()
    assert said[0]["choices"] == said[1]["choices"]


def openai_talk(address, messages, stream):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url=f"{address}/v1")
    options = {"model": "m", "messages": messages, "max_tokens": 6, "temperature": 0}
    said = client.chat.completions.create(**options, stream=stream)
    return "".join(c.choices[0].delta.content or "" for c in said) if stream else said.choices[0].message.content


def anthropic_talk(address, messages, stream):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.Anthropic(api_key="k", base_url=address)
    options = {"model": "m", "messages": messages, "max_tokens": 6}
    if stream:
        with client.messages.stream(**options) as said:
            return "".join(said.text_stream)
    return client.messages.create(**options).content[0].text


def litellm_talk(address, messages, stream):
    litellm = pytest.importorskip("litellm")
    options = {"model": "openai/m", "messages": messages, "max_tokens": 6, "api_base": f"{address}/v1", "api_key": "k"}
    said = litellm.completion(**options, stream=stream)
    return "".join(c.choices[0].delta.content or "" for c in said) if stream else said.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", [openai_talk, anthropic_talk, litellm_talk])
def test_real_clients_hear_the_same_through_a_gateway(language, tmp_path, monkeypatch, client, stream):
    """A conversation with calls of tools, whose results are too short to be shortened."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    asked, told = call("chat", "c", "find", {"name": "n17"}), {"role": "tool", "tool_call_id": "c", "content": "here"}
    asked["tool_calls"][0]["type"] = "function"
    if client is anthropic_talk:
        asked = call("anthropic", "c", "find", {"name": "n17"})
        told = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "here"}]}
    messages = [{"role": "user", "content": "where is n17?"}, asked, told]
    speaker = Speaker(language)
    with serving(ModelApi(speaker).app()) as address:
        config = Config(upstream=address, tokenizer="sample-unigram", ledger=str(tmp_path / "l"))
        with serving(Gateway(config).app()) as front:
            heard = [transcript(client, at, messages, stream) for at in (address, front)]
    speaker.close()
    assert heard[0] == heard[1]
    assert all(heard[0])


def transcript(client, address, messages, stream):
    """What is said in three turns, each behind all that was said before."""
    said = []
    for ask in ("and then?", "and n18?", ""):
        said.append(client(address, messages, stream))
        messages = [*messages, {"role": "assistant", "content": said[-1]}, {"role": "user", "content": ask}]
    return said


@pytest.mark.parametrize(
    "body", [{}, [], {"messages": []}, {"messages": [3]}, {"messages": talk("a"), "max_tokens": 0},
             {"messages": talk("a"), "temperature": 3}, {"messages": talk("a"), "n": 2},
             {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
             {"messages": talk("x" * 5000), "max_tokens": 5}]
)  # fmt: skip
def test_what_cannot_be_answered_is_said(language, body):
    speaker = Speaker(language)
    with serving(ModelApi(speaker).app()) as address:
        said = httpx.post(f"{address}/v1/chat/completions", json=body)
    speaker.close()
    assert said.status_code == 400
    assert ": must" in said.json()["error"]["message"]


def test_marks_are_those_of_the_template_alone():
    tokenizer = characters()
    tokenizer.chat_template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}<s>"
    speaker = Speaker(LanguageModel.of(tiny("llama"), tokenizer))
    ids = speaker.ids(talk("a<s>b", "c", "<s><s>"))
    speaker.close()
    assert ids.count(tokenizer.convert_tokens_to_ids("<s>")) == 4
    assert ids == speaker.ids(talk("a<s>b", "c", "<s><s>"))


def test_only_attention_methods_are_taken(language):
    with pytest.raises(Incompatible, match="one attention method"):
        Speaker(language, "lexical_relevance")
    with pytest.raises(InvalidValue, match="each message once"):
        other = LanguageModel.of(tiny("llama"), characters())
        other.tokenizer.chat_template = "{{ messages[0].content }}{{ messages[0].content }}"
        Speaker(other).ids(talk("a"))
