"""`tokenry studio` in a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tokenry.pipeline.file import write_pipeline


@pytest.fixture
def started():
    """The address that a studio printed, and its process."""
    running = []

    def start(*options):
        command = [sys.executable, "-m", "tokenry", "studio", "--no-open", "--port", "0", *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process.stderr.readline().removeprefix("studio: ").strip(), process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_it_says_where_it_is_and_ends_when_asked(started):
    address, process = started()
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as page:
        assert b"tokenry studio" in page.read()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "Traceback" not in process.stderr.read()


def test_beyond_this_machine_it_asks_for_a_key(started):
    address, _ = started("--host", "0.0.0.0")
    _, _, key = address.partition("#key=")
    assert len(key) > 20
    cards = f"http://127.0.0.1:{address.split(':')[2].partition('/')[0]}/api/cards"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(cards)
    with urllib.request.urlopen(urllib.request.Request(cards, headers={"x-tokenry-key": key})) as found:
        assert json.load(found)["methods"]


def test_it_begins_with_what_a_plan_chose(started, tokenry, tmp_path):
    file = tmp_path / "pipeline.json"
    write_pipeline(file, ["compress/lexical_relevance:budget=0.25"], {})
    address, _ = started("--pipeline", str(file))
    with urllib.request.urlopen(f"{address}api/cards") as found:
        assert json.load(found)["first"] == ["compress/lexical_relevance:budget=0.25"]
    file.write_text("{}")
    done = tokenry("studio", "--no-open", "--pipeline", file)
    assert done.status != 0
    assert "must be a pipeline" in done.err


def test_a_port_that_is_taken_is_a_sentence(tokenry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = tokenry("studio", "--no-open", "--port", taken.getsockname()[1])
    assert done.status == 2
    assert "a free port" in done.err
