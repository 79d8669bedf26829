"""From how many cached tokens on a choice among them takes less time than reading all of them, as measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch

from tokenry.core.budget import Budget
from tokenry.models.attention.processor import WORDS, Processor, processor_of

MEASURED: Mapping[tuple[Processor, str], Mapping[str, int]] = {
    ("pairs", "float32"): {"token_select": 8192, "quest": 2048, "fasa": 16384, "dhsa": 4096},
    ("pairs", "bfloat16"): {"token_select": 4096, "quest": 2048, "fasa": 16384, "dhsa": 4096},
    ("tiles", "bfloat16"): {"token_select": 65536},
}
"""By kind of processor and numbers, for every method that chooses: as `benchmarks.attend.where_choosing_pays` found
it, the longer of two shapes of heads. That of `tiles` is no result of it: such a processor read 32,768 tokens sooner
than it had voted over them. What nobody has measured always chooses."""


@dataclass(frozen=True, kw_only=True)
class Whole(Budget):
    """A budget of sequences that are long enough; of shorter ones everything."""

    below: int = 0
    why: str = ""

    def count(self, n: int) -> int:
        return n if n < self.below else Budget.count(self, n)

    def adds(self, n: int) -> bool:
        """Whether more of `n` tokens remains than without the length."""
        return Budget.count(self, n) < self.count(n)


def pays_from(method: str, device: torch.device, dtype: torch.dtype) -> int:
    """The length of a cache from which a method gains time here; 0 where it always does, or nobody knows.

    It follows from the kind of processor and the numbers alone: nothing is timed while a model answers.
    """
    return MEASURED.get((processor_of(device), str(dtype).removeprefix("torch.")), {}).get(method, 0)


@lru_cache(maxsize=512)
def whole_below(method: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The same method, which reads everything of a sequence with fewer tokens than its `dense_below` says here."""
    length, why = method.dense_below, "everything is asked for (dense_below)"
    if length == "auto":
        length = pays_from(method.name(), device, dtype)
        why = f"choosing takes longer on {WORDS[processor_of(device)]} in {str(dtype).removeprefix('torch.')}"
    if length == 0:
        return method
    budget = {f.name: getattr(method.budget, f.name) for f in fields(Budget)}
    why = f"below {length:,} cached tokens {why}"
    return replace(method, budget=Whole(**budget, below=length, why=why), dense_below=0)
