"""LoRA through peft, where that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tokenry.core.errors import InvalidValue


@contextmanager
def adapted(model: Any, rank: int) -> Iterator[Any]:
    """The model with LoRA matrices of this rank at every linear layer but the output; its own weights rest.

    The matrices stay when the block ends well. After an exception the model is as it was.

    Raises:
        InvalidValue: peft is not installed, or the model has adapters already.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InvalidValue(
            "fit: rank above 0 needs the package peft, which is not installed; run "
            '`pip install "tokenry[collages]"`, or set rank=0.'
        ) from None
    if hasattr(model, "peft_config"):
        raise InvalidValue("fit: rank must be 0 where the model has adapters already; got one with adapters.")
    learning = [p for p in model.parameters() if p.requires_grad]
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, settings)
    try:
        yield wrapped
    except BaseException:
        wrapped.unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
        for p in learning:
            p.requires_grad_(True)
        raise
