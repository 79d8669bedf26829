"""Every block of the documentation that is code runs, in a folder with a small report.txt."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib

import pytest

from tests.docs.blocks import PAGES, ROOT, SHELLS, blocks, commands, name, program, shown
from tokenry.data import read

LANGUAGES = {"python", *SHELLS, "text", "json", "toml"}
TRAINED_HERE = "docs/how-to/a-model-that-sees.md"
"""A page of a model that a quarter of an hour makes; a minute makes one that sees nothing."""
WHOLE = ("docs/tutorials/", TRAINED_HERE)
"""Pages that read a whole sample document, or more."""
COMMANDS_ARE_SLOW = (
    "docs/methods/", "docs/index.md", "docs/how-to/choose-a-budget.md", "docs/how-to/soft-prompts.md", *WHOLE,
)  # fmt: skip
"""Pages whose commands take long; their Python still runs in the fast lane."""


def is_slow(page):
    return bool(commands(page)) and name(page).startswith(COMMANDS_ARE_SLOW)


ALL = [
    pytest.param(p, id=name(p), marks=[pytest.mark.slow] if is_slow(p) else [])
    for p in PAGES
    if program(p) or commands(p)
]
QUICK = [pytest.param(p, id=name(p)) for p in PAGES if program(p) and is_slow(p) and not name(p).startswith(WHOLE)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a report of about 300 tokens, where `tokenry` is a command that says and shows little."""
    speech = read("sotu_1975")
    (tmp_path / "report.txt").write_text(speech[: speech.index("\n\n", 1200)] + "\n", encoding="utf-8")
    command = tmp_path / "bin" / "tokenry"
    command.parent.mkdir()
    command.write_text(
        '#!/bin/sh\ncase "$1" in run|compare) set -- "$@" --max-new 3;; esac\n'
        f'exec {shlex.quote(sys.executable)} -m tokenry "$@"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Beside other tests, one thread that computes is faster than two that wait for each other.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def kept():
    return {}


@pytest.fixture
def one_load(monkeypatch, kept):
    """Pages that load the default model share one object of it."""
    import torch

    from tokenry.models.files import load as home
    from tokenry.pipeline import pipeline

    load, threads = home.load, torch.get_num_threads()

    def shared(model, **options):
        if model != "smollm2":
            return load(model, **options)
        how = repr(sorted(options.items()))
        if how not in kept:
            kept[how] = load(model, **options)
        return kept[how]

    monkeypatch.setattr(home, "load", shared)
    monkeypatch.setattr(pipeline, "load", shared)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_languages(page):
    """Every block says whether it runs, and JSON parses."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{name(page)}:{block.line}"
        if block.language == "json":
            json.loads(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)


@pytest.fixture
def hardly_trained(tmp_path, monkeypatch):
    """Makes the model of collages in one step, where it is not there."""
    from tokenry.models.files import store
    from tokenry.recipes import collages

    def make():
        if store.place("collages") is not None:
            return
        for alias in ("smollm2", "dinov2"):
            there = store.ensure(alias)
            (tmp_path / "cache" / "models").mkdir(parents=True, exist_ok=True)
            (tmp_path / "cache" / "models" / alias).symlink_to(there)
        monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path / "cache"))
        for number in ("BATCH", "WORDS_COLLAGES", "WORDS_STEPS"):
            monkeypatch.setattr(collages, number, 1)
        collages.make(steps=1)

    return make


@pytest.mark.parametrize("page", ALL)
def test_page(page, folder, one_load, hardly_trained, small, tokenry, arms_here):
    """The Python of a page runs as one program, then its commands one by one."""
    if name(page) == TRAINED_HERE:
        hardly_trained()
    run_python(page, folder)
    expected = shown(page)
    for command in commands(page):
        said = run_command(command, tokenry, small)
        if command in expected:
            assert keys(json.loads(said)) == keys(expected[command])


@pytest.mark.parametrize("page", QUICK)
def test_python(page, folder, one_load):
    run_python(page, folder)


def run_python(page, folder):
    script = folder / "page.py"
    script.write_text(program(page), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


def run_command(command, tokenry, small):
    """Run tokenry, shortly; of what would install or build, only look whether it could."""
    short = dict.fromkeys(("run", "compare"), ("--max-new", 3))
    short["demo"] = ("--max-new", 3, "--questions", 1, "--model", small)
    first, *rest = shlex.split(command)
    if first == "tokenry":
        assert rest[:2] != ["models", "remove"]
        if set(command) & set("<>|$"):
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            return done.stdout
        done = tokenry(*rest, *short.get(rest[0], ()))
        assert done.status == 0, f"{command}\n{done.err}"
        return done.out
    if first == "make":
        assert set(rest) <= targets(), command
    elif first == "pip":
        assert rest[0] == "install", command
        assert {package(p) for p in rest[1:] if not p.startswith("-")} <= packages(), command
    else:
        pytest.fail(f"this page's command is neither run nor checked: {command}")
    return ""


def keys(document):
    """The keys of a JSON document and of the first entry of each list, without the values."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items()}
    return [keys(document[0])] if isinstance(document, list) and document else type(document).__name__


def targets():
    """What the Makefile can make."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {target for line in re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE) for target in line.split()}


def package(requirement):
    return re.split(r"[\[=<>~!]", requirement)[0].lower()


def packages():
    """This project and everything it names as a dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(p for extra in project["optional-dependencies"].values() for p in extra)]
    return {project["name"], *map(package, named)}
