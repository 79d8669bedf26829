"""Units are worth something for what they stand under, beside, and what that is called."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compress.code_samples import CODE
from tests.compress.test_shorten import Words
from tokenry.compress.lexical_relevance import LexicalRelevance
from tokenry.compress.parts.auto import Auto
from tokenry.compress.parts.code import Code
from tokenry.compress.parts.kind import Sentence
from tokenry.compress.scores.context import in_context
from tokenry.compress.units.page import TextPage
from tokenry.core.registry import parse

PROSE = "Rain fell. The wolf slept. It was Olympus. Nobody came. The end."
NAMES = {"copy_all": "sort", "copy": "reverse", "copy_none": "clear"} | {f"keep{i}": "pop" for i in range(9)}
PYTHON = "\n\n".join(
    f'def {name}(copies):\n    """A copy of copies."""\n    new = list(copies)\n    new.{verb}()\n    return new\n'
    for name, verb in NAMES.items()
)
ROWS = "a,b\n" + "".join(f"{i},x\n" for i in range(30))


def scores(text, ask, **fields):
    method = LexicalRelevance(units=Auto(), **fields)
    return method.scores(TextPage(text, Auto().cut(text)), ask, None)


def test_neighbours_and_parents_by_their_formula():
    cut = Auto().cut("# A\n\nOne.\n\nTwo.\n\n# B\n\nThree.\n\nFour.\n")
    own = np.array([4.0, 0.0, 2.0, 1.0, 0.0, 0.0])
    found = in_context(own, cut, beside=0.5, above=0.5)
    # Headings stand beside each other, paragraphs beside those under the same heading.
    assert found.tolist() == [4.5, 1 + 2.25, 2 + 2.25, 3.0, 1.5, 1.5]
    assert in_context(own, cut, beside=0.0, above=0.0).tolist() == own.tolist()


def test_what_stands_beside_a_match_comes_next():
    found = LexicalRelevance(budget=0.4).shorten(PROSE + " Night came." * 20, Words(), "What did the wolf do?")
    assert "The wolf slept. It was Olympus." in found.text


@pytest.mark.parametrize(
    "text", ["a,b\n" + "".join(f"{i},x\n" for i in range(30)), str([{"a": 1}] * 9).replace("'", '"')]
)
def test_rows_and_records_know_nothing_of_each_other(text):
    assert (scores(text, "7 or 8?") > 0).sum() <= 2


def test_a_function_that_is_asked_for_by_name_is_kept_whole():
    found = parse("lexical_relevance:budget=0.25,units=auto").shorten(PYTHON, Words(), "What does copy do?")
    start = PYTHON.index("def copy(")
    assert PYTHON[start : PYTHON.index("def copy_none")].strip() in found.text


@pytest.mark.parametrize("language", CODE)
def test_definitions_have_their_names(language):
    cut = Code(language=language).cut(CODE[language])
    for unit, title in cut.titles.items():
        assert title in CODE[language][cut.start[unit] : cut.reach[unit]]
    assert language in ("bash", "json") or cut.titles


def test_sentences_of_tokens_have_neighbours_too():
    from tests.compress.compress_rows import batch

    near = LexicalRelevance(units=Sentence()).rank(batch(PROSE), "wolf").scores[0]
    assert near[1] > near[0] == near[2] > near[3] == 0
