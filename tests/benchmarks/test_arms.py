"""Arms are the methods of a room, with settings that one rule gives."""

from __future__ import annotations

from dataclasses import fields

import pytest

from benchmarks.arms import at_rows, methods, others, unnamed
from benchmarks.attend import fidelity, quality
from benchmarks.compress import answers
from benchmarks.embed import token_adapt
from benchmarks.learn import ss_token
from benchmarks.measure import needle_threading
from benchmarks.quantize import images, speech
from benchmarks.record import read
from tokenry.attend.base import Evictor
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import find, parse

ATTEND = [pytest.param(entry, id=entry.name) for entry in methods("attend", learned=False)]


@pytest.mark.parametrize("entry", ATTEND)
@pytest.mark.parametrize("rows", [64, 256])
def test_a_method_gets_the_rows_and_nothing_else(entry, rows):
    spec = at_rows(entry, rows)
    method = parse(spec or entry.full_name)
    assert method.name() == entry.name
    if spec is None:
        assert not isinstance(getattr(method, "budget", None), Budget)
        return
    assert method.budget.count(10_000) == rows
    method = getattr(method, "inside", method)
    own = {f.name: f.default for f in fields(method)}
    assert method.budget.per == own["budget"].per
    assert getattr(method, "dense_layers", 0) == getattr(method, "chunk", 0) == 0
    left = own.keys() - {"budget", "dense_layers", "chunk", "window"}
    assert all(getattr(method, name) == own[name] for name in left)


def test_what_evicts_once_holds_fewer_of_the_prompt():
    once, always = find("snapkv"), find("attend/random")
    assert issubclass(type(parse(at_rows(once, 64))), Evictor)
    assert [parse(at_rows(e, 64, 32)).budget.tokens for e in (once, always)] == [48, 64]


def test_a_method_that_refuses_sinks_gets_the_bare_number():
    assert parse(at_rows(find("quest"), 32)).budget == Budget(tokens=32, per="head")
    with pytest.raises(InvalidValue):
        at_rows(find("quest"), 8)


def test_the_own_share_of_recent_tokens_stays():
    assert parse(at_rows(find("h2o"), 64)).budget.recent == 32
    assert parse(at_rows(find("token_select"), 64)).budget.recent == 16


def test_others_are_those_that_no_arm_names():
    named = {"one": "token_select:budget=5", "two": "attend/random", "three": None}
    names = {entry.name for entry in methods("attend", learned=False)}
    assert {entry.name for entry in unnamed("attend", filter(None, named.values()))} == names - {
        "token_select", "random",
    }  # fmt: skip
    assert others("attend", named)["window"] == "attend/window"


def test_every_method_of_the_room_is_an_arm():
    names = {entry.name for entry in methods("attend", learned=False)}
    assert all(parse(spec) for spec in fidelity.all_arms().values())
    assert {parse(spec).name() for spec in fidelity.all_arms().values()} == names
    for name in names:
        assert quality.arms(name)
    assert quality.arms("quest")["32"]["facts"].startswith("attend/quest:budget=32")


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("attend/fidelity", fidelity.all_arms()),
        ("compress/answers", dict.fromkeys(map(str, answers.all_arms()))),
        ("embed/token_adapt", token_adapt.ARMS),
        ("learn/ss_token", ss_token.ARMS),
        ("measure/needle_threading", needle_threading.ARMS),
        ("quantize/images", dict.fromkeys([images.NOTHING, *images.ARMS, images.CHANCE])),
        ("quantize/speech", dict.fromkeys([*speech.ARMS, speech.CHANCE, *speech.NEIGHBOURS, *speech.OTHERS])),
    ],
)
def test_recorded_rows_are_those_of_arms_that_are_still_there(name, arms):
    recorded = read(name)["settings"]["arms"]
    recorded = recorded if isinstance(recorded, dict) else dict.fromkeys(recorded)
    assert all(arms[arm] == setting for arm, setting in recorded.items())
