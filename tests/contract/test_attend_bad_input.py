"""Every attend method refuses what it cannot take in a sentence that names the argument, the rule and the value."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from tests.attend.feeding import tokens
from tests.contract.cases import cases, choosing
from tests.tinies import shared
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue

ALL = cases("attend")
WRONG = {
    int: (-1, 0.5, True, "x", None),
    float: (-1.5, 1e9, float("nan"), "x", None),
    bool: (2, "x", None),
    str: ("nonsense", 3),
    Budget: (0, -1, 0.0, 1.5, float("nan"), "x", "3:sink=4", "12:per=sequence", "12:per=word", "12:sink=-1", None),
}
LENGTHS = {"chunk", "chunk_size", "block", "page", "window", "instruction", "steps", "least", "start"}
OF_THE_BUDGET = {("snapkv", "window"), ("quest", "page"), ("reused", "steps")}
"""Lengths that the budget holds."""
BELOW_THE_MODEL = ("dense_layers", "layers", "heads")


def wrong():
    """Each field of each method with values that no such field takes."""
    found = []
    for case in ALL:
        hints = get_type_hints(case.method)
        for field in fields(case.method):
            kind = hints[field.name]
            values = WRONG.get(kind, (3,) if str in get_args(kind) else ())
            if int in get_args(kind):
                values = (-1, 0.5, True, "nonsense", None)
            if field.metadata.get("part"):
                values = ("nonsense", 3, None)
            elif get_args(kind)[1:] == (...,):
                values = ("x", 1.5, None)
            found += [(case, field.name, value) for value in values]
    return found


def sentence(error):
    """What was said, of which there is one line."""
    said = str(error.value)
    assert "\n" not in said
    assert re.fullmatch(r"\S.* must .*\.", said), said
    return said


@pytest.mark.parametrize(("case", "name", "value"), wrong(), ids=lambda v: getattr(v, "name", str(v)))
def test_a_value_that_no_such_field_takes(case, name, value):
    trial = dict(case.entry.card.trial)
    with pytest.raises(InvalidValue) as error:
        case.method(**trial | {name: value})
    said = sentence(error)
    if isinstance(getattr(case.method, name, None), Budget):
        assert re.match(r"budget:|Budget: (tokens|share|per) must|\w+: budget ", said)
        assert str(value).split("=")[-1] in said
    else:
        assert name in said
        assert str(value) in said


@pytest.mark.parametrize("case", [c for c in choosing() if {f.name for f in fields(c.method)} & set(BELOW_THE_MODEL)],
                         ids=lambda case: case.name)  # fmt: skip
def test_layers_that_do_not_exist(case):
    """Also a method that would act in none of a model's layers."""
    model = shared("llama")
    for name in {f.name for f in fields(case.method)} & set(BELOW_THE_MODEL):
        several = get_type_hints(case.method)[name] is not int
        value = model.config.num_hidden_layers * (4 if name == "heads" else 1)
        method = case.method(**dict(case.entry.card.trial) | {name: (0, value) if several else value})
        with pytest.raises(InvalidValue, match=rf"{name} must be below {value}.*; got {value}\.") as error:
            method(model).__enter__()
        sentence(error)


@pytest.mark.parametrize("case", choosing(), ids=lambda case: case.name)
@pytest.mark.parametrize("given", [0, -1, True])
def test_a_prompt_of_no_tokens(case, given):
    """Where the prompt ends is said in whole tokens, to a run as to a cache."""
    for ask in (lambda: case.trial()(shared("llama"), prompt_tokens=given).__enter__(),
                lambda: case.trial().cache(shared("llama"), prompt_tokens=given)):  # fmt: skip
        with pytest.raises(InvalidValue, match=f"{case.entry.name}: prompt_tokens must be ") as error:
            ask()
        assert repr(given) in sentence(error)


@pytest.mark.parametrize("case", choosing(), ids=lambda case: case.name)
def test_sizes_beyond_the_text(case):
    """Chunks, blocks, pages and windows that are longer than a text read what there is of it, or are refused."""
    names = [f.name for f in fields(case.method) if get_type_hints(case.method)[f.name] is int]
    model, ids = shared("llama"), tokens(1, 30)
    for name in set(names) & LENGTHS:
        given = dict(case.entry.card.trial) | {name: 1 << 20}
        if (case.entry.name, name) in OF_THE_BUDGET:
            with pytest.raises(InvalidValue, match=rf"{1 << 20}") as error:
                case.method(**given)
            assert name in sentence(error)
            continue
        method = case.method(**given)
        with method(model) as run:
            model.generate(ids, max_new_tokens=4, do_sample=False)
        budget = getattr(method, "budget", None)
        if budget is not None:
            most = budget.count(30) + (4 if method.grows else 0)
            assert all(n <= most or method.reads_all(i) for i, n in enumerate(run.reads.per_step))
