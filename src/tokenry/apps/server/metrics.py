"""Numbers of a gateway for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

if TYPE_CHECKING:
    from tokenry.apps.server.ledger import Row

PATHS = frozenset(
    f"/v1/{name}"
    for name in (
        "chat/completions",
        "completions",
        "embeddings",
        "messages",
        "messages/count_tokens",
        "models",
        "responses",
    )
)
"""Paths that are counted by name: others are a client's choice, and each would stay in memory."""
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Counters of one gateway; none of them holds a word of a request."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter("tokenry_requests", "requests by path and status", ["path", "status"], **own)
        self.faults = Counter("tokenry_faults", "faults of ours; such requests pass as they are", ["kind"], **own)
        self.refused = Counter("tokenry_refused", "requests refused since too many waited", **own)
        self.passed = Counter("tokenry_passed", "requests that passed as they were", ["why"], **own)
        self.tokens = Counter("tokenry_result_tokens", "tokens of results of tools", ["side"], **own)
        self.shortening = Histogram("tokenry_shortening_seconds", "time of shortening", buckets=_SECONDS, **own)
        self.whole = Histogram("tokenry_request_seconds", "time until the last byte", buckets=_SECONDS, **own)

    def note(self, row: Row) -> None:
        """A request was shortened, or passes as it is."""
        self.tokens.labels("in").inc(row.tokens_in)
        self.tokens.labels("out").inc(row.tokens_out)
        if row.use:
            self.shortening.observe(row.seconds)
        if row.why:
            self.passed.labels(row.why.partition(":")[0]).inc()

    def replied(self, row: Row) -> None:
        """A reply ended."""
        known = row.path if row.path in PATHS else "/v1/…"
        self.requests.labels(known, str(row.status)).inc()
        self.whole.observe(row.total_seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
