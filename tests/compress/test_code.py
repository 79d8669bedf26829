"""Code: what is left parses in every language, statements stand under what holds them, and marks are comments."""

from __future__ import annotations

import random
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest

from tests.compress.code_samples import CODE
from tests.compress.test_shorten import Words
from tokenry.compress.kept.writing import pieces, written
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.code import Code
from tokenry.core.registry import parse

pytest.importorskip("tree_sitter_python", reason="the extra `code` is not installed")


@pytest.mark.parametrize("language", CODE)
def test_what_is_left_parses_in_every_language(language):
    text = CODE[language]
    kind = kind_of(text)
    assert isinstance(kind, Code)
    cut = kind.cut(text)
    assert cut.kinds[0].language == language
    assert cut.has_children.any()
    for ends in ("\n", "\r\n"):
        text = CODE[language].replace("\n", ends)
        cut = kind.cut(text)
        for seed in range(12):
            rng = random.Random(seed)
            kept = np.array([rng.random() < seed / 12 for _ in range(len(cut))], dtype=bool)
            left = written(pieces(text, cut, cut.with_parents(kept)))
            assert cut.kinds[0].valid(left), left
            assert ends == "\r\n" or "\r" not in left


def test_a_guard_is_never_left_out_without_a_mark():
    text = CODE["python"] + dedent('''
        def quote(s):
            """Return a shell-escaped version."""
            if not s:
                return "''"
            if find_unsafe(s) is None:
                return s

            # use single quotes
            return "'" + s.replace("'", "''") + "'"
        ''')
    found = parse("lexical_relevance:budget=0.1,units=auto,guard=false,above=0.0,beside=0.0").shorten(
        text, Words(), "replace quotes in s"
    )
    start = found.text.index("def quote(s):")
    quote = found.text[start:]
    number = text[: text.index("    if not s:")].count("\n") + 1
    assert quote.startswith(
        f'def quote(s):\n    """Return a shell-escaped version."""\n    # … lines {number}–{number + 4}\n'
    )
    compile(found.text, "left", "exec")


def test_what_stands_for_a_body_does_nothing():
    text = "import os\n\n\ndef f(a):\n    b = a + 1\n    c = b + 1\n    d = c + 1\n    return d\n\n\nx = f(1)\n"
    cut = Code().cut(text)
    kept = np.array([t.startswith(("def", "x")) for t in cut.texts(text)])
    assert written(pieces(text, cut, kept)) == (
        "# lines 1–3 left out; the source is unchanged\ndef f(a):\n    ...  # … lines 5–8\n\n\nx = f(1)\n"
    )


@pytest.mark.parametrize(
    "text", ["def f(:\n  x\nimport os\n" * 9, "class A {", "", "\ud800 def f(): pass", "fi\ndone\n(" * 9]
)
def test_what_does_not_parse_is_cut_by_lines(text):
    assert not Code().is_one(text)
    assert Code().cut(text).kinds[0].name() == "lines"
    assert kind_of(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Import costs rose. Then we let it be.\n\nReturn to it? If so, for a while.\n" * 9,
        "for a while\nif it is\nwith me\n" * 9,
    ],
)
def test_prose_is_no_code(text):
    assert not Code().is_one(text)


def test_without_the_grammars_code_is_cut_by_lines():
    program = (
        "import sys; sys.modules['tree_sitter'] = None\n"
        "from tests.compress.code_samples import CODE; from tokenry.compress.parts.auto import kind_of\n"
        "assert all(kind_of(t).name() != 'code' for t in CODE.values())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
