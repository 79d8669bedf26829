"""What every method of every room must do: be built, written down, explained, and refuse what it cannot be."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

import tokenry
from tests.contract.cases import Case, exemptible
from tokenry.core.card import KV
from tokenry.core.described import fields_of
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import entries, load, parse

CASES = [Case(entry) for entry in entries()]


@pytest.fixture(params=CASES, ids=[c.name for c in CASES])
def case(request):
    return request.param


def test_builds_and_survives_json_and_text(case):
    card = case.entry.card
    made = [case.method(), case.trial(), *(case.identities() if card.identities else [])]
    for method in made:
        for again in (case.method.from_dict(json.loads(json.dumps(method.to_dict()))), parse(str(method))):
            # Learned methods are equal only to themselves; their fields must be.
            assert again == method or (card.training and again.to_dict() == method.to_dict())
        assert method.name() == case.entry.name
        assert method.room == case.entry.room


def test_card_is_complete(case):
    card, doc = case.entry.card, case.entry.doc
    assert card.title
    assert 1950 < card.year <= 2026
    assert card.url.startswith("https://")
    assert card.summary == card.summary.rstrip(".") != ""
    assert "\n" not in card.summary
    for heading in ("What it does", "Where it acts", "Shapes", "Guarantees", "Raises", "Relations"):
        assert f"{heading}\n" in doc, f"{case.name} does not say: {heading}"
    assert (not card.deviations) or "Deviations\n" in doc
    for name, words in KV.items():
        assert getattr(card, name) in (words if case.entry.room == "attend" else ("",)), name
    assert all(f.doc for f in fields_of(case.entry))
    assert getattr(tokenry, case.entry.class_name) is load(case.name)


def test_exemptions_name_tests_and_say_why(case, tested):
    for name, reason in case.entry.card.exempt.items():
        assert name in exemptible(case.entry.room), f"{case.name} is exempt from {name}, which is no test of its room"
        collected = {method for method, test in tested if test == name}
        assert not collected or case.name in collected, f"{case.name} is exempt from {name}, which never runs it"
        assert reason.strip()


def test_bounded_fields_refuse(case):
    for field in fields(case.method):
        if field.metadata["limit"] is not None and not isinstance(field.default, tuple):
            wrong = "nothing of the kind" if isinstance(field.default, str) else -2
            with pytest.raises(InvalidValue, match=f"{field.name} must be"):
                case.method(**{field.name: wrong})
