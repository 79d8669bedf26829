"""Tables at any width, the line that says what goes on, and what libraries may say."""

from __future__ import annotations

import ast
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenry.apps.cli import quiet, status, tables
from tokenry.core.errors import Notice
from tokenry.core.progress import counted, now, watched
from tokenry.pipeline import arm as arms
from tokenry.pipeline import compare as comparing

COLUMNS = (tables.Column("KL", width=6), tables.Column("prompt", 1, 6), tables.Column("peak", 2, 7))
NAMES = ["dense", "compress/dense_relevance:budget=0.25 | attend/token_select:budget=64", "attend/snapkv:budget=64"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def printed(capfd, width, names=NAMES, columns=COLUMNS, monkeypatch=None):
    monkeypatch.setattr(tables, "width", lambda: width)
    table = tables.Table("arm", names, columns)
    table.heading()
    for name in names:
        table.row(name, ["0.123", "1234", "12 MB"], note="a note")
    return capfd.readouterr().out.splitlines()


def test_a_pipe_gets_every_name_and_column_on_one_line(capfd, monkeypatch):
    lines = printed(capfd, None, monkeypatch=monkeypatch)
    assert lines[0].split() == ["arm", "KL", "prompt", "peak"]
    for name in NAMES:
        row = next(line for line in lines if line.startswith(name))
        assert row.removeprefix(name).split() == ["0.123", "1234", "12", "MB"]


@pytest.mark.parametrize("width", [120, 80, 60, 44, 34])
def test_a_terminal_wraps_names_and_drops_the_least_columns(capfd, monkeypatch, width):
    lines = printed(capfd, width, monkeypatch=monkeypatch)
    assert all(len(line) <= width for line in lines)
    heading = lines[0].split()
    assert heading == ["arm", "KL", "prompt", "peak"][: len(heading)]
    assert heading[:2] == ["arm", "KL"]
    assert (len(heading) == 4) == (width >= 60)
    text = "".join(line.split("  0.123")[0].strip() for line in lines)
    assert all(name.replace(" ", "") in text.replace(" ", "") for name in NAMES)


@given(
    text=st.text(st.sampled_from("ab/:,=| x"), max_size=60), wide=st.integers(8, 60), indent=st.sampled_from(["", "  "])
)
def test_folding_keeps_every_part_that_fits(text, wide, indent):
    lines = tables.folded(text, wide, indent)
    assert lines
    assert all(len(line) <= wide for line in lines)
    kept, whole = "".join(lines).replace(" ", ""), text.replace(" ", "")
    assert "…" in kept or kept == whole


def test_what_is_too_long_loses_its_middle():
    assert tables.shortened("tokenizer-of-mine", 9) == "toke…mine"
    assert tables.shortened("short", 9) == "short"


def test_explicit_settings_stay_in_names(tokenry, small, document, monkeypatch):
    """Also those that equal a default, and those of the control."""
    monkeypatch.setattr(comparing, "spawn", arms.run)
    done = tokenry("compare", "window:budget=1024", "window", "--text", document, "--model", small, "--max-new", 2)
    assert done.status == 0, done.err
    table, _, answers = done.out.partition("\n\n")
    names = [row.split("  ")[0] for row in table.splitlines()]
    assert [name.split(":")[0] for name in names] == [
        "arm", "dense", "attend/window", "attend/random", "attend/window", "attend/random",
    ]  # fmt: skip
    # The control of one that says nothing has another default, so its name must say it.
    assert ["budget=1024" in name for name in names][:5] == [False, False, True, True, False]
    assert answers.count("attend/window") == 2


def test_every_arm_is_told_when_it_has_ended(monkeypatch):
    order = []
    receipt = {"steps": [], "prompt_tokens": 1, "new_tokens": 1, "read_per_step": [], "tokens_per_second": 0.0,
               "flops": 0.0, "kv_bytes": 0, "bytes_read": 0, "peak_bytes": 0,
               "seconds": {"load": 0.0, "prefill": 0.0, "decode": 0.0, "first_token": 0.0}}  # fmt: skip
    monkeypatch.setattr(comparing, "spawn", lambda _: {"answer": "", "receipt": receipt, "kl": None, "top1": None})
    chosen = comparing.pipelines(["snapkv:budget=64", "decode/soft_thinking"])
    found = comparing.compare(
        arms.Job(model="m", documents=[]), chosen, lambda n: order.append(n), lambda a: order.append(a)
    )
    names = [name for name, _, _ in comparing.planned(chosen)]
    assert [a.name for a in found] == names == order[::2]
    assert order[1::2] == found


def test_the_line_is_shown_in_a_terminal_and_makes_way(monkeypatch):
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    with status.working("first") as work:
        now("reading chunk 2 of 3")
        work._bar.refresh()
        with work.aside():
            before = len(err.getvalue())
            now("nobody sees this")
            assert len(err.getvalue()) == before
        work._bar.refresh()
    assert "first: reading chunk 2 of 3" in err.getvalue()
    assert "\x1b[2K" in err.getvalue()


def test_nothing_of_it_elsewhere(monkeypatch, tokenry, small, document):
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with status.working("first") as work, status.bars() as tell:
        now("reading chunk 2 of 3")
        work.say("more")
        tell("part", 1, 2)
    assert err.getvalue() == ""
    monkeypatch.undo()


def test_a_run_says_nothing_of_it_to_a_pipe(tokenry, small, document):
    done = tokenry("run", document, "--ask", "Who?", "--model", small, "--max-new", 3, "--use",
                   f"self_information:scorer={small},budget=0.5,window=128,stride=96", "--json")  # fmt: skip
    assert (done.status, done.err) == (0, "")


def test_what_goes_on_is_said_in_order(small, document):
    from tokenry import Pipeline

    seen = []
    with watched(seen.append):
        spec = f"self_information:scorer={small},budget=0.5,window=128,stride=96"
        Pipeline([spec]).generate(document.read_text(), str(small), "Who?", max_new=3)
    assert seen[0] == f"loading {small}"
    assert any(s.startswith("self_information works on ") for s in seen)
    assert any(s.startswith("reading chunk 2 of ") for s in seen)
    assert any(" reads " in s and s.endswith(" tokens") for s in seen)
    assert seen[-2:] == ["writing token 2", "writing token 3"]
    assert list(counted("ab", "part", 2)) == ["a", "b"]


def test_warnings_of_libraries_are_not_said_and_ours_are(tmp_path):
    code = (
        "import warnings, sys; from tokenry.apps.cli import quiet; from tokenry.core.errors import Notice\n"
        "quiet.settle({verbose})\n"
        "warnings.warn('theirs', FutureWarning); warnings.warn('theirs too'); warnings.warn('ours', Notice)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for verbose, expected in ((False, False), (True, True)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(verbose=verbose)], capture_output=True, text=True, check=True,
            env=environment,
        )  # fmt: skip
        assert ("theirs" in done.stderr) == expected
        assert "ours\n" in done.stderr


def test_every_warning_of_ours_is_a_notice():
    import tokenry
    from tokenry.segment.engines.encoding import LostBytes

    ours = {kind.__name__ for kind in (Notice, LostBytes, *Notice.__subclasses__())}
    for file in Path(tokenry.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                assert ast.unparse(node.args[1]) in ours, file
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.warn("x", Notice, stacklevel=1)
    assert issubclass(said[0].category, UserWarning)
    assert quiet.SILENT["TRANSFORMERS_VERBOSITY"] == "error"


@pytest.mark.slow
def test_an_arm_says_what_goes_on_there(small, document):
    seen = []
    job = arms.Job(
        model=str(small), documents=[{"text": document.read_text(), "name": "d", "protect": []}], ask="Who?",
        sampling={"max_new_tokens": 2},
    )  # fmt: skip
    with watched(seen.append):
        result = arms.spawn(job)
    assert result["receipt"]["new_tokens"] == 2
    assert seen[0] == f"loading {small}"
    assert seen[-1] == "writing token 2"


def test_an_interruption_that_a_library_swallows_is_said_again(tmp_path):
    code = """
        import os, signal, sys, threading, time
        from tokenry.apps.cli.interrupt import heard
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            with heard():
                try:
                    time.sleep(30)
                except KeyboardInterrupt:
                    print("swallowed", flush=True)
                try:
                    time.sleep(30)
                finally:
                    time.sleep(1.2)
                    print("cleaned up", flush=True)
        except KeyboardInterrupt:
            print("ended", signal.getitimer(signal.ITIMER_REAL)[0], flush=True)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env=environment,
        timeout=25,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["swallowed", "cleaned up", "ended 0.0"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "compare"])
def test_an_interruption_is_answered_and_ends_the_arms_too(command, small, tmp_path):
    document = tmp_path / "long.txt"
    document.write_text("The harbour was quiet. " * 250, encoding="utf-8")
    specs = ["snapkv:budget=64", "--text"] if command == "compare" else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-m", "tokenry", command, *specs, str(document), "--ask", "Why?", "--model",
         str(small), "--max-new", "600"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip
    below = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    if command == "compare" and not below.exists():
        pytest.skip("no way to see the processes of a process here")
    # The answer begins, or the table does, after which there is always an arm.
    assert child.stdout.read(1)
    arms_of = below.read_text().split() if command == "compare" else []
    deadline = time.monotonic() + 60
    while command == "compare" and not arms_of and time.monotonic() < deadline:
        arms_of = below.read_text().split()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.strip() == "interrupted; nothing was left half written"
    assert arms_of or command == "run"
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in arms_of) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in arms_of if Path(f"/proc/{pid}").exists()]
