"""Points of a conversation at which older turns shrink further: told by what was said up to them alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.models.text.counting import Counter
from tokenry.pipeline.messages.pasted import is_turn

_NO_WORDS = ("id", "type", "role", "name", "tool_call_id", "call_id", "tool_use_id", "signature", "encrypted_content")
_NO_TEXT = ("image", "image_url", "input_image", "input_audio", "file", "input_file", "base64")


@dataclass(frozen=True, slots=True)
class Point:
    """What shrinking at one point saved, and what it cost.

    Args:
        message: before whose answer older turns shrank, from 0.
        saved: tokens that are fewer in this request and all that follow.
        reread: tokens of the messages from the first that changed up to this one, which were sent otherwise before, so
            that the provider has them in no cache and reads them again, once.
    """

    message: int
    saved: int
    reread: int


@dataclass(frozen=True, slots=True)
class End:
    """Where a request may end: at a turn of the user, or at a result.

    Args:
        message: at which.
        so_far: tokens of all messages before it.
        before: the message at which the last exchange begins; it and what follows stay.
        user: the last turn of the user, which stays too.
    """

    message: int
    so_far: int
    before: int
    user: int


def ends(messages: Sequence[Any], sizes: Sequence[int]) -> Iterator[End]:
    """Wherever a request may end; `sizes` are tokens of each message."""
    so_far, user, exchange, inside = 0, 0, 0, False
    for i, message in enumerate(messages):
        turn, result = is_turn(message), _gives_results(message)
        if turn:
            yield End(i, so_far, user, i)
            user = i
        elif result:
            yield End(i, so_far, exchange, user)
        elif not inside:
            exchange = i
        inside = not turn and not result
        so_far += sizes[i]


def sizes(messages: Sequence[Any], counter: Counter) -> list[int]:
    """Tokens of the texts in each message; pictures and files are none."""
    texts = [list(_texts(message)) for message in messages]
    counts = iter(counter.counts([text for of_one in texts for text in of_one]).tolist())
    return [sum(next(counts) for _ in of_one) for of_one in texts]


def _gives_results(message: Any) -> bool:
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    return (
        message.get("role") in ("tool", "function")
        or str(message.get("type", "")).endswith("_call_output")
        or (
            isinstance(content, list)
            and any(isinstance(part, Mapping) and part.get("type") == "tool_result" for part in content)
        )
    )


def _texts(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left += value
        elif isinstance(value, Mapping) and value.get("type") not in _NO_TEXT:
            left += [held for name, held in value.items() if name not in _NO_WORDS]
