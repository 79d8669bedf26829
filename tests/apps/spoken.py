"""Streams as upstreams send them, in three styles: a text, then perhaps calls."""

from __future__ import annotations

import json

from tests.apps.gateways import sse

USAGE = {
    "chat": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    "responses": {
        "input_tokens": 10, "output_tokens": 3, "total_tokens": 13, "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
    "anthropic": {"input_tokens": 10, "output_tokens": 1},
}  # fmt: skip


def spoken(style, key, words, calls=()):
    """A reply called `key` that says some words, then calls tools: pairs of name and arguments."""
    return {"chat": _chat, "responses": _responses, "anthropic": _anthropic}[style](key, words, calls)


def _chat(key, words, calls):
    def chunk(delta, why=None):
        choice = {"index": 0, "delta": delta, "finish_reason": why}
        return {"id": key, "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice]}

    out = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": w}) for w in words)]
    for i, (name, given) in enumerate(calls):
        text, head = json.dumps(given), {"id": f"{key}{i}", "type": "function"}
        out.append(chunk({"tool_calls": [{"index": i, **head, "function": {"name": name, "arguments": ""}}]}))
        for part in (text[:5], text[5:]):
            out.append(chunk({"tool_calls": [{"index": i, "function": {"arguments": part}}]}))
    out.append(chunk({}, "tool_calls" if calls else "stop"))
    out.append({**chunk({}), "choices": [], "usage": USAGE["chat"]})
    return sse(*out, "[DONE]")


def _anthropic(key, words, calls):
    head = {"id": key, "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    out = [{"type": "message_start", "message": {**head, "stop_sequence": None, "usage": USAGE["anthropic"]}}]
    blocks = [({"type": "text", "text": ""}, [{"type": "text_delta", "text": w} for w in words])] if words else []
    for i, (name, given) in enumerate(calls):
        text = json.dumps(given)
        parts = [{"type": "input_json_delta", "partial_json": p} for p in ("", text[:5], text[5:])]
        blocks.append(({"type": "tool_use", "id": f"{key}{i}", "name": name, "input": {}}, parts))
    for i, (block, deltas) in enumerate(blocks):
        out.append({"type": "content_block_start", "index": i, "content_block": block})
        out += [{"type": "ping"}] if block["type"] == "tool_use" else []
        out += [{"type": "content_block_delta", "index": i, "delta": d} for d in deltas]
        out.append({"type": "content_block_stop", "index": i})
    why = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    out += [{"type": "message_delta", "delta": why, "usage": {"output_tokens": 3}}, {"type": "message_stop"}]
    return sse(*((e["type"], e) for e in out))


def _responses(key, words, calls):
    head = {
        "id": key, "object": "response", "created_at": 5, "model": "m", "output": [], "tools": [],
        "tool_choice": "auto", "parallel_tool_calls": True,
    }  # fmt: skip
    out = [(f"response.{n}", {"response": {**head, "status": "in_progress"}}) for n in ("created", "in_progress")]
    items = []
    if words:
        text = {"type": "output_text", "text": "".join(words), "annotations": []}
        item = {"id": f"{key}m", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        place = {"item_id": f"{key}m", "output_index": 0, "content_index": 0}
        out.append(("response.output_item.added", {"output_index": 0, "item": {**item, "content": []}}))
        out.append(("response.content_part.added", {**place, "part": {**text, "text": ""}}))
        out += [("response.output_text.delta", {**place, "delta": w, "logprobs": []}) for w in words]
        out.append(("response.output_text.done", {**place, "text": text["text"], "logprobs": []}))
        out.append(("response.content_part.done", {**place, "part": text}))
        out.append(("response.output_item.done", {"output_index": 0, "item": item}))
        items.append(item)
    for i, (name, given) in enumerate(calls):
        given = json.dumps(given)
        item = {
            "id": f"{key}f{i}",
            "type": "function_call",
            "call_id": f"{key}{i}",
            "name": name,
            "status": "completed",
        }
        at = {"item_id": item["id"], "output_index": len(items)}
        out.append(("response.output_item.added", {"output_index": len(items), "item": {**item, "arguments": ""}}))
        out.append(("response.function_call_arguments.delta", {**at, "delta": given}))
        out.append(("response.function_call_arguments.done", {**at, "arguments": given, "name": name}))
        items.append({**item, "arguments": given})
        out.append(("response.output_item.done", {"output_index": at["output_index"], "item": items[-1]}))
    whole = {**head, "status": "completed", "output": items, "usage": USAGE["responses"]}
    out.append(("response.completed", {"response": whole}))
    return sse(*((n, {"type": n, "sequence_number": i, **e}) for i, (n, e) in enumerate(out)))
