"""Messages: only results of tools change, what was sent is the beginning of what is sent, and all comes back."""

from __future__ import annotations

import copy
import inspect
import json
import os
import random
import stat
from dataclasses import dataclass

import pytest

from tests.compress.test_shorten import TEXTS, Words
from tokenry import Pipeline, compress_messages
from tokenry.compress.random import RandomUnits
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals

KINDS = ("chat", "responses", "anthropic")


def result(style, key, text):
    if style == "chat":
        return {"role": "tool", "tool_call_id": key, "content": text, "x": [1]}
    if style == "responses":
        return {"type": "function_call_output", "call_id": key, "output": text}
    part = {"type": "tool_result", "tool_use_id": key, "content": [{"type": "text", "text": text, "cache_control": {}}]}
    return {"role": "user", "content": [part, {"type": "image", "source": {"data": "AAAA"}}]}


def call(style, key, name, arguments):
    if style == "chat":
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"role": "assistant", "content": None, "tool_calls": [{"id": key, "function": function}]}
    if style == "responses":
        return {"type": "function_call", "call_id": key, "name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": [{"type": "tool_use", "id": key, "name": name, "input": arguments}]}


def conversation(style, seed=0, turns=3):
    rng = random.Random(seed)
    found = [{"role": "system", "content": "Be brief. " * 50}]
    for turn in range(turns):
        found.append({"role": "user", "content": f"What about n{rng.randrange(40)}?" * (1 + 40 * (turn == 1))})
        for _ in range(rng.randrange(1, 3)):
            key = f"c{len(found)}"
            found.append(call(style, key, rng.choice(["search", "read_file"]), {"query": f"n{rng.randrange(40)}"}))
            found.append(result(style, key, rng.choice(list(TEXTS.values()))))
        found.append({"role": "assistant", "content": "So it is."})
    return found


def short(messages, **options):
    return compress_messages(messages, tokenizer=Words(), floor=50, **options)


@pytest.mark.parametrize("style", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_what_was_sent_is_the_beginning_of_what_is_sent(style, seed):
    talk = conversation(style, seed)
    whole = short(talk).messages
    for k in range(len(talk) + 1):
        assert short(talk[:k]).messages == whole[:k]


@pytest.mark.parametrize("style", KINDS)
def test_only_results_change_and_nothing_gets_longer(style):
    talk = conversation(style)
    before = copy.deepcopy(talk)
    found = short(talk)
    assert talk == before
    assert found.tokens_out < found.tokens_in
    paths = {c.path for c in found.changes if not c.why}
    assert paths
    for i, (a, b) in enumerate(zip(talk, found.messages, strict=True)):
        if a != b:
            assert i in {path[0] for path in paths}
            assert a.keys() == b.keys()
    assert all(c.tokens_out <= c.tokens_in for c in found.changes)
    again = compress_messages(found.messages, tokenizer=Words(), floor=50, keep=["*"])
    assert again.messages == found.messages


@pytest.mark.parametrize("style", KINDS)
@pytest.mark.parametrize(
    "use", ["lexical_relevance:budget=0.25,units=auto", "fold", ("fold", "compress/random:budget=0.3")]
)
def test_what_was_sent_before_is_a_reference(style, use):
    text = TEXTS["log"]
    talk = [{"role": "user", "content": "n17?"}]
    for i in range(4):
        talk += [call(style, f"c{i}", "q", {"a": "b" if i < 3 else "n4 broke"}), result(style, f"c{i}", text)]
    found = short(talk, use=use)
    first, second, third, other = (c.tokens_out for c in found.changes)
    assert first > second == third
    assert "[the same as the result of call c0 (q) above]" in json.dumps(found.messages)
    assert other == second or found.changes[3].kind == "log"
    assert short(talk, use=use, keep=["q"]).messages == talk
    for k in range(len(talk) + 1):
        assert short(talk[:k], use=use).messages == found.messages[:k]


def test_a_result_that_a_new_question_shows_otherwise_is_no_reference():
    talk = [{"role": "user", "content": "n17?"}, call("chat", "a", "q", {}), result("chat", "a", TEXTS["json"])]
    talk += [{"role": "user", "content": "n23?"}, call("chat", "b", "q", {}), result("chat", "b", TEXTS["json"])]
    assert [c.kind for c in short(talk).changes] == ["json", "json"]
    assert '"n23"' in short(talk).messages[-1]["content"]


def test_results_of_which_the_same_is_left_are_not_called_the_same():
    text = TEXTS["prose"]
    talk = [{"role": "user", "content": "number 17?"}]
    for key, said in (("a", text), ("b", text.replace("59 says something", "59 says nothing")), ("c", text)):
        talk += [call("chat", key, "q", {}), result("chat", key, said)]
    found = short(talk)
    left = [m["content"] for m in found.messages if m["role"] == "tool"]
    assert left[0] == left[1]
    assert [c.kind for c in found.changes] == ["sentence", "sentence", "repeat"]


def test_results_are_kept_by_name_and_below_the_floor():
    talk = conversation("chat")
    assert short(talk, keep=["search", "read_*"]).messages == talk
    assert compress_messages(talk, tokenizer=Words(), floor=10**6).messages == talk
    assert {c.why for c in short(talk, keep=["*"]).changes} == {"kept by name"}


@pytest.mark.parametrize("style", KINDS)
def test_originals_come_back_by_the_tool_that_is_added(style, tmp_path):
    store = Originals(tmp_path / "o.sqlite")
    assert stat.S_IMODE(os.stat(store.file).st_mode) == 0o600
    text = TEXTS["csv"]
    talk = [{"role": "user", "content": "n17?"}, call(style, "c", "q", {}), result(style, "c", text)]
    found = short(talk, tools=[], originals=store, style=style)
    assert retrieve.carries(found.tools)
    (change,) = found.changes
    assert change.key is not None
    assert f"id {change.key}" in json.dumps(found.messages, ensure_ascii=False)
    assert retrieve.answer(store, {"id": change.key}) == text
    lines = {"id": change.key, "first_line": 2, "last_line": 3}
    assert retrieve.answer(store, json.dumps(lines)) == '0,n0,"a, b\nc 0"\n'
    assert "n23" in retrieve.answer(store, {"id": change.key, "query": "n23"})
    assert Originals(store.file).get(change.key) == text
    for wrong in ("{", {}, {"id": "../../etc"}, {"id": "0" * 12}):
        assert retrieve.answer(store, wrong).startswith("tokenry_retrieve: ")


@pytest.mark.parametrize("name", ["tokenry_retrieve", "mcp__tokenry__tokenry_retrieve"])
@pytest.mark.parametrize("style", KINDS)
def test_what_was_brought_back_reaches_the_model(style, name, tmp_path):
    store, text = Originals(tmp_path / "o.sqlite"), TEXTS["json"]
    talk = [{"role": "user", "content": "n17?"}, call(style, "c", "q", {}), result(style, "c", text)]
    key = short(talk, tools=[], originals=store, style=style).changes[0].key
    talk += [call(style, "d", name, {"id": key}), result(style, "d", retrieve.answer(store, {"id": key}))]
    found = short(talk, tools=[], originals=store, style=style)
    assert [c.why for c in found.changes] == ["", "brought back"]
    assert found.messages[3:] == talk[3:]


def test_without_the_tool_no_mark_has_an_id():
    found = short(conversation("chat"))
    assert found.tools is None
    assert ", id " not in json.dumps(found.messages, ensure_ascii=False)


def test_the_store_is_bounded(tmp_path):
    store = Originals(tmp_path / "o.sqlite", most_bytes=1000)
    keys = [store.put(f"{i}" * 300) for i in range(9)]
    assert len(store) == 3
    assert store.get(keys[0]) is None
    assert store.get(keys[-1]) == "8" * 300
    assert store.put("x" * 5000)
    old = Originals(tmp_path / "p.sqlite", most_days=-1)
    old.put("a")
    old.put("b")
    assert len(old) <= 1


@pytest.mark.parametrize(
    "odd",
    [
        [None, 3, "x", []],
        [{"role": "tool"}, {"role": "tool", "content": None}, {"role": "user", "content": [1, None]}],
        [{"role": "assistant", "tool_calls": [None, {"id": 1}]}, {"type": "function_call_output", "output": {"a": 1}}],
        [{"role": "tool", "tool_call_id": "gone", "content": "\udcff lone " * 60}],
    ],
)
def test_odd_messages_pass(odd):
    for every in (None, 1):
        assert (
            len(short([*odd, *odd, {"role": "user", "content": "a"}], older_every=every).messages) == 2 * len(odd) + 1
        )


def test_notebooks_show_what_happened():
    shown = short(conversation("chat"))._repr_html_()
    assert "<table>" in shown
    assert "kept by name" in short(conversation("chat"), keep=["*"])._repr_html_()


@dataclass
class Message:
    role: str
    content: str


def test_a_pipeline_names_what_is_for_messages():
    one = {"role": "user", "content": "a"}
    for given in (
        one,
        [one],
        ("text", one),
        (one for _ in range(2)),
        short([one]),
        Message("user", "a"),
        [Message("", "")],
    ):
        with pytest.raises(InvalidValue, match="got messages; shorten these with compress_messages"):
            Pipeline(["compress/random"]).compress(given, Words())
    with pytest.raises(InvalidValue, match="compress_messages"):
        inspect.unwrap(RandomUnits.shorten)(RandomUnits(budget=0.5), one, Words())  # past the types that tests check
    for given in (3, None, [b"text"]):
        with pytest.raises(InvalidValue, match="documents: must be texts; got"):
            Pipeline(["compress/random"]).compress(given, Words())
    texts = (t for t in ("a b", "c d"))
    assert Pipeline(["compress/random:budget=0.5"]).shorten(texts, Words()).tokens_in == 4


def test_wrong_use_is_said():
    with pytest.raises(InvalidValue, match="must be a list of messages"):
        compress_messages("hello")
    with pytest.raises(Incompatible, match="use compressors"):
        compress_messages([], use="window")


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (
            {"type": "custom_tool_call", "call_id": "c", "name": "read_file", "input": "a.log"},
            {"type": "custom_tool_call_output", "call_id": "c"},
        ),
        (
            {"role": "assistant", "function_call": {"name": "read_file", "arguments": '{"path": "a.log"}'}},
            {"role": "function", "name": "read_file"},
        ),
        ({"role": "assistant", "content": "cut off"}, {"role": "tool", "tool_call_id": "c", "name": "read_file"}),
    ],
)
def test_a_tool_is_known_by_its_name_in_every_form_of_a_call(call, result):
    field = "output" if "call_id" in result else "content"
    messages = [{"role": "user", "content": "n17"}, call, {**result, field: TEXTS["json"]}]
    short = compress_messages(messages, tokenizer=Words(), floor=50, keep=["read_*"])
    assert [(c.tool, c.why) for c in short.changes] == [("read_file", "kept by name")]
    assert compress_messages(messages, tokenizer=Words(), floor=50).tokens_out < short.tokens_out
