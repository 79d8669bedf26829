"""What kind of processor computes: that decides which of two equal ways is the faster one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch

Processor = Literal["tiles", "pairs", "plain", "accelerator"]
"""`tiles` multiplies small matrices of bfloat16 at once (AMX), `pairs` multiplies pairs of them (AVX512-BF16),
`plain` has neither; `accelerator` is no processor at all."""


WORDS: dict[Processor, str] = {
    "tiles": "a processor that multiplies tiles of bfloat16", "pairs": "a processor that multiplies pairs of bfloat16",
    "plain": "a processor without products of bfloat16", "accelerator": "an accelerator",
}  # fmt: skip


def processor_of(device: torch.device) -> Processor:
    """The kind of a device. It follows from the machine alone, so the same call does the same there every time."""
    return "accelerator" if device.type != "cpu" else _processor()


def has_tiles() -> bool:
    """Whether this processor multiplies tiles."""
    return _processor() == "tiles"


@lru_cache(maxsize=1)
def _processor() -> Processor:
    can: dict[str, Any] = dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}
    return "tiles" if can.get("amx_bf16") else "pairs" if can.get("avx512_bf16") else "plain"
