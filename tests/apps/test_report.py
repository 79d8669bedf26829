"""The report page is whole and safe: its data comes back, it loads nothing, and text stays text."""

from __future__ import annotations

import copy
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apps.traces import HOSTILE, Elements, a_trace, bare_trace, data_of, hostile_trace, words
from tokenry.core.errors import StorageError
from tokenry.data import read
from tokenry.report.page import render, write


@pytest.fixture(scope="module")
def trace() -> dict[str, Any]:
    return a_trace()


@pytest.fixture(scope="module")
def page(trace: dict[str, Any]) -> str:
    return render(trace)


def test_loads_nothing(page: str) -> None:
    seen = Elements(page)
    for tag, attributes in seen.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), f"<{tag} {name}={value!r}>"
    own = "".join(text for name, text in seen.scripts.items() if name != "trace")
    for load in ("http://", "https://", "@import", "url(", "fetch(", "XMLHttpRequest", "import("):
        assert load not in own
    policy = next(a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_data_comes_back_whole(trace: dict[str, Any], page: str) -> None:
    data = data_of(page)
    for key in ("schema", "model", "ask", "pipeline", "documents", "answer", "recovered", "receipt", "dense"):
        assert data[key] == trace[key], key
    assert "".join(data["documents"][0]["tokens"]) == read("sotu_1975")
    assert data["steps"][0]["kept"] == trace["steps"][0]["kept"]
    assert data["steps"][1]["kept"] is None
    np.testing.assert_allclose(data["steps"][0]["importance"], trace["steps"][0]["importance"], atol=1 / 255)
    np.testing.assert_allclose(data["reads"]["counts"], trace["reads"]["counts"], atol=1 / 255)


def test_what_was_read_once_is_not_called_unread() -> None:
    trace = a_trace("one two three")
    trace["reads"] = {"layers": 1, "steps": 5000, "counts": [[[1e-4, 0, 0.5]]]}
    column = data_of(render(trace))["reads"]["counts"][0][0]
    assert column[0] > 0
    assert column[1] == 0


def test_hostile_text_stays_text(page: str) -> None:
    trace = hostile_trace()
    hostile = render(trace)
    whole = HOSTILE.replace("\ud800", "\ufffd")  # half a character is no text: the page shows that it was one
    assert data_of(hostile)["answer"] == whole
    assert "".join(data_of(hostile)["documents"][0]["tokens"]) == whole
    assert hostile.encode("utf-8")

    def skeleton(page: str) -> Counter[str]:
        return Counter(
            tag for tag, _ in Elements(page).tags if tag in ("script", "img", "style", "link", "meta", "body")
        )

    assert skeleton(hostile) == skeleton(page)
    assert not [a for _, a in Elements(hostile).tags if any(name.startswith("on") for name in a)]
    assert "{{ 7*7 }}" in Elements(hostile).text


def test_size_is_bounded() -> None:
    text = " ".join(read(name) for name in ("sotu_1975", "sotu_1930"))
    trace = a_trace("".join(words(text)[:6000]))
    assert len(trace["documents"][0]["tokens"]) == 6000
    assert len(render(trace).encode("utf-8")) < 1_000_000


def test_render_leaves_the_trace_alone(trace: dict[str, Any]) -> None:
    before = copy.deepcopy(trace)
    assert render(trace) == render(trace)
    assert trace == before


def test_a_bare_trace_is_drawn() -> None:
    seen = Elements(render(bare_trace()))
    assert "No question was asked" in seen.text
    assert "No method ran" in seen.text
    assert not [tag for tag, _ in seen.tags if tag == "polyline"]


def test_arrays_are_taken_as_lists(trace: dict[str, Any], page: str) -> None:
    arrays = copy.deepcopy(trace)
    arrays["steps"][0]["kept"] = [np.array(column) for column in trace["steps"][0]["kept"]]
    arrays["reads"]["counts"] = np.array(trace["reads"]["counts"])
    arrays["receipt"]["read_per_step"] = np.array(trace["receipt"]["read_per_step"])
    arrays["receipt"]["flops"] = np.float64(trace["receipt"]["flops"])
    assert data_of(render(arrays))["receipt"] == data_of(page)["receipt"]


def test_overlapping_citations_are_cut_once() -> None:
    trace = a_trace("one two three four five six")
    trace["answer"] = "abcdefghij"
    passage = trace["recovered"][0]
    spans = ([4, 8], [2, 5], [9, 99], [8, 8])
    trace["recovered"] = [{**passage, "answer": span, "tokens": [0, n]} for n, span in enumerate(spans)]
    page = render(trace)
    assert [text for text in re.findall(r'class="cite"[^>]*>(\w*)<sup>', page)] == ["cde"]
    assert page.count("<q>") == 4


def test_a_passage_that_is_repeated_is_listed_once() -> None:
    trace = a_trace("one two three four five six")
    trace["answer"] = "abcdefghij"
    passage = trace["recovered"][0]
    places = (([0, 2], [3, 4]), ([3, 5], [0, 1]), ([6, 8], [3, 4]))
    trace["recovered"] = [{**passage, "answer": span, "tokens": tokens} for span, tokens in places]
    page = render(trace)
    assert re.findall(r'class="cite"[^>]*>(\w*)<sup>(\d)', page) == [("ab", "1"), ("de", "2"), ("gh", "1")]
    assert page.count("<q>") == 2


def test_fields_of_methods_may_hold_commas() -> None:
    trace = a_trace("one two three")
    trace["pipeline"] = ["frugal_prompt:budget=0.5,attribution=decompx(layer=3,norm=true)"]
    text = " ".join(Elements(render(trace)).text.split())
    assert "attribution decompx(layer=3,norm=true)" in text


def test_write(trace: dict[str, Any], page: str, tmp_path: Path) -> None:
    write(trace, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_bytes() == page.encode("utf-8")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write(trace, tmp_path / "file" / "report.html")
