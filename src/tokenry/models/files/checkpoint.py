"""Weights that were read from another format, as a folder that plain transformers loads in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tokenry.core.errors import StorageError

DAMAGED = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
"""What reading a damaged file may raise, up to the check that its weights make a model."""


@contextmanager
def reading(source: Path, needed: str) -> Iterator[None]:
    """Say of a damaged file what it must hold.

    Raises:
        StorageError: whatever a damaged file makes readers raise.
    """
    try:
        yield
    except DAMAGED as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else f"{error}".strip().partition("\n")[0]
        raise StorageError(f"{source}: must {needed}; {reason.rstrip('.')}; fetch it again.") from error


def write_checkpoint(kind: Any, config: Any, weights: Mapping[str, Tensor], draft: Path) -> None:
    """Write safetensors and a configuration, and load them once.

    Args:
        kind: class of the model.
        weights: by the names of published checkpoints.

    Raises:
        ValueError, RuntimeError: a weight is missing, left over or of another shape.
        StorageError: the folder cannot be written.
    """
    config.architectures = [kind.__name__]
    try:
        save_file({n: w.contiguous() for n, w in weights.items()}, draft / "model.safetensors", {"format": "pt"})
        config.save_pretrained(draft)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{draft.parent}: must have room for the converted model; {error}.") from error
    _, report = kind.from_pretrained(draft, use_safetensors=True, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            raise ValueError(f"{what.replace('_', ' ')}: {', '.join(map(str, sorted(report[what])[:3]))}")
