"""The trace as one JSON text small enough to travel inside a page, and safe inside a script element."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_LONE = re.compile("[\ud800-\udfff]")
# Nothing that starts a tag, a comment or an entity survives, so no text can end the element it stands in.
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def packed(trace: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of a trace, with long columns as base64.

    `kept` becomes one bit a token (lowest bit first), `importance` and `reads.counts` one byte a token, 0 to 255
    for 0 to 1; a share above zero never becomes zero.
    """
    keep = ("schema", "model", "ask", "pipeline", "documents", "answer", "receipt")
    data = {key: trace[key] for key in keep}
    # A decoder does nothing to the document.
    data["steps"] = [_step(step) for step in trace["steps"] if step["room"] != "decode"]
    data["recovered"] = list(trace.get("recovered") or ())
    data["dense"] = trace.get("dense")
    reads = trace.get("reads")
    data["reads"] = reads and {**reads, "counts": [[levels(column) for column in row] for row in reads["counts"]]}
    return {key: _plain(value) for key, value in data.items()}


def bits(column: Sequence[Any]) -> str:
    """0 and 1 as base64 of one bit each."""
    return _base64(np.packbits(np.asarray(column, dtype=bool), bitorder="little"))


def levels(column: Sequence[float]) -> str:
    """Shares from 0 to 1 as base64 of one byte each."""
    values = np.nan_to_num(np.asarray(column, dtype=np.float64))
    values = np.clip(values, 0, 1)
    return _base64(np.maximum(np.rint(values * 255), values > 0).astype(np.uint8))


def script_text(data: Any) -> str:
    """JSON that may stand in a script element, whatever text it holds."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return readable(text.translate(_UNSAFE))


def readable(text: str) -> str:
    """Text that can be written as UTF-8: halves of a surrogate pair become the replacement character."""
    return _LONE.sub("\ufffd", text)


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    kept, importance = step.get("kept"), step.get("importance")
    packed_columns = {
        "kept": None if kept is None else [bits(column) for column in kept],
        "importance": None if importance is None else [levels(column) for column in importance],
    }
    return {**step, **packed_columns}


def _plain(value: Any) -> Any:
    """Only what JSON knows: arrays as lists, numbers that are none as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    return str(value)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
