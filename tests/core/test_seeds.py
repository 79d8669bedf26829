"""Every bit of a seed counts."""

from __future__ import annotations

import torch

from tokenry.core.schooling import Schooling
from tokenry.core.seeds import mixed


def test_small_seeds_stay_and_all_bits_count():
    assert [mixed(seed) for seed in (0, 7, 0xFFFFFFFF)] == [0, 7, 0xFFFFFFFF]
    assert len({mixed(high << 32 | low) for high in range(40) for low in range(40)}) == 1600
    assert mixed(1 << 40) != 0


def test_trainings_with_other_seeds_draw_other_rows():
    drawn = {torch.rand(1, generator=Schooling(seed=seed).draws(3)).item() for seed in range(6)}
    assert len(drawn) == 6
