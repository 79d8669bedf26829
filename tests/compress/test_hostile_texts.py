"""Texts nobody meant to be read: in every kind, units tile, budgets hold, and what was well formed stays so."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.test_shorten import TEXTS, Words
from tokenry.compress.fold import Fold
from tokenry.compress.folding.folded import fold, is_folded, unfold
from tokenry.compress.kept.writing import pieces, written
from tokenry.compress.parts.auto import Auto
from tokenry.compress.parts.code import Code
from tokenry.compress.parts.diff import Diff
from tokenry.compress.parts.folded import Folded
from tokenry.compress.parts.json import Json
from tokenry.compress.parts.kind import Kind, Lines, Sentence, Word
from tokenry.compress.parts.log import Log
from tokenry.compress.parts.sections import Sections
from tokenry.compress.parts.table import Table
from tokenry.compress.random import RandomUnits

DIFF = (
    "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@ x\n a\n-b\n+c\n"
    "@@ -9 +9 @@\n-b\n+c\n\\ No newline at end of file\n"
)
CODE = (
    '"""A."""\nimport os\n\n\nclass A:\n    """B."""\n\n    def f(self):\n        # c\n'
    "        if a:\n            return 1\n        return 2\n"
)
BASES = (*TEXTS.values(), DIFF, CODE * 4, fold(TEXTS["log"]), fold(TEXTS["json"]), "")
KINDS: tuple[Kind, ...] = (
    Auto(), Code(), Diff(), Folded(), Json(), Lines(), Log(), Sections(), Sections(format="html"), Sentence(), Table(),
    Word(),
)  # fmt: skip
ODD = (
    "\ufeff", "\0", "\ud800", "\udcff", "\r\n", "\r", "\u2028", "\x0c", "\x85", "\t", "```\n", "<p>", "</div>", "<!--",
    "| ", "\n@@ -1 +1 @@\n", "# ", "~1 ", "{", "]", '"', "/*", "\n\n\n", "é", "👩\u200d👩", "```",
)  # fmt: skip


@st.composite
def hostile(draw):
    text = draw(st.sampled_from(BASES))
    low = draw(st.integers(0, max(0, len(text) - 1)))
    text = text[low : low + draw(st.integers(0, 1500))] if draw(st.booleans()) else text[:3000]
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(ODD)) + text[at:]
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def check(kind: Kind, text: str, seed: int) -> None:
    cut, rng = kind.cut(text), random.Random(seed)
    spans = sorted([*zip(cut.start, cut.end, strict=True), *(tuple(t) for t in cut.tail if t[1] > t[0])])
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    kept = cut.with_parents(np.array([rng.random() < 0.5 for _ in range(len(cut))], dtype=bool))
    found = pieces(text, cut, kept)
    assert "".join(text[p.start : p.end] for p in found) == text
    assert all(p.mark or p.text == text[p.start : p.end] for p in found)
    used = [cut.parent[kept & (cut.parent >= 0)], *(list(v) for u, v in cut.needs.items() if kept[u])]
    assert all(kept[u].all() for u in used)
    if len(cut.kinds) == 1 and cut.kinds[0].valid(text):
        assert cut.kinds[0].valid(written(found)) or all(p.mark for p in found)


@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 5000 + "x" + "</div></p>" * 5000, "<div></p>" * 5000, "<p>" * 9000, "<!--" * 5000, "<script>" * 5000,
        "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, '"' * 9000, "{" * 9000, "/*" * 9000,
        "def f():\n" * 3000, "".join(" " * i + "if a:\n" for i in range(400)) + " " * 400 + "b()\n",
        "".join(" " * i + "- a\n" for i in range(900)), "# a\n" * 5000, "```\n" * 5001, "a\n===\n" * 3000, "=" * 9000,
        "|" * 9000 + "\n|-|\n" * 2000, "@@ -1 +1 @@\n" * 5000, "--- a\n+++ b\n" * 3000, "~1 a\n" * 5000,
        "\n" * 20000, " " * 20000, "\t\n" * 9000,
    ],
)  # fmt: skip
def test_deep_and_endless_texts_take_no_time(text):
    start = time.process_time()
    for kind in KINDS:
        check(kind, text, 0)
    assert unfold(fold(text)) == text
    assert time.process_time() - start < 8


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=40, deadline=None)
@given(hostile(), st.integers(0, 99))
def test_units_tile_and_what_is_left_is_well_formed(kind, text, seed):
    check(kind, text, seed)


@settings(max_examples=60, deadline=None)
@given(hostile(), st.sampled_from(KINDS), st.sampled_from([0.02, 0.3, 0.7]), st.integers(0, 99))
def test_budgets_hold(text, kind, share, seed):
    method = RandomUnits(budget=share, units=kind, seed=seed)
    found = method.shorten(text, Words())
    assert found.tokens_out == Words.count(found.text)
    assert found.tokens_out <= method.budget.count(found.tokens_in)
    assert "".join(p.text for p in found.pieces) == found.text


@settings(max_examples=60, deadline=None)
@given(hostile())
def test_folding_gives_back(text):
    assert is_folded(text) or unfold(fold(text)) == text
    assert Words.count(Fold().shorten(text, Words()).text) <= Words.count(text)
