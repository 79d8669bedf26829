"""Calls of our own tool answered in the gateway: the request with the model's call and its answer behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenry.apps.server.bodies import STYLES
from tokenry.models.text.counting import Counter
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals
from tokenry.pipeline.messages.raw import entered


@dataclass(frozen=True, slots=True)
class Again:
    """A request with answers, and the tokens that these have."""

    body: bytes
    tokens: int


def asked_again(path: str, body: bytes, said: Mapping[str, Any], originals: Originals, tokenizer: str) -> Again | None:
    """The request to send next; None where a reply calls another tool as well, or none.

    Args:
        said: the reply.
    """
    style, field = STYLES[path]
    try:
        added = {"chat": _chat, "responses": _responses, "anthropic": _anthropic}[style](said, originals)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    if not added:
        return None
    text, answers = body.decode(), [t for _, t in added if t]
    for message, _ in added:
        text = entered(text, (field,), "", json.dumps(message, ensure_ascii=False))
    return Again(text.encode(), int(Counter.of(tokenizer).counts(answers).sum()))


Added = list[tuple[Mapping[str, Any], str]]
"""Messages to put behind a request, and the text of those that answer."""


def _chat(said: Mapping[str, Any], originals: Originals) -> Added:
    message = said["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    if len(said["choices"]) > 1 or not calls or any(c["function"]["name"] != retrieve.NAME for c in calls):
        return []
    answers = [(c["id"], retrieve.answer(originals, c["function"]["arguments"])) for c in calls]
    return [(message, ""), *(({"role": "tool", "tool_call_id": i, "content": text}, text) for i, text in answers)]


def _responses(said: Mapping[str, Any], originals: Originals) -> Added:
    calls = [item for item in said["output"] if item.get("type") == "function_call"]
    if not calls or any(c["name"] != retrieve.NAME for c in calls):
        return []
    answers = [(c["call_id"], retrieve.answer(originals, c["arguments"])) for c in calls]
    told = ({"type": "function_call_output", "call_id": i, "output": text} for i, text in answers)
    return [*((item, "") for item in said["output"]), *((m, str(m["output"])) for m in told)]


def _anthropic(said: Mapping[str, Any], originals: Originals) -> Added:
    calls = [part for part in said["content"] if part.get("type") == "tool_use"]
    if not calls or any(c["name"] != retrieve.NAME for c in calls):
        return []
    answers = [(c["id"], retrieve.answer(originals, c["input"])) for c in calls]
    parts = [{"type": "tool_result", "tool_use_id": i, "content": text} for i, text in answers]
    whole = "".join(text for _, text in answers)
    return [({"role": "assistant", "content": said["content"]}, ""), ({"role": "user", "content": parts}, whole)]
