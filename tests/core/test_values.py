"""Budgets, fields, methods and the registry: values that explain themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue, UnknownMethod
from tokenry.core.fields import between, choice, counts, positive, setting, size, some_of
from tokenry.core.method import Method
from tokenry.core.registry import find, parse


@pytest.mark.parametrize(
    ("value", "n", "kept"),
    [(0.25, 100, 25), (0.25, 10, 3), (0.25, 2, 1), (256, 100, 100), (256, 1000, 256), (1.0, 7, 7), (1, 7, 1)],
)  # fmt: skip
def test_rounding_is_in_one_place(value, n, kept):
    assert Budget.of(value).count(n) == kept


def test_a_bare_number_keeps_the_proportions_of_the_default():
    default = Budget(tokens=2688, sink=128, recent=512, per="layer")
    assert Budget.of(256, like=default) == Budget(tokens=256, sink=12, recent=48, per="layer")
    assert Budget.of(20, like=default) == Budget(tokens=20, sink=4, recent=3, per="layer")
    assert Budget.of(3, like=default) == Budget(tokens=3, sink=3, per="layer")
    assert Budget.of("100:sink=4:recent=32:per=head", like=default) == Budget(tokens=100, sink=4, recent=32, per="head")
    assert Budget.of(str(Budget(tokens=9, sink=2, per="head"))) == Budget(tokens=9, sink=2, per="head")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "exactly one of share and tokens"),
        ({"share": 0.5, "tokens": 3}, "exactly one of share and tokens"),
        ({"share": 0.0}, r"share must be in \(0, 1\]"),
        ({"share": 1.5}, r"share must be in \(0, 1\]"),
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"tokens": 3, "sink": 4}, "at least sink \\+ recent"),
        ({"tokens": 3, "sink": -1}, "at least 0"),
        ({"tokens": 3, "per": "row"}, "per must be"),
    ],
)
def test_a_budget_refuses(arguments, rule):
    with pytest.raises(InvalidValue, match=rule):
        Budget(**arguments)


@pytest.mark.parametrize("text", ["many", "", "0.5:sink", "8:depth=3", True])
def test_a_budget_that_cannot_be_read(text):
    with pytest.raises(InvalidValue, match="budget: "):
        Budget.of(text)


@dataclass(frozen=True, kw_only=True)
class Sample(Method):
    """A method for these tests."""

    card = Card(title="t", year=2026, url="https://example.org", summary="s")
    room = "compress"
    budget: Budget = size(Budget(share=0.5), doc="how much")
    share: float = between(0, 1, default=0.5, doc="a share")
    times: int = positive(2, doc="a count")
    unit: str = choice("word", "sentence", default="word", doc="a unit")
    kinds: tuple[str, ...] = some_of("numbers", "names", doc="kinds")
    on: bool = setting(True, doc="a switch")
    steps: tuple[int, ...] = counts(2, 9, product=100, default=(3, 4), doc="counts")
    shares: tuple[float, ...] = setting((0.5,), doc="numbers")


STEPS = "one or more whole numbers in [2, 9] whose product is at most 100"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"share": 2}, "Sample: share must be in [0, 1]; got 2.0."),
        ({"share": "x"}, "Sample: share must be a number; got 'x'."),
        ({"times": 0}, "Sample: times must be at least 1; got 0."),
        ({"times": 1.5}, "Sample: times must be a whole number; got 1.5."),
        ({"unit": "line"}, "Sample: unit must be one of word, sentence; got 'line'."),
        ({"kinds": "numbers+dates"}, "Sample: kinds must be among numbers, names; got ('numbers', 'dates')."),
        ({"on": "perhaps"}, "Sample: on must be true or false; got 'perhaps'."),
        ({"steps": "3+x"}, "Sample: steps must be a whole number; got 'x'."),
        ({"steps": (3, 2.5)}, "Sample: steps must be a whole number; got 2.5."),
        ({"steps": ()}, f"Sample: steps must be {STEPS}; got ()."),
        ({"steps": 1}, f"Sample: steps must be {STEPS}; got (1,)."),
        ({"steps": "9+10"}, f"Sample: steps must be {STEPS}; got (9, 10)."),
        ({"steps": "9+9+9"}, f"Sample: steps must be {STEPS}; got (9, 9, 9)."),
        ({"shares": "0.5+many"}, "Sample: shares must be a number; got 'many'."),
    ],
)
def test_fields_refuse_with_one_kind_of_sentence(arguments, sentence):
    with pytest.raises(InvalidValue) as error:
        Sample(**arguments)
    assert str(error.value) == sentence


def test_text_becomes_the_declared_type():
    made = Sample(budget="0.25", share="0.75", times="3", kinds="numbers+names", on="false")
    assert made == Sample(budget=0.25, share=0.75, times=3, kinds=("numbers", "names"), on=False)
    assert str(made) == "compress/test_values:budget=0.25,share=0.75,times=3,kinds=numbers+names,on=False"


def test_numbers_are_joined_by_a_plus():
    made = Sample(steps="2+3+4", shares="0.25+1")
    assert made == Sample(steps=[2, 3, 4], shares=(0.25, 1.0))
    assert made.steps == (2, 3, 4)
    assert isinstance(made.shares[1], float)
    assert str(made) == "compress/test_values:steps=2+3+4,shares=0.25+1.0"
    assert Sample(steps="8") == Sample(steps=8) == Sample(steps=(8,))


def test_an_unknown_name_is_answered_with_the_three_nearest():
    with pytest.raises(UnknownMethod, match=r"'tokenselect' is not known; the nearest are token_select, .*, .*; see"):
        find("tokenselect")


def test_a_name_used_twice_must_say_its_room():
    with pytest.raises(UnknownMethod, match=r"write .*compress/random or attend/random"):
        find("random")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("window:size=3", "window: has no field 'size'; its fields are budget."),
        ("window:budget", "window: a setting must be written field=value; got 'budget'."),
        ("token_select:reuse=2", r"TokenSelect: reuse must be in \[-1.0, 1.01\]; got 2.0"),
        ("window:budget=8:per=sequence", "Window: budget per must be layer or head; got 'sequence'"),
    ],
)
def test_a_wrong_spec_is_explained(spec, sentence):
    with pytest.raises((InvalidValue, UnknownMethod), match=sentence):
        parse(spec)


def test_importing_loads_nothing_slow():
    code = "import sys, tokenry; tokenry.Budget; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "numpy", "matplotlib", "rich", "typer"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"budget": {"budget": {"x": 1}}}, "budget: must be fields of a budget by name"),
        ({"budget": {"budget": 3}}, "budget: must be fields of a budget by name; got 3"),
        ({"budget": {"method": 3}}, "'3'"),
    ],
)
def test_a_description_that_cannot_be_read_is_explained(values, sentence):
    with pytest.raises((InvalidValue, UnknownMethod), match=sentence):
        Sample.from_dict(values)


def test_values_that_are_no_tuple_are_refused():
    with pytest.raises(InvalidValue, match="levels must be values joined by"):
        parse("fsq").from_dict({"levels": None})
