"""What a run of the tests says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import progress

CONFTEST = """
from tests import progress

progress.BOUND, progress.EVERY = 0.2, 0.0


def pytest_configure(config):
    config.pluginmanager.register(progress.Meter())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(progress.Progress(config))
"""
TESTS = """
import subprocess, sys, time
import pytest

SPIN = "import time\\nwhile time.process_time() < 0.4: pass"

def test_waits():
    time.sleep(0.4)

def test_works():
    exec(SPIN.replace("0.4", str(time.process_time() + 0.4)))

def test_lets_another_work():
    subprocess.run([sys.executable, "-c", SPIN])

@pytest.mark.slow
def test_may_work():
    exec(SPIN.replace("0.4", str(time.process_time() + 0.4)))

def test_fails():
    assert False

@pytest.mark.xfail(strict=True)
def test_is_exempt():
    assert False

def test_is_skipped():
    pytest.skip("why")
"""


def test_lines_failures_and_the_slowest_are_said(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\nconsole_output_style = classic\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert "7 of 7 tests, 3 failed" in done.stdout
    failed = {line.rpartition("::")[2] for line in lines if line.startswith("FAILED") and " - " not in line}
    assert failed == {"test_works", "test_lets_another_work", "test_fails"}
    assert "must take at most 0 s of CPU" in done.stdout
    at = next(i for i, line in enumerate(lines) if "slowest tests" in line)
    slowest = {line.rpartition("::")[2] for line in lines[at + 1 : at + 4]}
    assert slowest == {"test_works", "test_lets_another_work", "test_may_work"}
    assert "3 failed, 2 passed, 1 skipped, 1 xfailed" in lines[-1]


def test_a_worker_for_each_processor_but_not_more_than_memory_holds(monkeypatch):
    monkeypatch.setattr(progress.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert 1 <= progress.workers() <= 8
    monkeypatch.setattr(progress.os, "sysconf", lambda name: 4096 if "SIZE" in name else (7 << 30) // 4096)
    assert progress.workers() == 2
    monkeypatch.setattr(progress.os, "sysconf", lambda name: 4096 if "SIZE" in name else (1 << 30) // 4096)
    assert progress.workers() == 1
