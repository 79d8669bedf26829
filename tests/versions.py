"""Run the tests of the model room against the lowest and the newest supported version of transformers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Put each version into a folder of its own beside the installed packages, and test with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = next(d for d in project["project"]["dependencies"] if d.startswith("transformers"))
    lowest = re.search(r">=([\d.]+)", wanted)
    assert lowest is not None
    tested = set()
    for requirement in (f"transformers~={lowest[1]}.0", wanted):
        folder = ROOT / "build" / "versions" / re.sub(r"\W+", "-", requirement)
        _run("-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--target", str(folder), requirement)
        version = next(d.version for d in distributions(path=[str(folder)]) if d.name == "transformers")
        if version not in tested:
            print("transformers", version, flush=True)
            _run("-m", "pytest", "-q", "tests/models", "tests/contract/test_attend.py", path=folder)
        tested.add(version)


def _run(*arguments: str, path: Path | None = None) -> None:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
