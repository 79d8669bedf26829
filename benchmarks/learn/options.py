"""What the benchmarks of learning are asked on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import torch


def options(about: str | None, arms: Iterable[str]) -> argparse.Namespace:
    """Which arms and seeds, each None where all are wanted; torch gets its threads at once."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--arm", choices=list(arms), action="append", help="only these arms")
    parser.add_argument("--seed", type=int, action="append", help="only these seeds")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given
