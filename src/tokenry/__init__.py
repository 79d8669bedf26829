"""tokenry: everything that happens to tokens between raw data and attention.

Importing this module changes nothing elsewhere and loads no torch; names are looked up when they are used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Budget": "tokenry.core.budget",
    "Document": "tokenry.models.text.document",
    "Pipeline": "tokenry.pipeline.pipeline",
    "TokenBatch": "tokenry.core.tokens",
    "Trace": "tokenry.pipeline.trace",
    "Reading": "tokenry.pipeline.reading",
    "compress_messages": "tokenry.pipeline.messages.compressing",
    "load": "tokenry.models.files.load",
    "load_vision_language": "tokenry.models.signals.vision_language",
    "open_tokenizer": "tokenry.segment.engines.opening",
    "parse": "tokenry.core.registry",
    "unfold": "tokenry.compress.folding.folded",
    "wrap": "tokenry.apps.adapters.clients",
}


def __getattr__(name: str) -> Any:
    """Public names, and the class of every method and part."""
    home = _HOMES.get(name)
    if home is None and not name.startswith("_"):
        from tokenry.core.registry import entries, parts

        home = next((e.module for e in (*entries(), *parts()) if e.class_name == name), None)
    if home is None:
        raise AttributeError(f"module 'tokenry' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    from tokenry.core.registry import entries, parts

    return sorted({*_HOMES, *(e.class_name for e in (*entries(), *parts())), "__version__"})
