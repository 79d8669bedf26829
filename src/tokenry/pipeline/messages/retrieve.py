"""The tool by which a model gets back what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenry.compress.parts.auto import Auto
from tokenry.compress.scores.terms import bm25, terms_for
from tokenry.compress.units.lines import lines
from tokenry.core.errors import InvalidValue
from tokenry.pipeline.messages.originals import Originals

NAME = "tokenry_retrieve"
ABOUT = (
    "Get text that was left out of a tool result or a document. A mark such as [lines 41–118 left out, id "
    "0123456789ab] names the id. Give the id, and lines or a query to get only a part."
)
_FIELDS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "the id in the mark"},
        "first_line": {"type": "integer", "description": "first line wanted, from 1"},
        "last_line": {"type": "integer", "description": "last line wanted"},
        "query": {"type": "string", "description": "words; the parts that match them best are given"},
    },
    "required": ["id"],
}
MOST = 20_000
"""Characters of one answer; a query or lines give the rest."""
BEST = 10
"""Parts that a query gives."""


def schema(style: str = "chat") -> dict[str, Any]:
    """The tool as a request declares it: `chat` and `responses` of OpenAI, `anthropic`."""
    if style == "anthropic":
        return {"name": NAME, "description": ABOUT, "input_schema": dict(_FIELDS)}
    function = {"name": NAME, "description": ABOUT, "parameters": dict(_FIELDS)}
    return {"type": "function", **function} if style == "responses" else {"type": "function", "function": function}


def carries(tools: Sequence[Any] | None) -> bool:
    """Whether tools of a request have this one."""
    named = (t.get("name") or (t.get("function") or {}).get("name") for t in tools or () if isinstance(t, Mapping))
    return NAME in named


def gave(tool: str) -> bool:
    """Whether a result came from this tool, by itself or among those of an MCP server."""
    return tool.endswith(NAME)


def answer(originals: Originals, given: str | Mapping[str, Any]) -> str:
    """What a call gets: a text, or a sentence that says why there is none."""
    try:
        wanted = json.loads(given) if isinstance(given, str) else given
        text = originals.get(str(wanted["id"]))
    except (ValueError, KeyError, TypeError, InvalidValue) as error:
        return f"{NAME}: must be called with the id of a mark; got {given!r:.80} ({error})."
    if text is None:
        return f"{NAME}: nothing is kept under {wanted['id']}, or no longer; call the tool that gave it again."
    if wanted.get("query"):
        return _bounded(_matching(text, str(wanted["query"])))
    first, last = (wanted.get(name) for name in ("first_line", "last_line"))
    if isinstance(first, int) or isinstance(last, int):
        every = lines(text)
        low = max(1, first if isinstance(first, int) else 1)
        high = last if isinstance(last, int) else len(every)
        return _bounded("".join(every[low - 1 : high])) or f"{NAME}: there are {len(every)} lines; got {low} to {high}."
    return _bounded(text)


def _matching(text: str, query: str) -> str:
    """The parts that match a query, in the order of the text."""
    cut = Auto().cut(text)
    parts, shown = cut.texts(text), cut.shown(text)
    terms, asked = terms_for(query, "\n".join(shown))
    scores, _ = bm25(shown, terms, asked, k1=1.5, b=0.75)
    best = sorted(u for u in scores.argsort()[::-1][:BEST].tolist() if scores[u] > 0)
    return "\n".join(parts[u].strip("\n") for u in best) or f"{NAME}: nothing matches {query!r}."


def _bounded(text: str) -> str:
    if len(text) <= MOST:
        return text
    cut = text[:MOST].rpartition("\n")[0] or text[:MOST]
    n = cut.count("\n") + 1
    return f"{cut}\n[cut behind line {n} of {text.count(chr(10)) + 1}; ask for further lines]"
