"""LangChain: a middleware for agents, and a compressor for retrieved documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.messages import convert_to_openai_messages

from tokenry.apps.adapters.settings import Settings
from tokenry.compress.base import Compressor
from tokenry.compress.kept.shortening import shorten
from tokenry.core.registry import parse


class ShorteningMiddleware(AgentMiddleware):
    """Shorten results of tools before each call of the model; what the agent remembers stays whole.

    Args:
        settings: those of `Settings`; originals are in the agent's own state, so no tool is added.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = Settings(**settings)

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        return handler(self._shortened(request))

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        return await handler(self._shortened(request))

    def _shortened(self, request: ModelRequest) -> ModelRequest:
        plain = [convert_to_openai_messages(m) for m in request.messages]
        found, _ = self.settings.shortened(plain)
        messages = [
            m if new is old else m.model_copy(update={"content": new["content"]})
            for m, old, new in zip(request.messages, plain, found, strict=True)
        ]
        return request.override(messages=messages)


class DocumentShortening(BaseDocumentCompressor):
    """Shorten each retrieved document to what matters for the query.

    Args:
        use: a compressor in its one-line form.
        tokenizer: whose tokens are counted.
    """

    use: str = "lexical_relevance:budget=0.25,units=auto"
    tokenizer: Any = "o200k_base"

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> Sequence[Document]:
        method = parse(self.use)
        assert isinstance(method, Compressor)
        texts = [shorten(method, d.page_content, self.tokenizer, query).text for d in documents]
        return [d.model_copy(update={"page_content": text}) for d, text in zip(documents, texts, strict=True)]
