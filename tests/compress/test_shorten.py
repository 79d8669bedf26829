"""A text shortened: whole units, marks in their place, never above the budget, and still of its kind."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from tokenry.compress.kept.writing import pieces, written
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.kind import Kind
from tokenry.compress.random import RandomUnits
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse, parse_part

RECORDS = [{"id": i, "name": f"n{i}", "size": i * 1.50, "tags": ["a", "b, c"], "in": {"x": '"q"'}} for i in range(40)]
TEXTS = {
    "json": json.dumps({"took": 3, "results": RECORDS, "next": None}),
    "json indented": json.dumps({"took": 3, "results": RECORDS}, indent=2),
    "json lines": "\n".join(map(json.dumps, RECORDS)) + "\n",
    "json nested": json.dumps({"a": {"b": {"c": RECORDS}, "d": [1, 2, 3]}}),
    "csv": "id,name,note\n" + "".join(f'{i},n{i},"a, b\nc {i}"\n' for i in range(40)),
    "tsv": "id\tname\n" + "".join(f"{i}\tn{i}\n" for i in range(40)),
    "markdown table": "| id | name |\n|---|---|\n" + "".join(f"| {i} | n{i} |\n" for i in range(40)),
    "log": "".join(f"2026-11-30 10:00:{i:02d} INFO w{i % 3} step {i}\n" for i in range(50))
    + '2026-11-30 10:01:00 ERROR broke\nTraceback (most recent call last):\n  File "a.py", line 3\nIndexError: gone\n',
    "prose": " ".join(f"Sentence number {i} says something, and Mr. Smith agrees." for i in range(60)),
    "lines": "".join(f"item{i}\n" for i in range(60)),
    "mixed": "Here it is.\n\n```json\n" + json.dumps(RECORDS) + "\n```\n\nThat was it. " + "More follows. " * 40,
    "markdown": "---\ntitle: a\n---\n\n# One\n\nText under one. It goes on.\nAnd on.\n\n"
    + "".join(
        f"## Part {i}\n\nParagraph {i} says a thing.\n\n- item {i}\n  more of it\n  - inner {i}\n- other\n\n"
        "Under\n=====\n\n"
        f"| a | b |\n|---|---|\n| {i} | x |\n| {i} | y |\n\n" + "Long. It says so. " * 40 + "\n\n"
        for i in range(6)
    )
    + "~~~~\n"
    + json.dumps(RECORDS, indent=1)
    + "\n~~~~\n\nThe end.\n",
    "html": "<!DOCTYPE html>\n<html><head><title>T</title><style>p > a {}</style></head>\n<body>\n<div class='a'>\n"
    + "".join(
        f"<h2>Part {i}</h2>\n<p>Paragraph {i} says <b>a</b> thing.\n<p>Another {i}.</p>text <i>between</i>\n<ul>\n"
        f"<li>one {i}\n"
        f"<li><p>two</p><p>three</p></li></ul><table><tr><td>{i}<td>x</tr><tr><td>b</td></tr></table>\n<!-- <p> -->\n"
        for i in range(12)
    )
    + "</div>\n<script>if (a < b) { '<p>' }</script></body></html>\n",
    "hostile": "\ufeff\r\nA.\r\n\r\nB!\x00 C\u200d.\n\n\n好。好。" + "x" * 5000 + "\n" + "👩\u200d👩. " * 60,
}


class Words:
    """Counts what stands between white space, so that tests need no vocabulary."""

    name = "words"

    @classmethod
    def count(cls, text):
        return len(cls().encode_ordinary_batch([text])[0])

    def encode_ordinary_batch(self, texts, num_threads=1):
        return [re.findall(r"\w+|[^\w\s]", text) for text in texts]


@pytest.fixture(params=TEXTS)
def text(request):
    return TEXTS[request.param]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("units", ["auto", "sentence", "lines", "word"])
def test_never_above_its_budget_and_nothing_rewritten(text, units, share):
    method = RandomUnits(budget=share, units=units, guard=False)
    found = method.shorten(text, Words())
    size = len(Words().encode_ordinary_batch([text])[0])
    assert found.tokens_in == size
    assert found.tokens_out == len(Words().encode_ordinary_batch([found.text])[0]) <= method.budget.count(size)
    assert "".join(p.text for p in found.pieces) == found.text
    at = 0
    for piece in found.pieces:
        assert piece.start == at
        assert piece.mark or piece.text == text[piece.start : piece.end]
        at = piece.end
    assert at == len(text)
    assert share < 1.0 or found.text == text


@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_is_of_the_same_kind(text, seed):
    kind = kind_of(text)
    cut, rng = kind.cut(text), random.Random(seed)
    for share in (0.0, 0.1, 0.5, 0.9):
        kept = np.array([rng.random() < share for _ in range(len(cut))], dtype=bool)
        left = written(pieces(text, cut, cut.with_parents(kept)))
        assert kind.valid(left) or not kind.valid(text)


def test_units_tile_what_they_cut(text):
    cut = parse_part("auto", Kind).cut(text)
    spans = sorted([*zip(cut.start, cut.end, strict=True), *(tuple(t) for t in cut.tail if t[1] > t[0])])
    assert all(a < b for a, b in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_kinds_are_seen():
    seen = {name: str(kind_of(text)).removeprefix("compress/") for name, text in TEXTS.items()}
    assert {seen[n] for n in TEXTS if n.startswith("json")} == {"json"}
    assert seen["csv"] == seen["tsv"] == seen["markdown table"] == "table"
    assert (seen["log"], seen["prose"], seen["lines"]) == ("log", "sentence", "lines")
    assert {seen[n].partition(":")[0] for n in ("mixed", "markdown", "html")} == {"sections"}


@pytest.mark.parametrize(
    ("head", "row", "table"),
    [
        ("", "{}. The worker, which was late, did step {} in time.", False),
        ("", "The worker, which was late, did step {} in time.", False),
        ("", "- Milk, {} eggs", False),
        ("id, name, street\n", "{}, Smith, {}th Avenue", True),
        ("id,name\n", "n{},x{}.", True),
        ("id\tname\n", "{}. a\tb, c.", True),
    ],
)
def test_sentences_with_as_many_commas_are_no_table(head, row, table):
    text = head + "".join(row.format(i, i) + "\n" for i in range(1, 40))
    assert (kind_of(text).name() == "table") is table


@pytest.mark.parametrize(
    "line",
    [
        "tests/a/test_b.py::test_c[{}-x] PASSED   [  3%]",
        "test model::tests::case_{} ... ok",
        "test_case_{} (tests.test_a.TestA.test_case_{}) ... ok",
        "=== RUN   TestCase{}",
        "    --- PASS: TestCase/{} (0.00s)",
        "src/main{}.c:12:3: warning: unused variable ‘x’ [-Wunused-variable]",
        "Requirement already satisfied: package{}>=2 in ./lib (from -r requirements.txt (line 1)) (2.1)",
        "[ 12%] Building C object CMakeFiles/a.dir/a{}.c.o",
    ],
)
def test_what_runs_tests_and_builds_writes_logs(line):
    text = "".join(line.format(i, i) + "\n" for i in range(30))
    assert kind_of(text).name() == "log"
    prose = "Compiling a list takes time. Building [it] does too: test a word ... and go on. " * 30
    assert kind_of(prose).name() == "sentence"


def test_a_failed_test_stays_with_what_was_found():
    """Its source, with the line that failed and what was found, is one piece."""
    text = "".join(f"tests/test_a.py::test_{word} PASSED [ 1%]\n" for word in map(str, range(60)))
    block = (
        "____ test_b ____\n\n    def test_b():\n        value = a()\n>       assert value == 3\n"
        "E       AssertionError: assert 2 == 3\nE         and more\n\n"
    )
    whole = f"{text}=== FAILURES ===\n{block}tests/test_a.py:7: AssertionError\n=== 1 failed, 60 passed in 2s ===\n"
    assert block in parse("lexical_relevance:budget=0.25,units=auto").shorten(whole, Words(), "what broke?").text


def test_an_error_with_its_trace_and_what_stands_around_it_is_all_that_matters():
    found = parse("lexical_relevance:budget=0.25,units=auto").shorten(TEXTS["log"], Words(), "why did it break?")
    left = TEXTS["log"][TEXTS["log"].index("2026-11-30 10:00:47") :]
    assert found.text == "[lines 1–47 left out; the source is unchanged]\n" + left


def test_records_are_whole_and_gaps_are_said():
    found = parse("lexical_relevance:budget=0.1,units=json").shorten(TEXTS["json"], Words(), "the one called n17")
    left = json.loads(found.text)
    assert left["results"] == [
        {"_left_out": "items 1–17; the source is unchanged"}, RECORDS[17], {"_left_out": "items 19–40"},
    ]  # fmt: skip


def test_a_mark_names_the_id_of_the_original():
    from tokenry.compress.kept.shortening import shorten

    found = shorten(RandomUnits(budget=0.2, units="auto"), TEXTS["csv"], Words(), key="ab12")
    assert all("id ab12" in p.text for p in found.pieces if p.mark)


@pytest.mark.parametrize(
    ("tokens", "said"), [(9, "[all left out, id ab12]"), (5, "[all left out]"), (3, "[…]"), (2, "…")]
)
def test_a_mark_that_stands_for_all_names_the_id_where_it_fits(tokens, said):
    from tokenry.compress.kept.shortening import shorten

    assert shorten(RandomUnits(budget=tokens), TEXTS["prose"], Words(), key="ab12").text == said
    assert RandomUnits(budget=9).shorten(TEXTS["prose"], Words()).text == "[all left out]"


def test_nothing_that_matches_is_said():
    found = parse("lexical_relevance:budget=0.25").shorten(TEXTS["prose"], Words(), "zebra")
    assert found.notes == ("nothing in the text matches the question",)
    assert found.text


def test_what_is_protected_stays_or_is_refused():
    from tokenry.compress.kept.shortening import shorten

    low = TEXTS["prose"].index("number 41")
    found = shorten(RandomUnits(budget=0.1), TEXTS["prose"], Words(), protect=[(low, low + 9)])
    assert "number 41 says" in found.text
    with pytest.raises(InvalidValue, match="budget must hold what force=numbers keeps"):
        RandomUnits(budget=0.1, force="numbers").shorten(TEXTS["prose"], Words())


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_words_stay_with_the_numbers_and_negations_of_their_sentence(share):
    said = [
        f"Unit {i} of the plant was {'not ' * (i % 2)}stopped at {i}:30 on that long and rainy day." for i in range(30)
    ]
    found = RandomUnits(budget=share, units="word", seed=3).shorten(" ".join(said), Words())
    kept = np.zeros(len(" ".join(said)), dtype=bool)
    for piece in found.pieces:
        kept[piece.start : piece.end] = not piece.mark
    at = 0
    for sentence in said:
        inside = kept[at : at + len(sentence)]
        for word in re.finditer(r"\b(?:\d[\d:]*|not)\b", sentence):
            assert inside[word.start()] == inside.any()
        at += len(sentence) + 1
    assert 0 < kept.mean() < 1
    loose = RandomUnits(budget=share, units="word", seed=3, guard=False).shorten(" ".join(said), Words())
    assert loose.text != found.text


def test_neither_torch_nor_transformers_is_loaded():
    code = (
        "import sys; from tokenry.core.registry import parse; from tests.compress.test_shorten import Words\n"
        "for use in ('lexical_relevance', 'compress/random'):\n"
        "    parse(use + ':budget=0.5,units=auto').shorten('a b. ' * 99, Words(), 'a')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).returncode == 0
