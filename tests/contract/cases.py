"""The methods of a room as test cases, found through the registry; what their cards exempt is asked in conftest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tokenry.attend.base import Attention
from tokenry.attend.between.reducer import Reducer
from tokenry.core.learned import Learned
from tokenry.core.method import Method
from tokenry.core.registry import Entry, entries, load


@dataclass(frozen=True, eq=False)
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

    def identities(self) -> list[Method]:
        """The method with each of the settings at which it changes nothing."""
        assert self.entry.card.identities
        return [self.method(**{**self.entry.card.trial, **at}) for at in self.entry.card.identities]


def cases(room: str) -> list[Case]:
    found = [Case(e) for e in entries() if e.room == room]
    assert found, f"the registry finds no method in room {room}"
    return found


def choosing() -> list[Case]:
    """The methods of room `attend` that choose among what a cache holds, each layer by itself, and learned nothing."""
    attaching = [case for case in cases("attend") if issubclass(case.method, Attention)]
    return [case for case in attaching if not issubclass(case.method, Reducer | Learned)]


def reducing() -> list[Case]:
    """The methods of room `attend` that change which tokens go on into the next layer."""
    return [case for case in cases("attend") if issubclass(case.method, Reducer)]


def case_of(item: pytest.Item) -> Case | None:
    """The method that a contract test is about; None where it is about none, or about all."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    found = [getattr(value, "case", value) for value in values]
    return next((case for case in found if isinstance(case, Case)), None)


def function(item: pytest.Item) -> str:
    """The name of a test as a card writes it: that of its function, without `test_`."""
    return getattr(item, "originalname", item.name).removeprefix("test_")


def exemptible(room: str) -> set[str]:
    """The names of the contract tests that a method of this room may be exempt from."""
    found: set[str] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        source = file.read_text(encoding="utf-8")
        found_by = (f'cases("{room}")', *(("choosing()", "reducing()") if room == "attend" else ()))
        if any(words in source for words in found_by) or file.stem == "test_every_method":
            found |= set(re.findall(r"^def test_(\w+)", source, re.MULTILINE))
    return found
