"""A batch on Ray: the same bytes as in one process, whoever is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.apps.test_cli_batch import rows, until
from tests.pipeline.test_batch import Counting, corpus, files, lines
from tokenry.core.errors import InvalidValue, WorkerLost
from tokenry.pipeline.batch.run import run_batch
from tokenry.pipeline.batch.work import Work

pytest.importorskip("ray")
# Ray warns of settings of its own.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
__all__ = ["corpus"]

SHORTEN = Work(use=("lexical_relevance:budget=0.5",), ask="What of taxes?")


def test_ray_gives_the_same_bytes(corpus, tmp_path):
    run_batch([corpus], SHORTEN, tmp_path / "one", size=4)
    receipt = run_batch([corpus], SHORTEN, tmp_path / "ray", size=4, workers=2, ray="local")
    assert files(tmp_path / "one") == files(tmp_path / "ray")
    assert sum(w["rows"] for w in receipt["workers"].values()) == 24
    assert all(w["peak_bytes"] > 0 for w in receipt["workers"].values())


def test_a_worker_that_is_killed_is_replaced_and_one_that_always_is_is_named(tmp_path):
    file = lines(tmp_path / "r.jsonl", ["a", "bb", "kill once", "dddd", "e", "f"])
    run_batch([file], Counting(mark=str(tmp_path / "mark")), tmp_path / "out", size=2, workers=2, ray="local")
    assert [r["id"] for r in rows(tmp_path / "out")] == list(range(6))
    file = lines(tmp_path / "k.jsonl", ["a", "bb", "kill", "dddd"])
    with pytest.raises(WorkerLost, match="must live until the end"):
        run_batch([file], Counting(), tmp_path / "killed", size=2, workers=1, ray="local")


def test_an_address_at_which_nothing_answers(corpus, tmp_path):
    with pytest.raises(InvalidValue, match="nothing answers at"):
        run_batch([corpus], SHORTEN, tmp_path / "out", ray="127.0.0.1:1")


@pytest.mark.parametrize("who", ["worker", "driver", "ray"])
def test_nothing_is_lost_and_nothing_is_there_twice(tmp_path, who):
    text = "Taxes fall by two percent. The weather was fine. A committee met about other things. "
    file = lines(tmp_path / "rows.jsonl", [f"{text}{i}." for i in range(1500)])
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "tokenry", "batch", str(file), "--use", "lexical_relevance:budget=0.5",
        "--ask", "Taxes?", "--part", "10", "--workers", "2", "--out", str(out), "--json",
    ]  # fmt: skip
    mine = os.environ | {"TOKENRY_TEST": str(tmp_path)}
    run = subprocess.Popen([*command, "--ray", "local"], env=mine, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(list(out.glob("done/*.json"))) > 4 or run.poll() is not None, 120)
    assert run.poll() is None, run.stderr.read()
    if who == "driver":
        run.send_signal(signal.SIGKILL)
    else:
        for pid in processes(str(tmp_path), {"worker": ("ray::MapWorker",), "ray": ("raylet", "gcs_server")}[who]):
            os.kill(pid, signal.SIGKILL)
    _, err = run.communicate(timeout=120)
    if who == "worker":
        assert run.returncode == 0, err
    else:
        assert run.returncode != 0
        assert len(rows(out)) < 1500
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        assert json.loads(done.stdout)["parts_before"] > 4
    assert [r["id"] for r in rows(out)] == list(range(1500))


def processes(mark, names):
    """Processes of one run alone, by what it wrote into their environment."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                own = f"TOKENRY_TEST={mark}".encode() in stream.read().split(b"\0")
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                line = stream.read().decode(errors="replace")
        except OSError:
            continue
        if own and any(name in line for name in names):
            found.append(int(pid))
    assert found
    return found
