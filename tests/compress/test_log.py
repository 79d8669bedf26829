"""What build tools and services say: the error stays with what explains it, whatever else they say all the time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.compress.test_shorten import Words
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.log import Log
from tokenry.core.registry import parse

LOGS = {
    "cargo": (
        [f"   Compiling {'abcdefgh'[i % 8]}-{'klmnop'[i % 6]} v0.{i}.1" for i in range(160)],
        ["error[E0308]: mismatched types", "  --> src/pool.rs:118:28", "   |", "118 |     let left: u64 = rest();",
         "   |               ---   ^^^^^^ expected `u64`, found `Option<u64>`"],
    ),
    "pytest": (
        [f"tests/test_{'abcdef'[i % 6]}.py::test_{'klmno'[i % 5]}_{i} PASSED [{i}%]" for i in range(99)],
        ["=========== FAILURES ===========", "E       assert 383 == 82", "", "tests/test_a.py:34: AssertionError",
         "=== 1 failed, 99 passed in 3.10s ==="],
    ),
    "make": (
        [f"[{i:3d}%] Building CXX object src/core.dir/{'abcdef'[i % 6]}_{'klmno'[i % 5]}.cpp.o" for i in range(99)],
        ["src/a.cpp:199:14: error: no matching function for call to 'take(int, bool)'",
         "  199 |   auto slot = pool.take(199, true);", "      |               ~~~~~~~~~^~~~~~~~~~~",
         "src/pool.h:41:9: note: candidate: 'Slot take(int)'"],
    ),
    "npm": (
        [f"2026-11-29T08:{i // 60:02}:{i % 60:02}.003Z npm warn deprecated {'abcdef'[i % 6]}: failed audits are retried"
         for i in range(99)],
        ["2026-11-29T08:09:54.100Z Error: Cannot find module './ledger'", "2026-11-29T08:09:54.100Z Require stack:",
         "2026-11-29T08:09:54.100Z - /app/src/index.js"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("at", [0, 40, 90])
def test_an_error_stays_with_what_explains_it(name, at):
    usual, error = LOGS[name]
    text = "\n".join([*usual[:at], *error, *usual[at:]]) + "\n"
    assert isinstance(kind_of(text), Log)
    found = parse("lexical_relevance:budget=0.2,units=auto").shorten(text, Words(), "Why did it stop?")
    assert "\n".join(error) in found.text


def test_a_word_that_comes_all_the_time_alarms_once():
    usual, error = LOGS["npm"]
    cut = Log().cut("\n".join([*usual, *error]) + "\n")
    strong = np.flatnonzero(cut.strong)
    assert strong[0] == 0
    assert strong[strong > 5].min() >= len(usual) - 3


def test_lines_of_an_indented_log_stand_for_themselves():
    usual, _ = LOGS["cargo"]
    assert len(Log().cut("\n".join(usual) + "\n")) == len(usual)


def test_a_heading_behind_an_error_hides_it_from_nobody():
    text = "step\n" * 9 + "a.py:3: AssertionError\n=== done ===\n"
    assert Log().cut(text).strong[9]


def test_errors_leave_room_for_what_is_asked_for():
    lines = [f"2026-11-30 10:00:{i % 60:02d} ERROR w{i} {'abcdefghij'[i % 10] * (i % 7 + 2)} broke" for i in range(60)]
    lines[50] = "2026-11-30 10:00:50 INFO the invoice of Marchetti was sent"
    found = parse("lexical_relevance:budget=0.2,units=log").shorten("\n".join(lines), Words(), "Marchetti's invoice?")
    assert "Marchetti" in found.text
    assert "ERROR" in found.text


@pytest.mark.parametrize("lines", [True, False])
def test_a_record_that_reports_an_error_stays(lines):
    said = [{"level": "info", "msg": f"step {i} of {'abcdefg'[i % 7]}x was done"} for i in range(99)]
    said[41] = {"level": "error", "msg": "no space on sda7", "at": 41}
    said[60:70] = [{"level": "error", "msg": "gateway timed out", "at": i} for i in range(10)]
    text = "".join(json.dumps(r) + "\n" for r in said) if lines else json.dumps(said)
    found = parse("lexical_relevance:budget=0.2,units=auto").shorten(text, Words(), "cx")
    assert "no space on sda7" in found.text
    assert "of cx was" in found.text
    assert found.text.count("timed out") == 1
    assert "sda7" not in parse("lexical_relevance:budget=0.2,units=json,guard=false").shorten(text, Words(), "cx").text
