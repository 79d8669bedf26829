"""Run the tests of all that touches models against the lowest and the newest supported version of transformers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ("models", "attend", "decode", "embed", "learn", "probe", "soft", "contract", "pipeline")
SIDE_BY_SIDE = ("-n", "auto", "--dist", "worksteal")

SIDE_BY_SIDE = ("-n", "auto", "--dist", "worksteal")


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
        # The sources of this checkout, wherever the installed package comes from.
        path = os.pathsep.join(map(str, (folder, ROOT / "src")))
        version = _run("-c", "import transformers; print(transformers.__version__)", path=path, told=True)
        if version not in tested:
            print("transformers", version, flush=True)
            _run("-m", "pytest", *SIDE_BY_SIDE, *(f"tests/{name}" for name in TESTS), path=path)
        tested.add(version)


def _run(*arguments: str, path: str | None = None, told: bool = False) -> str:
    """Run Python; what it prints is shown, or told to the caller."""
    environment = os.environ | ({"PYTHONPATH": path} if path else {})
    out = subprocess.PIPE if told else None
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=out, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return (done.stdout or "").strip()


if __name__ == "__main__":
    main()
