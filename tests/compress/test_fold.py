"""Folding: every character comes back, no text gets longer, and what is left of a folded text can be read."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.test_shorten import RECORDS, TEXTS, Words
from tokenry.compress.fold import Fold
from tokenry.compress.folding.folded import fold, is_folded, unfold
from tokenry.compress.kept.shortening import shorten
from tokenry.compress.kept.writing import pieces, written
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.folded import Folded
from tokenry.core.registry import parse

LOG = TEXTS["log"]
TRACE = LOG[LOG.index("2026-11-30 10:01:00") :]
TWICE = {
    "log": LOG,
    "trace": (LOG + TRACE.replace("gone", "lost and never seen again, nor was it ever heard of in any of the logs"))
    * 3,
    "crlf": LOG.replace("\n", "\r\n"),
    "document": (TEXTS["markdown"] + TEXTS["prose"]) * 2,
    "json": TEXTS["json"],
    "indented": TEXTS["json indented"],
    "tabs": json.dumps({"a": RECORDS, "b": [RECORDS, {}]}, indent="\t"),
    "json lines": TEXTS["json lines"],
    "two heads": json.dumps(RECORDS[:9] + [{"é": '"~1"', "k": {"l": None, "m": {}}}] * 5, ensure_ascii=False),
    "wide": json.dumps({"x" * 2500: 1, "rows": RECORDS}),
}
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["2026-11-30 10:00:00 INFO a 1", "~1: a", "~(1", "", "\r", "{}", " ", "x" * 210, "~", "^", "[folded"]
        ),
        st.builds(
            "2026-11-30 10:00:{:02d} INFO step {} of {:x} {}".format, *[st.integers(0, 99)] * 3, st.text(max_size=4)
        ),
        st.text(st.characters(), max_size=12),
    ),
    max_size=40,
).map("\n".join)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["~1", ":_", "_"])
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", ":_,", "\0", "~"]), inner, max_size=3)
    ),
    max_leaves=25,
)


def of_the_same_keys(rows):
    return [dict(zip(("id", "in", "~1"), (r, {"a": r}, 0), strict=True)) for r in rows]


@pytest.mark.parametrize("name", TWICE)
def test_what_is_said_twice_is_said_once(name):
    text = TWICE[name]
    found = fold(text)
    assert is_folded(found)
    assert unfold(found) == text
    assert len(found) < len(text)
    assert fold(found) == found
    assert isinstance(kind_of(found), Folded)


@settings(max_examples=150, deadline=None)
@given(LINES, st.integers(1, 3))
def test_every_line_comes_back(text, times):
    text = "\n".join([text] * times)
    assert is_folded(text) or unfold(fold(text)) == text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(VALUES, max_size=6),
    st.sampled_from([None, 1, 2, "\t"]),
    st.booleans(),
    st.sampled_from(["", "\n", "\n\n"]),
)
def test_every_record_comes_back(values, indent, ascii, end):
    for value in (values, {"a": of_the_same_keys(values), "b": values}, of_the_same_keys(values)):
        text = json.dumps(value, indent=indent, ensure_ascii=ascii) + end
        assert unfold(fold(text)) == text
        dense = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii)
        assert unfold(fold(dense)) == dense
    lines = "\n".join(json.dumps(v) for v in [*values, *of_the_same_keys(values)]) + end
    assert unfold(fold(lines)) == lines


@pytest.mark.parametrize("name", [*TEXTS, *TWICE])
def test_never_longer_and_nothing_left_out(name):
    text = {**TEXTS, **TWICE}[name]
    found = Fold().shorten(text, Words())
    assert unfold(found.text) == text
    assert found.tokens_out == Words.count(found.text) <= found.tokens_in == Words.count(text)
    assert not found.left_out
    assert found.text == text or found.tokens_out <= 0.95 * found.tokens_in


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_can_be_read(name, seed):
    """Lines that stay are those of the source that no mark counts, and tables have their heads."""
    text, rng = TWICE[name], random.Random(seed)
    found = fold(text)
    cut = Folded().cut(found)
    kept = cut.with_parents(np.array([rng.random() < (seed + 1) / 6 for _ in range(len(cut))], dtype=bool))
    left = written(pieces(found, cut, kept))
    again = unfold(left)
    if name not in ("json", "indented", "tabs", "json lines", "two heads", "wide"):
        marks = [line for line in again.split("\n") if line.lstrip().startswith("[")]
        lines = [line for line in again.split("\n") if line not in marks]
        every = iter(text.split("\n"))
        assert all(line in every for line in lines), "what stays stands in its order, as it was"
    else:
        assert kept[cut.parent[kept & (cut.parent >= 0)]].all()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", TWICE)
def test_budgets_hold_behind_a_fold(name, share):
    text = TWICE[name]
    folded = Fold().shorten(text, Words()).text
    for use in (f"compress/random:budget={share}", f"lexical_relevance:budget={share},units=auto"):
        method = parse(use)
        found = method.shorten(folded, Words(), "why is n17 gone?")
        assert Words.count(found.text) == found.tokens_out <= method.budget.count(Words.count(folded))
    found = Fold(budget=share).shorten(text, Words())
    assert found.tokens_out <= Fold(budget=share).budget.count(Words.count(text))


def test_a_question_finds_what_templates_hold():
    text = LOG + "".join(f"2026-11-30 11:00:{i:02d} WARN disk {i} is almost full\n" for i in range(30))
    folded = Fold().shorten(text, Words()).text
    assert "disk {}" in folded
    assert folded.count("disk") == 1
    left = parse("lexical_relevance:budget=0.5").shorten(folded, Words(), "which disk is full?").text
    assert unfold(left).count("is almost full") > 10
    assert TRACE in unfold(left)


CHECK = (
    "    if not found:\n"
    '        raise ValueError("must have been given at least one value for this to work, but got nothing at all")\n'
    "        stop(found)\n    total = sum(found)\n"
)
NAMES = "apple pear plum wolf sun moon sea rain".split()
REPEATS = "import os\n" + "".join(
    f'\n\ndef take_{name}(value):\n    """Take {name}."""\n    found = []\n    for i in range({i}):\n'
    f"        found.append(value * {i})\n{CHECK}    return total + {i}\n"
    for i, name in enumerate(NAMES)
)


def test_folded_code_keeps_its_definitions():
    """What stays of a function stays below its head, and a function that is asked for is found by its name."""
    folded = Fold().shorten(REPEATS, Words()).text
    assert folded.count("stop(found)") == 1
    for share in (0.25, 0.5):
        use = parse(f"lexical_relevance:budget={share},units=auto")
        assert "def take_wolf(value):" in use.shorten(folded, Words(), "What does take_wolf return?").text
    cut, rng = Folded().cut(folded), random.Random(0)
    for _ in range(20):
        kept = cut.with_parents(np.array([rng.random() < 0.3 for _ in range(len(cut))], dtype=bool))
        said = [line for line in unfold(written(pieces(folded, cut, kept))).split("\n") if line.strip()]
        name = ""
        for line in said:
            name = line.partition("take_")[2].partition("(")[0] or name
            assert f'"""Take {name}."""' in line or '"""' not in line
            i = re.search(r"range\((\d)\)|total \+ (\d)", line)
            assert i is None or NAMES[int(i[1] or i[2])] == name


def test_marks_of_folded_code_count_lines():
    folded = Fold().shorten(REPEATS, Words()).text
    left = parse("compress/random:budget=0.4").shorten(folded, Words()).text
    assert "lines" in left
    assert "rows" not in left
    said = {n for a, b in re.findall(r"lines (\d+)–(\d+)", left) for n in range(int(a), int(b) + 1)}
    said |= {int(n) for n in re.findall(r"line (\d+)\b(?!–)", left)}
    there = set(unfold(left).split("\n"))
    missing = {i for i, line in enumerate(REPEATS.split("\n"), 1) if line.strip() and line not in there}
    assert missing <= said


def test_what_is_protected_is_not_folded():
    found = shorten(Fold(), LOG, Words(), protect=[(0, 9)])
    assert found.text == LOG
