"""What libraries say: nothing beside an answer, everything with `--verbose`; what tokenry has to say is a line."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any, TextIO

from tokenry.core.errors import Notice

SILENT = {
    "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_LOG_LEVEL": "ERROR",
}  # fmt: skip
"""Read by libraries when they are imported, here and in other processes."""


def settle(verbose: bool) -> None:
    """Keep libraries silent, or log what happens on standard error."""
    if verbose:
        logging.basicConfig(
            level=logging.INFO, stream=sys.stderr, force=True,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S",
        )  # fmt: skip
        logging.getLogger("tokenry").setLevel(logging.DEBUG)
        os.environ |= {"TRANSFORMERS_VERBOSITY": "warning", "HF_HUB_VERBOSITY": "warning"}
    else:
        for name, value in SILENT.items():
            os.environ.setdefault(name, value)
    warnings.showwarning = _show


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None, **_: Any,
) -> None:  # fmt: skip
    if issubclass(category, Notice):
        sys.stderr.write(f"{message}\n")
    else:
        logging.getLogger("py.warnings").info("%s:%s: %s: %s", filename, lineno, category.__name__, message)
