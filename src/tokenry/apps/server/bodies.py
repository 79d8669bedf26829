"""Requests with shorter results of tools: the bytes that a client sent, with some strings exchanged in place."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.compressing import OLDER, compress_messages
from tokenry.pipeline.messages.originals import Originals
from tokenry.pipeline.messages.outcome import Change
from tokenry.pipeline.messages.raw import entered, exchanged

STYLES: Mapping[str, tuple[str, str]] = {
    "/v1/chat/completions": ("chat", "messages"),
    "/v1/responses": ("responses", "input"),
    "/v1/messages": ("anthropic", "messages"),
    "/v1/messages/count_tokens": ("anthropic", "messages"),
}
"""Paths whose requests hold messages: how they are written, and the field that holds them."""
SIGNS = (b'"tool"', b'"function"', b'"tool_result"', b'_call_output"')
"""What stands in every request with a result; one without passes unread."""


@dataclass(frozen=True, slots=True)
class Shortened:
    """A request as it goes on.

    Args:
        body: its bytes.
        changes: what became of each result.
        why: why nothing was done, where nothing was.
    """

    body: bytes
    changes: tuple[Change, ...] = ()
    why: str = ""


def shortened(
    path: str,
    body: bytes,
    *,
    use: tuple[str, ...],
    tokenizer: str,
    floor: int,
    keep: tuple[str, ...],
    older_every: int = 0,
    older_use: tuple[str, ...] = OLDER,
    originals: Originals | None,
) -> Shortened:
    """Shorten the results in a request; whatever else it holds stays byte for byte.

    Args:
        older_every: tokens between two points at which older turns and pasted documents shrink; 0 for never.
        originals: where originals are kept; the request then gets the tool that brings them back.
    """
    style, field = STYLES[path]
    # A pasted document has no sign that is its own.
    if not older_every and not any(sign in body for sign in SIGNS):
        return Shortened(body, why="nothing to shorten")
    text = body.decode("utf-8")
    request: Any = json.loads(text, parse_int=str, parse_float=str)
    messages = request.get(field) if isinstance(request, Mapping) else None
    if not isinstance(messages, list):
        return Shortened(body, why=f"no list of {field}")
    tools = request.get("tools")
    offers = originals is not None and _may_offer(request)
    found = compress_messages(
        messages, tools=tools if isinstance(tools, list) else None, use=use, tokenizer=tokenizer, floor=floor,
        keep=keep, older_every=older_every or None, older_use=older_use, originals=originals if offers else None,
        style=style,
    )  # fmt: skip
    texts = {(field, *path): text for path, text in found.texts.items()}
    if not texts:
        return Shortened(body, found.changes, why=_why(found.changes))
    text = exchanged(text, texts)
    if offers and not retrieve.carries(tools):
        declared = json.dumps(retrieve.schema(style), ensure_ascii=False)
        tool_list = isinstance(tools, list)
        text = entered(text, ("tools",), "", declared) if tool_list else entered(text, (), "tools", f"[{declared}]")
    return Shortened(text.encode(), found.changes)


def _why(changes: Sequence[Change]) -> str:
    """Why most of the results stayed, in so few words that none is a request's own."""
    reasons = Counter(re.split("[,;]", change.why)[0][:80] for change in changes)
    return reasons.most_common(1)[0][0] if reasons else "nothing to shorten"


def followed(body: bytes, last: Mapping[str, str]) -> bytes:
    """A request that goes on from a response, by the id under which the upstream knows the whole of it.

    Args:
        last: ids of last replies, by those that clients were told.
    """
    if b'"previous_response_id"' not in body:
        return body
    text = body.decode("utf-8")
    key = last.get(str(json.loads(text, parse_int=str, parse_float=str)["previous_response_id"]))
    return body if key is None else exchanged(text, {("previous_response_id",): key}).encode()


def _may_offer(request: Mapping[str, Any]) -> bool:
    """Whether a request may get a tool: not one that forces or forbids tools, nor one for several answers."""
    choice = request.get("tool_choice")
    if not isinstance(request.get("tools", []), list) or request.get("n") not in (None, "1"):
        return False
    return choice in (None, "auto") or (isinstance(choice, Mapping) and choice.get("type") == "auto")
