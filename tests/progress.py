"""What a run of the tests says: a line every few seconds, each failure at once, and at the end the slowest tests."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator

import pytest

EVERY = 5.0
"""Seconds between two lines."""
SLOWEST = 10
BOUND = 60.0
"""CPU seconds that no fast test takes on any machine; most take a tenth of one."""


def cpu() -> float:
    """CPU seconds of this process and of the children it has waited for: others on the machine do not count."""
    return sum(os.times()[:4])


class Meter:
    """Where tests run: every report says what its phase cost, and a fast test that costs too much fails."""

    def __init__(self) -> None:
        self.since = cpu()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, bool | None, bool | None]:
        self.since = cpu()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        spent, self.since = cpu() - self.since, cpu()
        report.user_properties.append(("cpu", spent))
        slow = any(item.get_closest_marker(name) for name in ("slow", "claim", "browser"))
        if report.when == "call" and report.passed and spent > BOUND and not slow:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: must take at most {BOUND:.0f} s of CPU; took {spent:.1f}; mark it slow."
        return report


class Progress:
    """Where results are gathered: one line instead of a dot for each test."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.begun = self.said = time.monotonic()
        self.total = 0
        self.done: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.total = len(getattr(session, "items", ()))

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.total = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        """Counted as ever, under no letter."""
        called = report.when == "call"
        if hasattr(report, "wasxfail"):
            word = "XFAILED" if report.skipped else "XPASSED" if called else ""
        elif report.failed:
            word = "FAILED" if called else "ERROR"
        else:
            word = "SKIPPED" if report.skipped else "PASSED" if called else ""
        return word.lower(), "", word

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.spent[report.nodeid] += dict(report.user_properties[-1:]).get("cpu", 0.0)
        if report.failed:
            self.outcomes["failed"] += 1
            self._say(f"FAILED {report.nodeid}")
        if report.when == "teardown":
            self.done.add(report.nodeid)
        if time.monotonic() - self.said > EVERY:
            self._tell()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self._tell()
        terminalreporter.section(f"the {SLOWEST} slowest tests, in seconds of CPU")
        for name, seconds in self.spent.most_common(SLOWEST):
            terminalreporter.line(f"{seconds:6.1f}  {name}")

    def _tell(self) -> None:
        self.said = time.monotonic()
        minutes = (self.said - self.begun) / 60
        self._say(f"{len(self.done)} of {self.total} tests, {self.outcomes['failed']} failed, {minutes:.1f} min")

    def _say(self, line: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        assert terminal is not None
        terminal.ensure_newline()
        terminal.line(line)


def workers() -> int:
    """As many as there are processors, but no more than have 3 GiB of memory each, and at most 8."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, memory // 3, 8))
