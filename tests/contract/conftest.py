"""What a card exempts is expected to fail: asked in one place, for the contract tests of all rooms."""

from __future__ import annotations

import pytest

from tests.contract.cases import case_of, function

TESTED = pytest.StashKey[set[tuple[str, str]]]()
"""Every method that was collected, with every contract test that takes it."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TESTED] = set()


def pytest_itemcollected(item: pytest.Item) -> None:
    case = case_of(item)
    if case is None:
        return
    item.config.stash[TESTED].add((case.name, function(item)))
    reason = case.entry.card.exempt.get(function(item))
    if reason:
        item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def tested(pytestconfig: pytest.Config) -> set[tuple[str, str]]:
    return pytestconfig.stash[TESTED]
