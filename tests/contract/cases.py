"""The methods of a room as test cases, found through the registry; exemptions are counted and reasoned."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tokenry.core.method import Method
from tokenry.core.registry import Entry, entries, load


@dataclass(frozen=True)
class Case:
    """One method with its settings for the contract."""

    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.full_name

    @property
    def method(self) -> type[Method]:
        return load(self.entry.full_name)

    def trial(self) -> Method:
        """The method with the small settings of its card."""
        return self.method(**self.entry.card.trial)

    def identity(self) -> Method:
        """The method with settings at which it changes nothing."""
        assert self.entry.card.identity_at is not None
        return self.method(**{**self.entry.card.trial, **self.entry.card.identity_at})


def cases(room: str) -> list[Case]:
    found = [Case(e) for e in entries() if e.room == room]
    assert found, f"the registry finds no method in room {room}"
    return found


def exempt(case: Case, test: str, request: pytest.FixtureRequest) -> None:
    """Expect failure where the card declares an exemption; a pass then fails the suite."""
    reason = case.entry.card.exempt.get(test)
    if reason:
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))
