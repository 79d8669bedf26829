"""A picture or a sound through the studio: a box for every place, and what the ids give back."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from typing import Any

from tokenry.apps.studio.again import usual
from tokenry.apps.studio.task import Task
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse
from tokenry.report.signal_page import boxes_of, drawing_of, strokes_of, uri_of

MOST_TOKENS = 200_000
"""Of a picture or a sound that the studio makes; the command line makes more."""


def read_signal(task: Task) -> dict[str, Any]:
    """The tokens over the signal, as a page draws them.

    Raises:
        TokenryError: a file that is none, a method of another kind, or too many tokens.
    """
    from tokenry.data.image import read_image
    from tokenry.data.sound import Sound, read_sound
    from tokenry.signal.base import SegmentTokenizer

    if len(task.methods) > 1:
        raise InvalidValue(f"methods: must be one for a {task.kind}; got {len(task.methods)}; compare them as columns.")
    spec = usual(task)
    method = parse(spec)
    if not isinstance(method, SegmentTokenizer) or (method.takes is Sound) != (task.kind == "sound"):
        raise InvalidValue(f"method: must make tokens of a {task.kind}; got {spec}; choose one of room signal.")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        signal: Any = read_image(task.data) if task.kind == "picture" else read_sound(task.data)
    size, start = method.size_of(signal), time.perf_counter()
    if (method.count(size) or 0) > MOST_TOKENS:
        raise InvalidValue(
            f"{task.kind}: must have at most {MOST_TOKENS:,} tokens in the studio; {spec} gives "
            f"{method.count(size):,}; take a smaller one, or another method."
        )
    tokens = method.encode(signal)
    seconds, again = time.perf_counter() - start, method.decode(tokens)
    side, places, boxes = boxes_of(signal, tokens)
    return {
        "kind": task.kind, "count": len(tokens), "places": places, "side": side, "seconds": seconds,
        "boxes": [asdict(box) for box in boxes], "size": drawing_of(signal), "data": uri_of(signal),
        "again": None if again is None else uri_of(again), "vocab_size": method.vocab_size,
        "strokes": strokes_of(signal) if isinstance(signal, Sound) else [],
        "ids": tokens.ids.tolist(), "notes": [str(w.message) for w in said], "method": str(method),
    }  # fmt: skip
