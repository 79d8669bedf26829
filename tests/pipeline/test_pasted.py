"""Documents that users paste are told from what they say, and what they say is never cut."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.test_shorten import TEXTS
from tests.pipeline.test_message_rules import PROSE, at, said, short
from tests.pipeline.test_messages import KINDS
from tokenry.pipeline.messages.pasted import pasted, spans, words

TEXT = TEXTS["prose"]


def found_in(text):
    return [text[a:b] for a, b in spans(text)]


@pytest.mark.parametrize(
    "text",
    [
        f"Look:\n\n```text\n{TEXT}\n```\nWhat is n17?",
        f"~~~~\n{TEXT}\n~~~~~\n\nWhat is n17?",
        f"Look:\r\n```\r\n{TEXT}\n```\r\nWhat is n17?",
        f"<document>\n{TEXT}\n</document>\n\nWhat is n17?",
        f'Look: <file path="a.txt">{TEXT}</file> What is n17?',
        f"<documents><document index='1'><source>a</source><document_content>\n{TEXT}\n</document_content></document>"
        "</documents>What is n17?",
    ],
)
def test_what_is_set_apart_is_a_document(text):
    assert found_in(text) == [TEXT]


@pytest.mark.parametrize("name", ["json", "json indented", "csv", "markdown table"])
@pytest.mark.parametrize("frame", ["{}", "Look at this:\n{}", "Look.\n\n{}\n\nWhat is n17?", "{}\nWhat is n17?"])
def test_what_no_person_types_is_a_document(name, frame):
    text = frame.format(TEXTS[name])
    (document,) = found_in(text)
    assert document.strip() == TEXTS[name].strip()
    assert words({"role": "user", "content": text}).split() == frame.replace("{}", "").split()


@pytest.mark.parametrize("frame", ["{}", "Look at this:\n{}", "Look.\n\n{}\n\nWhat is n17?", "{}\nWhat is n17?"])
def test_of_a_log_what_may_be_words_is_none_of_it(frame):
    (document,) = found_in(frame.format(TEXTS["log"]))
    assert document == TEXTS["log"].removesuffix("IndexError: gone\n")


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        f"{PROSE}\n\n{PROSE}",
        "".join(f"{i}. First do this, then that, and leave the rest alone.\n" for i in range(200)),
        "# What I want\n\n" + "## A part\n\n- this\n- and that, at length\n\n" * 60,
        f"```\n{TEXT}",
        f"<document>\n{TEXT}",
        f"<documentation>{TEXT}</documentation>",
        "`" * 3 + "a" + "`" * 3 + PROSE,
        "short ```\nx\n``` text",
    ],
)
def test_what_people_say_is_no_document(text):
    assert found_in(text) == []


def test_parts_for_documents():
    texts = {"type": "content", "content": [{"type": "text", "text": TEXT}, {"type": "image", "source": {}}]}
    parts = [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TEXT}},
        {"type": "document", "source": texts},
        {"type": "document", "source": {"type": "text", "data": TEXT}, "citations": {"enabled": True}},
        {"type": "document", "source": {"type": "base64", "data": "AAAA" * 999}},
        {"type": "input_file", "file_data": "AAAA" * 999},
        {"type": "text", "text": "What is n17?"},
    ]
    found = list(pasted({"role": "user", "content": parts}))
    assert [path for path, _, _ in found] == [
        ("content", 0, "source", "data"), ("content", 1, "source", "content", 0, "text"),
    ]  # fmt: skip
    assert {text for _, _, text in found} == {TEXT}
    assert not list(pasted({"role": "assistant", "content": f"```\n{TEXT}\n```"}))


@pytest.mark.parametrize("style", KINDS)
def test_a_document_is_cut_in_older_turns_alone(style):
    text = TEXTS["json"]
    talk = [said(style, f"What is n17?\n\n```json\n{text}\n```\n\nBe brief."), {"role": "assistant", "content": "So."}]
    talk += [said(style, "And n3?"), {"role": "assistant", "content": "So."}, said(style, "And n4?")]
    assert short(talk).messages == talk
    assert short(talk[:1], older_every=1).messages == talk[:1]
    assert short(talk[:3], older_every=1).messages == talk[:3]
    found = short(talk, older_every=1)
    (change,) = found.changes
    assert (change.tool, change.older, change.kind) == ("pasted document", True, "json")
    left = at(found.messages, change.path)
    assert left.startswith("What is n17?\n\n```json\n")
    assert left.endswith("\n```\n\nBe brief.")
    assert '"n17"' in json.dumps(json.loads(left.split("```")[1].removeprefix("json")))
    assert found.messages[1:] == talk[1:]


def test_a_document_alone_is_cut_by_the_question_that_follows():
    talk = [said("chat", TEXTS["json"]), said("chat", "What is n23?"), said("chat", "Thanks."), said("chat", "Bye.")]
    left = short(talk, older_every=1).messages
    assert '"n23"' in left[0]["content"]
    assert left[1:] == talk[1:]


def test_originals_of_documents_come_back(tmp_path):
    from tokenry.pipeline.messages.originals import Originals

    store = Originals(tmp_path / "o.sqlite")
    text = TEXTS["log"].rstrip("\n")
    talk = [said("chat", f"What broke?\n\n```\n{text}\n```"), said("chat", "And now?"), said("chat", "And then?")]
    (change,) = short(talk, older_every=1, tools=[], originals=store).changes
    assert store.get(change.key) == text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from((
    "```\n", "~~~\n", "````", "<document>", "</document>", "<document_content>", "<file a='b'>", "</file>", "\n\n", "{",
    "a b. ", "````\n", TEXTS["csv"][:300], "\r\n", "\ud800",
    "a::b\u2028 PASSED\n" * 30, "12:00:00 a\x85b\x0c\n" * 40, PROSE[:450],
)), max_size=12))  # fmt: skip
def test_documents_lie_inside_and_apart(pieces):
    text = "".join(pieces)
    at = 0
    for start, end in spans(text):
        assert at <= start < end <= len(text)
        at = end


@pytest.mark.parametrize(
    "piece",
    [
        "<document>", "```\n", "~~~~\n", "<document><document_content>", "{", "\n\n", "````\n```\n~~~\n<file>",
        "<document>\n```\n", "1, ", "a::b ",
    ],
)  # fmt: skip
def test_hostile_turns_take_no_time(piece):
    text = piece * (200_000 // len(piece)) + "</document>"
    start = time.process_time()
    spans(text)
    assert time.process_time() - start < 5
