"""Which words must survive."""

from __future__ import annotations

import pytest

from tests.compress.compress_rows import batch
from tests.compress.test_compress_units import document
from tokenry.compress.kept.text import text_of
from tokenry.compress.random import RandomUnits
from tokenry.compress.units.keepsakes import KINDS, keepsakes
from tokenry.core.errors import InvalidValue
from tokenry.data import read


def found(text: str, kind: str) -> list[str]:
    words = document(text, "word")
    return [t for t, keep in zip(words.texts_of(words.words), keepsakes(words, (kind,)), strict=True) if keep]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("numbers", "It fell -3.5 % to $1,250.75 in all.", ["-3.5", "%", "$1,250.75"]),
        ("numbers", "59 million on March 4, 1975, at 5 p.m.", ["59", "million", "March", "4,", "1975,", "5", "p.m."]),
        ("numbers", "No digits, two words.", []),
        ("names", "The town of New Bedford thanked Anna. She left for NASA.", ["New", "Bedford", "Anna.", "NASA."]),
        ("names", "Sam Rayburn spoke. The end. I saw it.", ["Sam", "Rayburn"]),
        ("names", "Today is fine. Nothing else.", []),
        ("negations", "It isn't so; he cannot, no one. None, never.", ["isn't", "cannot,", "no", "None,", "never."]),
        ("negations", "Don’t go without it, neither here nor there.", ["Don’t", "without", "neither", "nor"]),
        ("negations", "Nothing knots.", ["Nothing"]),
        ("code", "Call `f (x)` now.\n\n```\na b\n```\nDone.", ["`f", "(x)`", "```", "a", "b", "```"]),
        ("code", "So:\n\nx = f(1)\n\nThen prose goes on.", ["x", "=", "f(1)"]),
        ("json_keys", '{"name": "x y", "n":[1,{"deep key": null}]}', ['{"name":', '"n":', '"deep', 'key":']),
        ("json_keys", 'He said: "no".', []),
    ],
)  # fmt: skip
def test_kinds(kind, text, expected):
    if kind == "json_keys" and expected:
        expected = [e.removeprefix("{") for e in expected]
    assert found(text, kind) == expected


def test_prose_holds_no_code():
    for name in ("moby_dick", "sotu_1930", "constitution"):
        assert found(read(name), "code") == []
        assert found(read(name), "json_keys") == []


@pytest.mark.parametrize("unit", ["sentence", "word", "token"])
def test_forced_kinds_survive(unit):
    text = "In 1903 the lamp wasn't lit. `x = 1` is code. Rain fell and fell on Anna Moss.\n\n" + '{"key": 5}'
    out = text_of(RandomUnits(budget=0.8, units=unit, force=KINDS).compress(batch(text)))
    for word in ("1903", "wasn't", "`x = 1`", "Anna Moss", '"key":', "5}"):
        assert word in out


def test_a_budget_too_small_is_refused_with_the_number_it_takes():
    text = "In 1903 the 4 lamps burnt 77 nights."
    tokens = batch(text)
    with pytest.raises(InvalidValue, match=r"budget must hold the (\d+) tokens") as error:
        RandomUnits(budget=2, force=("numbers",)).compress(tokens)
    needed = int(str(error.value).split("hold the ")[1].split()[0])
    assert text_of(RandomUnits(budget=needed, force=("numbers",)).compress(tokens)) == "1903 4 77"
