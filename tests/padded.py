"""Rows of random ids for tiny models, all but the first padded on the left."""

from __future__ import annotations

import torch
from torch import Tensor


def padded(n: int = 40, pad: int = 9, rows: int = 2) -> dict[str, Tensor]:
    """What `generate` and `forward` take: ids and mask (rows, n)."""
    ids = torch.randint(3, 128, (rows, n), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1:, :pad] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
