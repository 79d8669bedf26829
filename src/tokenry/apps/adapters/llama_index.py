"""LlamaIndex: a postprocessor that shortens retrieved nodes to what matters for the query."""

from __future__ import annotations

from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from tokenry.compress.base import Compressor
from tokenry.compress.kept.shortening import shorten
from tokenry.core.registry import parse


class NodeShortening(BaseNodePostprocessor):
    """Shorten the text of each node; nodes in the index stay as they are.

    Args:
        use: a compressor in its one-line form.
        tokenizer: whose tokens are counted.
    """

    use: str = "lexical_relevance:budget=0.25,units=auto"
    tokenizer: Any = "o200k_base"

    @classmethod
    def class_name(cls) -> str:
        return "NodeShortening"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        method = parse(self.use)
        assert isinstance(method, Compressor)
        ask = None if query_bundle is None else query_bundle.query_str
        found = []
        for scored in nodes:
            node = scored.node
            if isinstance(node, TextNode):
                text = shorten(method, node.get_content(MetadataMode.NONE), self.tokenizer, ask).text
                node = node.model_copy(update={"text": text})
            found.append(NodeWithScore(node=node, score=scored.score))
        return found
