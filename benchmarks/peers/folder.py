"""Packages of a peer in a folder of their own, seen by the peer's process only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import BUILD, ROOT

HOMES = BUILD / "peers"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, slots=True)
class PeerFolder:
    """Where one peer lives.

    Args:
        name: of the folder under `build/peers`.
        packages: what pip installs there, without what they depend on.
    """

    name: str
    packages: Sequence[str]

    @property
    def path(self) -> Path:
        """Made when packages are installed."""
        return HOMES / self.name

    def install(self) -> None:
        """Install the packages, once."""
        ready = self.path / ".ready"
        if not ready.exists():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]
            subprocess.run([*command, str(self.path / "packages"), *self.packages], check=True)
            ready.touch()

    def process(self, module: str, *arguments: object) -> dict[str, Any]:
        """What starts a module of this folder as a process that sees the packages, uses one thread and asks no network
        for models: arguments of `subprocess`.
        """
        ours = os.environ.get("PYTHONPATH")
        seen = os.pathsep.join([str(self.path / "packages"), *([ours] if ours else [])])
        return {
            "args": [sys.executable, "-m", f"{__package__}.{module}", *map(str, arguments)], "cwd": ROOT, "text": True,
            "env": os.environ | ONE_THREAD | {"PYTHONPATH": seen, "HF_HUB_OFFLINE": "1"},
        }  # fmt: skip
