"""An MCP server that shortens texts, brings back what was left out, and counts tokens; `python -m` runs it."""

from __future__ import annotations

from typing import Any

from mcp.server import MCPServer

from tokenry.compress.base import Compressor
from tokenry.compress.kept.shortening import shorten
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse
from tokenry.models.text.counting import Counter
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.originals import Originals

USE = "lexical_relevance:budget=0.25,units=auto"


def server(originals: Originals | None = None, *, tokenizer: str = "o200k_base") -> MCPServer:
    """The server; originals are kept in the user's store where none is given."""
    store = Originals() if originals is None else originals
    made = MCPServer("tokenry", instructions="Shorten long texts; what is left out is marked and can be brought back.")

    @made.tool()
    def shorten_text(text: str, question: str = "", use: str = USE) -> dict[str, Any]:
        """Shorten a text to what matters for a question. What is left out is marked with an id."""
        method = parse(use)
        if not isinstance(method, Compressor):
            raise InvalidValue(f"use: must be a compressor; got {use!r}.")
        found = shorten(method, text, tokenizer, question or None, key=store.put(text))
        return {"text": found.text, "tokens_in": found.tokens_in, "tokens_out": found.tokens_out,
                "notes": list(found.notes)}  # fmt: skip

    @made.tool(name=retrieve.NAME, description=retrieve.ABOUT)
    def bring_back(id: str, query: str = "", first_line: int | None = None, last_line: int | None = None) -> str:
        return retrieve.answer(store, {"id": id, "query": query, "first_line": first_line, "last_line": last_line})

    @made.tool()
    def count_tokens(text: str, vocabulary: str = tokenizer) -> int:
        """Count the tokens of a text in a vocabulary."""
        return Counter.of(vocabulary)(text)

    return made


if __name__ == "__main__":
    server().run("stdio")
