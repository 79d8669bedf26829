"""Libraries that only some files need."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from tokenry.core.errors import InvalidValue

EXTRAS: Mapping[str, str] = {
    "tiktoken": "vocabularies", "sentencepiece": "vocabularies", "soundfile": "audio", "soxr": "audio",
    "peft": "collages", "skimage": "collages", "sklearn": "collages", "starlette": "serve", "uvicorn": "serve",
    "httpx": "serve", "prometheus_client": "serve", "numba": "training", "pyarrow": "parquet", "ray": "ray",
}  # fmt: skip
"""The extra that brings each library, by the name it is imported under."""


def need(library: str, what: str) -> Any:
    """Import a library, or say what it is needed for and how to get it.

    Raises:
        InvalidValue: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        package = library.partition(".")[0]
        wanted = f'"tokenry[{EXTRAS[package]}]"' if package in EXTRAS else package
        raise InvalidValue(
            f"{what}: needs the package {library}, which is not installed; run `pip install {wanted}`."
        ) from None
