"""Libraries that only some files need."""

from __future__ import annotations

import importlib
from typing import Any

from tokenry.core.errors import InvalidValue


def need(library: str, what: str) -> Any:
    """Import a library, or say what it is needed for and how to get it.

    Raises:
        InvalidValue: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        raise InvalidValue(
            f"{what}: needs the package {library}, which is not installed; run `pip install {library}`."
        ) from None
