"""What the studio's page asks the server: tasks, refusals, and who may call it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.apps.traces import data_of
from tests.compress.test_shorten import TEXTS
from tests.pipeline.test_messages import call, result
from tokenry.apps.studio import again
from tokenry.apps.studio.app import Studio, mount
from tokenry.apps.studio.cards import cards
from tokenry.apps.studio.task import MOST_TEXT, Task
from tokenry.core.described import check
from tokenry.core.errors import InvalidValue, UnknownMethod
from tokenry.report.page import render

TEXT = "The corporate tax rate falls. Nobody spoke of the weather. Taxes were high in Oslo, said 日本の😀 minister."
HOME = "http://127.0.0.1"


@pytest.fixture
def client(smollm2):
    return TestClient(Studio().app(), base_url=HOME)


def told(client, **task):
    """What came last, and all before it."""
    reply = client.post("/api/run", json=task)
    assert reply.status_code == 200, reply.text
    *before, last = map(json.loads, reply.text.splitlines())
    return last, before


def test_a_text_becomes_tokens(client):
    last, _ = told(client, text=TEXT, reader="smollm2")
    found = last["result"]
    assert found["kind"] == "text"
    tokens = found["trace"]["documents"][0]["tokens"]
    assert len(tokens) == len(found["ids"]) == len(found["bytes"])
    raw = [t.encode() or bytes.fromhex(found["shown"][str(i)].strip("⟨⟩")) for i, t in enumerate(tokens)]
    assert b"".join(raw).decode() == TEXT
    assert found["shown"], "some tokens hold parts of characters"
    assert found["command"] == "tokenry encode input.txt --tokenizer smollm2 --html tokens.html"


def test_a_method_leaves_tokens_out(client):
    last, _ = told(
        client, text=TEXT, ask="tax rate", reader="smollm2", methods=["compress/lexical_relevance:budget=0.4"]
    )
    trace = last["result"]["trace"]
    kept = trace["steps"][0]["kept"][0]
    assert 0 < sum(kept) == trace["receipt"]["steps"][0]["tokens_out"] < len(kept)
    assert len(trace["steps"][0]["importance"][0]) == len(kept) == len(last["result"]["ids"])
    assert trace["receipt"]["flops"] is None
    assert len(data_of(render(trace))["documents"][0]["tokens"]) == len(kept)


def test_an_answer_comes_in_pieces(small):
    client = TestClient(Studio([str(small)]).app(), base_url=HOME)
    last, before = told(
        client, text=TEXT, ask="tax?", reader=str(small), methods=["attend/token_select:budget=8"], answer=True,
        max_new=5,
    )  # fmt: skip
    trace = last["result"]["trace"]
    assert "".join(b["piece"] for b in before if "piece" in b).strip() == trace["answer"].strip()
    assert any("progress" in b for b in before)
    assert trace["reads"]["layers"] == len(trace["reads"]["counts"])
    near = client.post("/api/neighbours", json={"reader": str(small), "id": last["result"]["ids"][0]}).json()
    cosines = [n["cosine"] for n in near["neighbours"]]
    assert cosines == sorted(cosines, reverse=True)
    assert client.post("/api/neighbours", json={"reader": str(small), "id": -1}).status_code == 400


def test_messages_get_shorter(client):
    messages = [
        {"role": "user", "content": "Which is the last?"},
        call("chat", "c", "look", {}),
        result("chat", "c", TEXTS["json"] * 3),
    ]
    last, _ = told(client, kind="messages", messages=messages, reader="smollm2")
    found = last["result"]
    [change] = found["changes"]
    assert found["tokens_out"] == change["tokens_out"] < change["tokens_in"]
    assert len(change["tokens"]) == len(change["kept"]) == len(change["ids"]) == change["tokens_in"]
    assert 0 < sum(change["kept"]) < len(change["kept"])


def test_a_picture_and_a_sound_become_boxes(client, photo, speech):
    for kind, file in (("picture", photo), ("sound", speech)):
        data = base64.b64encode(file.read_bytes()).decode()
        found = told(client, kind=kind, data=data, name=file.name)[0]["result"]
        assert found["count"] == len(found["ids"])
        assert found["boxes"]
        assert found["data"].startswith("data:")
        assert found["again"].startswith("data:")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"text": " \n"}, "text: must hold something"),
        ({"text": "a" * (MOST_TEXT + 1)}, "at most 8 MB"),
        ({"text": "a", "methods": "x"}, "methods: must be a list"),
        ({"text": "a", "max_new": 0}, "max_new: must be"),
        ({"text": "a", "max_new": True}, "max_new: must be"),
        ({"text": "a", "answer": 1}, "answer: must be"),
        ({"text": 3}, "text: must be a text"),
        ({"text": "a", "key": "secret"}, "has no 'key'"),
        ({"kind": "film"}, "kind: must be one of"),
        ({"kind": "picture", "data": "%"}, "data: must be base64"),
        ({"text": "a\ud800"}, "half of a surrogate pair"),
        ({"kind": "messages", "messages": [{"role": "user", "content": "a\ud800"}]}, "half of a surrogate pair"),
    ],
)
def test_a_wrong_task_is_refused_in_a_sentence(client, task, words):
    body = json.dumps(task)
    reply = client.post("/api/run", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 200, "a browser takes another status for a fault of the page and says so"
    assert words in reply.json()["error"]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"methods": ["nobody"]}, "nobody"),
        ({"methods": ["compress/lexical_relevance:budget=7.5"], "ask": "x"}, "share must be in"),
        ({"methods": ["compress/lexical_relevance"]}, "question"),
        ({"methods": ["attend/token_select"]}, "let the model answer"),
        ({"reader": "/etc/passwd"}, "must be one of"),
        ({"kind": "picture", "data": base64.b64encode(b"no picture").decode()}, "image"),
        ({"kind": "messages", "messages": [1, 2]}, None),
    ],
)
def test_what_cannot_be_done_is_a_sentence(client, task, words):
    last, _ = told(client, **({"text": TEXT, "reader": "smollm2"} | task))
    assert words is None or words in last["error"]
    assert "fault of tokenry" not in last.get("error", "")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8485"}, 421),
        ({"host": "["}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "file://127.0.0.1"}, 403),
        ({"origin": HOME}, 200),
        ({"host": "localhost"}, 200),
        ({"content-type": "text/plain"}, 415),
    ],
)
def test_pages_of_others_may_not_call_it(client, headers, status):
    content = json.dumps({"text": "a", "reader": "smollm2"})
    reply = client.post("/api/run", content=content, headers={"content-type": "application/json"} | headers)
    assert reply.status_code == status
    assert "access-control-allow-origin" not in reply.headers
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_a_key_is_asked_for_where_one_is_set(smollm2):
    client = TestClient(Studio(hosts=(), key="sesame").app(), base_url="http://far.example")
    assert client.get("/").status_code == 200
    assert client.get("/api/cards").status_code == 401
    assert client.get("/api/cards", headers={"x-tokenry-key": "sesame"}).status_code == 200


def test_it_stands_beside_another_server(smollm2):
    app = Starlette(routes=[Route("/healthz", lambda _: PlainTextResponse("ok"))])
    mount(app, "127.0.0.1", ["smollm2"])
    client = TestClient(app, base_url=HOME)
    assert client.get("/healthz").text == "ok"
    assert "tokenry studio" in client.get("/studio").text
    assert client.get("/studio/assets/studio/main.js").status_code == 200
    names = [reader["name"] for reader in client.get("/studio/api/cards").json()["readers"]]
    assert names.count("smollm2") == 1
    assert client.get("/studio/", headers={"host": "evil.example"}).status_code == 421
    with pytest.raises(InvalidValue, match="this machine alone"):
        mount(app, "0.0.0.0")


def test_only_assets_of_the_page_are_read(client):
    assert client.get("/assets/studio/main.js").headers["content-type"].startswith("text/javascript")
    for path in (
        "/assets/studio/index.html",
        "/assets/studio/..%2Fapp.py",
        "/assets/nobody/main.js",
        "/assets/studio/a",
    ):
        assert client.get(path).status_code == 404


def test_a_page_is_written_of_a_trace_and_of_nothing_else(client):
    trace = told(client, text=TEXT, reader="smollm2")[0]["result"]["trace"]
    assert client.post("/api/page", json=trace).text.startswith("<!doctype html>")
    refused = client.post("/api/page", json=trace | {"documents": 3})
    assert refused.status_code == 400
    assert "documents" in refused.json()["error"]


def test_forms_are_drawn_from_cards():
    known = {card["name"]: card for card in cards()}
    fields = {field["name"]: field for field in known["compress/lexical_relevance"]["fields"]}
    assert "a share such as 0.25" in fields["budget"]["allowed"]
    assert fields["guard"]["allowed"] == "true or false"
    assert {name.split("/")[0] for name in known} == {"segment", "compress", "attend", "decode", "signal"}
    for name in known:
        check(name)


def test_methods_of_the_start_are_offered_first(smollm2):
    methods = ["lexical_relevance:budget=0.25", "attend/window"]
    client = TestClient(Studio(methods=methods).app(), base_url=HOME)
    assert client.get("/api/cards").json()["first"] == ["compress/lexical_relevance:budget=0.25", "attend/window"]
    with pytest.raises(UnknownMethod):
        Studio(methods=["lexical_relevanse"])


def test_lines_that_do_it_again_are_whole():
    task = Task.read(
        {"text": "a", "name": "-a b.txt", "ask": "what's up?", "reader": "m", "methods": ["x:a=1"], "answer": True}
    )
    assert again.command(task) == (
        "tokenry run './-a b.txt' --ask 'what'\"'\"'s up?' --model m --use x:a=1 --max-new 64 --report trace.html"
    )
    for kind in ({"text": "a"}, {"kind": "messages", "messages": [1]}, {"kind": "sound", "data": "YQ=="}):
        for methods in ([], ["compress/random"]):
            compile(again.python(Task.read({**kind, "reader": "m", "methods": methods, "ask": "q\n"})), "again", "exec")
    methods = ["compress/self_information", "compress/llmlingua:budget=9"]
    scored = Task.read({"text": "a", "reader": "m", "methods": methods})
    assert "self_information:scorer=m --use compress/llmlingua:budget=9,scorer=m" in again.command(scored)
    judged = Task.read(
        {"text": "a", "reader": "m", "methods": ["attend/window"], "ask": "q", "answer": True, "beside": True}
    )
    assert "--compare dense" in again.command(judged)
    with pytest.raises(InvalidValue):
        Task.read({"text": "a", "methods": ["x"] * 99})


@pytest.mark.parametrize("methods", [["compress/random:budget=0.5,seed=3"], ["compress/self_information:budget=0.25"]])
def test_the_lines_of_python_leave_the_tokens_that_are_shown(small, tmp_path, monkeypatch, methods):
    client = TestClient(Studio([str(small)]).app(), base_url=HOME)
    found = told(client, text=TEXT, reader=str(small), methods=methods)[0]["result"]
    [kept] = found["trace"]["steps"][-1]["kept"]
    monkeypatch.chdir(tmp_path)
    Path("input.txt").write_text(TEXT, encoding="utf-8")
    names = {}
    exec(found["python"], names)
    assert names["ids"] == [i for i, stays in zip(found["ids"], kept, strict=True) if stays]


def test_the_lines_of_python_take_messages_as_they_were_pasted(tmp_path, monkeypatch):
    given = [{"role": "user", "content": "a"}]
    lines = again.python(Task.read({"kind": "messages", "messages": given, "reader": "smollm2"}))
    monkeypatch.chdir(tmp_path)
    for pasted in (given, {"messages": given}, {"input": given}):
        Path("messages.json").write_text(json.dumps(pasted), encoding="utf-8")
        names = {}
        exec(lines, names)
        assert names["shorter"].messages == given


def test_what_is_lost_beside_the_model_alone_is_said(small):
    client = TestClient(Studio([str(small)]).app(), base_url=HOME)
    asked = {"text": TEXT * 3, "reader": str(small), "ask": "Who?", "answer": True, "max_new": 3, "beside": True}
    losses = {}
    for methods in (["compress/random:budget=0.25"], ["compress/random:budget=1.0"], []):
        last, before = told(client, methods=methods, **asked)
        losses[methods[0] if methods else ""] = last["result"]["trace"]["dense"]
        words = {line.get("progress") for line in before}
        assert ("the model alone answers, to say what is lost" in words) == bool(methods)
    strong, whole, none = losses.values()
    assert strong["kl"] > 1e-4
    assert whole["kl"] == pytest.approx(0, abs=1e-5)
    assert whole["top1"] == 1
    assert none is None


def test_tasks_do_not_import_while_others_do():
    """Threads that import modules which need each other get halves of them."""
    lines = """
import sys, threading
from tokenry.apps.studio.shelf import Shelf
from tokenry.apps.studio.task import Task
from tokenry.apps.studio.work import done
shelf = Shelf()
task, said = Task.read({"text": "a b", "reader": shelf.offered()[0]["name"]}), []
works = [shelf.warm, lambda: said.append(done(task, shelf, print))]
threads = [threading.Thread(target=work) for work in works]
with shelf.importing:
    [thread.start() for thread in threads]
    threads[1].join(0.5)
    assert "transformers" not in sys.modules
[thread.join() for thread in threads]
assert said
"""
    ended = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
