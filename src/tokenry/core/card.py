"""What a method says about itself: read from its source without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KV = {
    "action": ("visible", "evict", "place", "summarise", "weigh"),
    "granularity": ("token", "page", "chunk", "head", "channel"),
    "evidence": ("static", "key", "observed attention", "query", "learned"),
}
"""What a method of room `attend` does to cached keys, to how much at once, and by what it decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The identity of one method.

    Every value is a literal, so that `tokenry list` reads it from the source file.

    Args:
        title: title of the paper or name of the baseline.
        year: year of first publication.
        url: where the method is described.
        summary: one line without a full stop.
        identity_at: field values at which the method changes nothing; a tuple where several settings do, each by
            itself; None where there are none.
        trial: small field values under which the contract tests run the method.
        claims: effects shown by tests or committed results.
        deviations: every difference from the paper.
        exempt: name of a contract test, without `test_` -> the reason why it cannot pass.
        training: whether the method has parameters to learn.
        name: of a part, where it is written otherwise than its class in snake case.
        action, granularity, evidence: in room `attend`, one of each of `KV`.
    """

    title: str
    year: int
    url: str
    summary: str
    identity_at: Mapping[str, Any] | tuple[Mapping[str, Any], ...] | None = None
    trial: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    exempt: Mapping[str, str] = field(default_factory=dict)
    training: bool = False
    name: str | None = None
    action: str = ""
    granularity: str = ""
    evidence: str = ""

    @property
    def identities(self) -> tuple[Mapping[str, Any], ...]:
        """Every setting at which the method changes nothing."""
        at = self.identity_at
        return at if isinstance(at, tuple) else () if at is None else (at,)
