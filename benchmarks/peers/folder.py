"""Packages of a peer in a folder or an environment of their own, seen by the peer's process only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.record import BUILD, ROOT

HOMES = BUILD / "peers"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OFFLINE = {"HF_HUB_OFFLINE": "1", **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
           "http://127.0.0.1:9")}  # fmt: skip
"""No models from a hub, and requests that leave the machine end at a closed door."""


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
        """Install the packages, once for each list of them."""
        ready, wanted = self.path / ".ready", " ".join(self.packages)
        if not ready.exists() or ready.read_text() != wanted:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]
            subprocess.run([*command, str(self.path / "packages"), *self.packages], check=True)
            ready.write_text(wanted)

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


@dataclass(frozen=True, slots=True)
class PeerEnvironment:
    """A Python environment of its own, for a peer that brings libraries which would not suffer ours.

    Args:
        name: of the folder under `build/peers/venvs`.
        package: with its version; what it depends on comes with it.
        settings: environment variables of its processes.
    """

    name: str
    package: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Made when the package is installed."""
        return HOMES / "venvs" / self.name

    @property
    def python(self) -> Path:
        return self.path / ("Scripts" if os.name == "nt" else "bin") / "python"

    def install(self) -> None:
        """Install the package with what it needs, once."""
        ready = self.path / f".{self.package}"
        if not ready.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.path)], check=True)
            subprocess.run([self.python, "-m", "pip", "install", "--quiet", self.package], check=True)
            ready.touch()

    def process(self, module: str, *arguments: object) -> dict[str, Any]:
        """What starts a module of this folder by this environment, with one thread and no way to a network."""
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return {
            "args": [str(self.python), "-m", f"{__package__}.{module}", *map(str, arguments)], "cwd": ROOT,
            "text": True, "env": kept | ONE_THREAD | OFFLINE | self.settings,
        }  # fmt: skip
