"""The receipt: what every step took and what the answer cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

COSTS = ("seconds", "tokens", "bytes", "flops")
"""What may be made small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """One method's part: document tokens before and after it, and its seconds."""

    method: str
    room: str
    tokens_in: int
    tokens_out: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Wall-clock seconds. `first_token` is compression and prefill together, without loading."""

    load: float
    prefill: float
    decode: float
    first_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one answer cost.

    Args:
        steps: each method of the pipeline in order.
        prompt_tokens: tokens the model read, template and question included.
        new_tokens: tokens generated.
        read_per_step: tokens that attention read in each decoding step, mean over layers and KV heads.
        seconds: wall-clock times.
        tokens_per_second: generated tokens after the first, by the seconds they took.
        flops: operations of the answering model by arithmetic; encoders of compressors are not counted.
        kv_bytes: keys and values held when the answer ended.
        bytes_read: bytes of keys and values that attention and its selection read, over prompt and answer.
        peak_bytes: most memory of the process, model included.
        notes: sentences on what was done otherwise than the budgets say, such as reading everything in a short cache.
    """

    steps: tuple[StepCost, ...]
    prompt_tokens: int
    new_tokens: int
    read_per_step: tuple[float, ...] = field(repr=False)
    seconds: Seconds
    tokens_per_second: float
    flops: float
    kv_bytes: int
    bytes_read: int
    peak_bytes: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lists = {"read_per_step": list(self.read_per_step), "notes": list(self.notes)}
        return asdict(self) | {"steps": [asdict(s) for s in self.steps]} | lists

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Receipt:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **values,
                "steps": tuple(StepCost(**s) for s in values["steps"]),
                "read_per_step": tuple(values["read_per_step"]),
                "seconds": Seconds(**values["seconds"]),
                "notes": tuple(values.get("notes", ())),
            }
        )
