"""A trace that cannot be drawn whole is refused, with the name of what is wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.apps.traces import a_trace
from tokenry.core.errors import InvalidValue
from tokenry.report.page import render


def without(trace: dict[str, Any], path: str) -> dict[str, Any]:
    trace = copy.deepcopy(trace)
    below: Any = trace
    *way, last = [int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)]
    for key in way:
        below = below[key]
    del below[last]
    return trace


@pytest.mark.parametrize(
    "path",
    [
        "schema", "model", "model.name", "model.device", "ask", "pipeline", "documents", "documents[0].tokens", "steps",
        "steps[1].room", "answer", "receipt", "receipt.steps[0].seconds", "receipt.seconds.first_token",
        "receipt.kv_bytes", "recovered[0].tokens", "reads.counts", "dense.kl", "dense.receipt.flops",
    ],
)  # fmt: skip
def test_missing_key_is_named(path: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(repr(path))):
        render(without(a_trace("one two three four", layers=2), path))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema", "tokenry.trace/9", "schema"),
        ("documents", [], "documents"),
        ("answer", None, "answer"),
        ("receipt", 3, "receipt"),
        ("pipeline", "dense_relevance", "pipeline"),
    ],
)
def test_wrong_value_is_named(path: str, value: Any, named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        render({**a_trace("one two three", layers=1), path: value})


def test_columns_must_match_tokens() -> None:
    for change in ("kept", "importance"):
        trace = a_trace("one two three four", layers=2)
        trace["steps"][0][change][0].pop()
        with pytest.raises(InvalidValue, match=re.escape(f"steps[0].{change}[0]")):
            render(trace)
    trace = a_trace("one two three four", layers=2)
    trace["reads"]["counts"][1][0].append(0.5)
    with pytest.raises(InvalidValue, match=re.escape("reads.counts[1][0]")):
        render(trace)
    trace["reads"]["counts"].pop()
    with pytest.raises(InvalidValue, match="2 layers"):
        render(trace)
    trace = a_trace("one two three four", layers=2)
    trace["recovered"][0]["tokens"] = [2, 9]
    with pytest.raises(InvalidValue, match=re.escape("recovered[0].tokens")):
        render(trace)


def every_place(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a trace, of lists only the first."""
    below = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, one in below:
        yield (*at, key)
        yield from every_place(one, (*at, key))


def test_whatever_stands_in_a_trace_it_is_drawn_or_refused() -> None:
    whole = a_trace("one two three four", layers=2)
    for *way, last in every_place(whole):
        for wrong in (None, 5, -1.5, float("inf"), 10**400, "<b>", True, [], [[1]], [None], {"a": 1}):
            trace = copy.deepcopy(whole)
            below: Any = trace
            for key in way:
                below = below[key]
            below[last] = wrong
            with suppress(InvalidValue):
                render(trace)
