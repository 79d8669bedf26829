"""Look for bytes that break a promise, guided by what the code does: `python -m tests.fuzz NAME --seconds 60`.

Needs atheris. What breaks is printed with its bytes; a run of one name ends with the first.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ModuleNotFoundError:
    raise SystemExit("tests.fuzz: atheris must be installed; it is not; pip install 'tokenry[fuzz]'.") from None

with atheris.instrument_imports(include=["tokenry", "tests.fuzz"]):
    from tests.fuzz.targets import all_targets


def main() -> None:
    """Run one target for some seconds, or on one file of bytes."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("name", choices=sorted(all_targets()))
    options.add_argument("--seconds", type=int, default=60, help="how long to look")
    options.add_argument("--seed", type=int, default=1, help="where to begin")
    options.add_argument("--corpus", type=Path, help="a folder in which what is new is kept")
    options.add_argument("--only", type=Path, help="run a file of bytes that was found, and nothing else")
    given = options.parse_args()
    target = all_targets()[given.name]
    if given.only is not None:
        target(given.only.read_bytes())
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = given.corpus or Path(folder)
        corpus.mkdir(exist_ok=True)
        for i in range(16):
            (corpus / f"seed{i}").write_bytes(bytes([i]) + random.Random(i).randbytes(4 * i))
        limits = ("-max_len=300", "-len_control=0", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1")
        run = [sys.argv[0], str(corpus), f"-max_total_time={given.seconds}", f"-seed={given.seed}", *limits]
        atheris.Setup([*run, f"-artifact_prefix={os.environ.get('FUZZ_FOUND', folder)}/"], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
