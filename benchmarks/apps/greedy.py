"""Work whose one row takes more and more memory, until somebody ends it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from tokenry.pipeline.batch.work import Doing, Work

GREEDY = "greedy"
STEP, STEPS = 100 << 20, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy(Work):
    """Encodes nothing; a row that says so takes three gigabytes, a little at a time."""

    @property
    def kind(self) -> str:
        return "encode"

    def open(self) -> Doing:
        def row(values: dict[str, Any]) -> dict[str, Any]:
            held = []
            while values["text"] == GREEDY and len(held) < STEPS:
                held.append(os.urandom(1 << 20) * (STEP >> 20))
                time.sleep(0.1)
            return {"ids": [len(held)], "tokens": 1}

        return row
