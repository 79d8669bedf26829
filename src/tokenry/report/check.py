"""What a trace must hold before it is drawn: a wrong one is refused with the name of the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokenry.core.errors import InvalidValue

SCHEMA = "tokenry.trace/0"

_STEP = {"method": str, "room": str, "tokens_in": float, "tokens_out": float, "seconds": float}
_RECEIPT = {
    "steps": [_STEP],
    "prompt_tokens": float,
    "read_per_step": [float],
    "seconds": {"load": float, "prefill": float, "decode": float, "first_token": float},
    "tokens_per_second": float,
    "flops": float,
    "kv_bytes": float,
    "bytes_read": float,
    "peak_bytes": float,
}
_DENSE = {"answer": str, "receipt": _RECEIPT, "kl": float, "top1": float}
_TRACE = {
    "schema": str,
    "model": {"name": str, "context": float, "dtype": str, "device": str},
    "ask": str,
    "pipeline": [str],
    "documents": [{"name": str, "tokens": [str]}],
    "steps": [_STEP],
    "answer": str,
    "receipt": _RECEIPT,
}
_READS = {"layers": float, "steps": float, "counts": [[[]]]}
_RECOVERED = {"answer": [float], "document": float, "tokens": [float], "text": str}
_DO = "render a trace as a run wrote it"


def check(trace: Mapping[str, Any]) -> None:
    """Refuse a trace that cannot be drawn whole.

    `reads`, `dense`, `recovered`, and a step's `kept` and `importance` may be missing or null, and any number may
    be null where it was not measured; every other key must be there.

    Raises:
        InvalidValue: a key is missing, has another kind of value, or does not match the number of tokens.
    """
    _has(trace, _TRACE, "")
    if trace["schema"] != SCHEMA:
        raise InvalidValue(f"trace: 'schema' must be {SCHEMA!r}; got {trace['schema']!r}; {_DO}.")
    lengths = [len(document["tokens"]) for document in trace["documents"]]
    if not lengths:
        raise InvalidValue(f"trace: 'documents' must hold at least one document; got none; {_DO}.")
    for at, step in enumerate(trace["steps"]):
        for key in ("kept", "importance"):
            if step.get(key) is not None:
                _fits(step[key], lengths, f"steps[{at}].{key}")
    if trace.get("reads") is not None:
        _has(trace["reads"], _READS, "reads")
        counts = trace["reads"]["counts"]
        if len(counts) != trace["reads"]["layers"]:
            wanted = f"{trace['reads']['layers']} layers"
            raise InvalidValue(f"trace: 'reads.counts' must hold {wanted}; got {len(counts)}; {_DO}.")
        for layer, row in enumerate(counts):
            _fits(row, lengths, f"reads.counts[{layer}]")
    if not isinstance(trace.get("recovered") or (), list | tuple):
        raise _wrong("recovered", "a list", trace["recovered"])
    for at, passage in enumerate(trace.get("recovered") or ()):
        where = f"recovered[{at}]"
        _has(passage, _RECOVERED, where)
        _within(passage, lengths, where)
    if trace.get("dense") is not None:
        _has(trace["dense"], _DENSE, "dense")


def _has(value: Any, wanted: Any, where: str) -> None:
    """`wanted` is a type, a mapping of what each key must be, or a list of what each entry must be."""
    if isinstance(wanted, dict):
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        for key, below in wanted.items():
            path = f"{where}.{key}" if where else key
            if key not in value:
                got = ", ".join(map(repr, value)) or "no keys"
                raise InvalidValue(f"trace: must have the key {path!r}; got {got}; {_DO}.")
            _has(value[key], below, path)
    elif isinstance(wanted, list):
        if isinstance(value, str | Mapping) or not hasattr(value, "__len__"):
            raise _wrong(where, "a list", value)
        for at, entry in enumerate(value if wanted else ()):
            _has(entry, wanted[0], f"{where}[{at}]")
    elif wanted is str:
        if not isinstance(value, str):
            raise _wrong(where, "text", value)
    elif value is not None and (isinstance(value, str) or not _is_number(value)):
        raise _wrong(where, "a number", value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _fits(columns: Sequence[Sequence[Any]], lengths: list[int], where: str) -> None:
    """One list for each document, with one number for each of its tokens."""
    _has(columns, [[]], where)
    if len(columns) != len(lengths):
        wanted = f"one list for each of {len(lengths)} documents"
        raise InvalidValue(f"trace: {where!r} must hold {wanted}; got {len(columns)}; {_DO}.")
    for at, (column, length) in enumerate(zip(columns, lengths, strict=True)):
        if len(column) != length:
            wanted = f"one entry for each of {length} tokens"
            raise InvalidValue(f"trace: '{where}[{at}]' must hold {wanted}; got {len(column)}; {_DO}.")
        try:
            shape = np.asarray(column, dtype=np.float64).shape
        except (TypeError, ValueError, OverflowError):
            shape = ()
        if shape != (length,):
            raise _wrong(f"{where}[{at}]", "a list of numbers", column)


def _within(passage: Mapping[str, Any], lengths: list[int], where: str) -> None:
    for key in ("answer", "tokens"):
        if len(passage[key]) != 2 or not all(isinstance(n, int | np.integer) for n in passage[key]):
            raise _wrong(f"{where}.{key}", "a pair of whole numbers", passage[key])
    if not isinstance(passage["document"], int | np.integer):
        raise _wrong(f"{where}.document", "a whole number", passage["document"])
    if not 0 <= passage["document"] < len(lengths):
        raise _wrong(f"{where}.document", f"one of {len(lengths)} documents", passage["document"])
    first, last = passage["tokens"]
    if not 0 <= first <= last < lengths[passage["document"]]:
        raise _wrong(f"{where}.tokens", "the first and the last token of a passage in it", passage["tokens"])


def _wrong(where: str, wanted: str, got: Any) -> InvalidValue:
    shown = type(got).__name__ if isinstance(got, Mapping | str) else repr(got)[:60]
    return InvalidValue(f"trace: {where or 'it'!r} must be {wanted}; got {shown}; {_DO}.")
