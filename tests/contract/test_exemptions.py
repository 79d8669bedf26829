"""What a card exempts becomes a strict expected failure, whichever room's test it is; a name that is no test fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.contract import conftest, test_every_method
from tests.contract.cases import Case, case_of, exemptible
from tokenry.core.card import Card
from tokenry.core.registry import ROOMS, Entry, entries


def case(room="attend", **exempt):
    card = Card(title="t", year=2026, url="https://example.org", summary="s", exempt=exempt)
    return Case(Entry(room, "some", "some.module", "Some", card, ""))


class Item:
    """What pytest collects, as far as it is looked at."""

    def __init__(self, name, **params):
        self.originalname, self.name = name, f"{name}[{params}]"
        self.callspec = SimpleNamespace(params=params)
        self.config = SimpleNamespace(stash=pytest.Stash())
        self.marks = []
        self.add_marker = self.marks.append
        conftest.pytest_configure(self.config)
        conftest.pytest_itemcollected(self)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_card_is_asked_for_every_test(wrapped):
    mine = case(chunked_prefill="reads blocks")
    given = SimpleNamespace(case=mine) if wrapped else mine
    item = Item("test_chunked_prefill", family="plain", anything=given)
    assert [(m.name, m.kwargs) for m in item.marks] == [("xfail", {"reason": "reads blocks", "strict": True})]
    assert item.config.stash[conftest.TESTED] == {("attend/some", "chunked_prefill")}
    assert not Item("test_beams", entry=given).marks
    assert case_of(Item("test_beams", family="plain")) is None


def test_a_name_that_is_no_test_or_runs_without_the_method_fails():
    check = test_every_method.test_exemptions_name_tests_and_say_why
    others = {("attend/other", "eviction_frees_memory"), ("attend/some", "beams")}
    check(case(beams="why"), others)
    check(case(beams="why"), set())
    for name, why in (("beam", "why"), ("test_beams", "why"), ("eviction_frees_memory", "why"), ("beams", " ")):
        with pytest.raises(AssertionError):
            check(case(**{name: why}), others)


@pytest.mark.parametrize("room", sorted({e.room for e in entries()}, key=ROOMS.index))
def test_every_room_has_tests_to_be_exempt_from(room):
    assert len(exemptible(room)) > 8
