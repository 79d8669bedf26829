"""What every command knows, and what it does without: mistakes, lists and help load no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

import tokenry as package

COMMANDS = (
    "run", "demo", "compress", "compare", "plan", "probe", "adapt", "hypernetwork", "encode", "decode", "train", "tune",
    "measure", "serve", "savings", "list", "explain",
)  # fmt: skip
LIGHT = [
    ["--version"], ["-h"], ["list"], ["list", "--json"], ["list", "--room", "attic"], ["explain", "snapkv"],
    ["explain", "snapkv", "--json"], ["explain", "kmeans"], ["explain", "nothing"], ["models", "list"],
    ["models", "get", "gpt"], ["no-such-command"],
    *([name, "-h"] for name in COMMANDS),
    ["run", "{doc}"], ["run", "{doc}", "--ask", "?", "--no-such-option"], ["run", "none.txt", "--ask", "?"],
    ["run", "{doc}", "--ask", "?", "--use", "snapk"], ["run", "{doc}", "--ask", "?", "--use", "window:size=3"],
    ["run", "{doc}", "--ask", "?", "--use", "window:budget"], ["run", "{doc}", "--ask", "?", "--model", "smolm2"],
    ["run", "{doc}", "--ask", "?", "--model", "./nothing"], ["run", "{doc}", "--ask", "?", "--dtype", "int3"],
    ["run", "{doc}", "--ask", "?", "--model", "minilm"], ["run", "{doc}", "--ask", "?", "--compare", "sparse"],
    ["run", "{doc}", "--ask", "?", "--protect", "("], ["compare", "snapk", "--text", "{doc}"],
    ["compare", "snapkv", "--text", "none.txt"], ["plan", "{doc}", "--cost", "money"], ["plan", "{doc}", "--use", "x"],
    ["compress", "{doc}"], ["compress", "{doc}", "--use", "snapk"], ["compress"], ["demo", "--model", "smolm2"],
    ["serve", "--model", "smolm2"], ["serve", "--use", "snapk"], ["serve"], ["probe", "snapkv", "{doc}"],
    ["adapt", "smollm2", "--tokenizer", "smolm2", "--out", "{tmp}/new"],
    ["adapt", "smolm2", "--tokenizer", "smollm2", "--out", "{tmp}/new"],
    ["adapt", "smollm2", "--tokenizer", "minilm", "--out", "{tmp}/new", "--use", "snapkv"],
    ["measure", "snapkv", "{doc}"], ["measure", "needle_thread"], ["train", "word", "{doc}", "--out", "{tmp}/new",
                                                                  "--vocab-size", "300"],
    ["tune", "window", "--data", "{doc}", "--out", "{tmp}/new"],
    ["tune", "prompt_tunin", "--data", "{doc}", "--out", "{tmp}/new"],
]  # fmt: skip

RUNNER = """
import json, sys
from tokenry.apps.cli.main import main
heavy = ("torch", "transformers", "matplotlib", "numpy.testing", "huggingface_hub")
for arguments in json.load(sys.stdin):
    sys.argv = ["tokenry", *arguments]
    try:
        main()
    except SystemExit as end:
        found = [name for name in heavy if name in sys.modules]
        print("STATUS", json.dumps([arguments, end.code or 0, found]), flush=True)
        if found:
            break
"""


def alone(code, given=""):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], input=given, capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip


def test_help_lists_and_mistakes_load_no_torch(tmp_path):
    doc = tmp_path / "doc.txt"
    doc.write_text("Some text.", encoding="utf-8")
    given = [[a.format(doc=doc, tmp=tmp_path) for a in arguments] for arguments in LIGHT]
    done = alone(RUNNER, json.dumps(given))
    said = [json.loads(line.removeprefix("STATUS ")) for line in done.stdout.splitlines() if line.startswith("STATUS ")]
    assert "Traceback" not in done.stderr
    assert [s for s in said if s[2]] == []
    assert len(said) == len(given)
    right = [["--version"], ["list"], ["list", "--json"], ["models", "list"]]
    right += [g for g in given if (g[0] == "explain" and g[1] != "nothing") or g[-1] == "-h"]
    assert [s[0] for s in said if s[1] == 0] == [g for g in given if g in right]
    assert {s[1] for s in said} == {0, 2}


def test_the_version_is_one_line(tokenry):
    done = tokenry("--version")
    assert (done.status, done.out) == (0, f"tokenry {package.__version__}\n")


@pytest.mark.parametrize("command", ["", "run", "compare", "list", "models"])
def test_help_by_one_letter(tokenry, command):
    short, long = (tokenry(*filter(None, (command, flag))) for flag in ("-h", "--help"))
    assert short.status == 0
    assert short.out == long.out
    assert "-h, --help" in short.out
    # What stands in brackets is no markup.
    assert "[room/]name:field=value" in tokenry("run", "-h").out


COMPLETED = [
    ("tokenry run --use snap", ["snapkv"]),
    ("tokenry run --use snapkv:bud", ["snapkv:budget="]),
    ("tokenry run --use snapkv:budget=3,win", ["snapkv:budget=3,window="]),
    ("tokenry compare lexical_r", ["lexical_relevance"]),
    ("tokenry run --model smol", ["smollm2"]),
    ("tokenry models get mini", ["minilm"]),
    ("tokenry explain kmea", ["kmeans"]),
    ("tokenry list --room att", ["attend"]),
    ("tokenry run rep", ["report.txt"]),
    ("tokenry compress --tokenizer cl100", ["cl100k_base"]),
    ("tokenry run --use compress/ran", ["compress/random"]),
]


@pytest.mark.parametrize(("line", "offered"), COMPLETED, ids=[line for line, _ in COMPLETED])
def test_a_shell_completes_methods_models_and_documents(tokenry, monkeypatch, tmp_path, line, offered):
    (tmp_path / "report.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_TOKENRY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    assert tokenry().out.split() == offered


def test_completion_can_be_shown(tokenry, monkeypatch):
    from typer.testing import CliRunner

    from tokenry.apps.cli.main import app

    assert "--show-completion" in tokenry("-h").out
    # Which shell runs the tests is nobody's affair.
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")
    shown = CliRunner().invoke(app, ["--show-completion"])
    assert shown.exit_code == 0
    assert "COMPREPLY" in shown.output


def test_list_says_what_methods_need(tokenry):
    rows = {r["name"]: r["needs"] for r in json.loads(tokenry("list", "--json").out) if r["room"] != "random"}
    assert rows["dense_relevance"] == {
        "question": "yes",
        "model": False,
        "encoder": True,
        "training": False,
        "when": "",
    }
    assert rows["attention_pruning"]["question"] == "sometimes"
    lines = tokenry("list").out.splitlines()
    assert lines[0].split()[:5] == ["method", "question", "model", "encoder", "training"]
    dense = next(line for line in lines if line.startswith("compress/dense_relevance"))
    assert dense.split()[1:3] == ["yes", "yes"]
    assert all("…" not in line for line in lines)


def test_explain_says_what_is_allowed_and_needed(tokenry):
    text = tokenry("explain", "dense_relevance").out
    assert "must be in [0.0, 1.0]" in text
    assert "must be among numbers, names, negations, code, json_keys" in text
    assert "Needs\n    a question, a text encoder\n" in text
    found = json.loads(tokenry("explain", "vq", "--json").out)
    allowed = {f["name"]: f["allowed"] for f in found["fields"]}
    assert allowed["codes"] == "at least 1"
    assert "kmeans" in allowed["start"]
    assert found["needs"]["training"]
    assert "Needs" not in tokenry("explain", "kmeans").out


def test_the_way_out_without_a_question_works_as_it_is_printed(tokenry, document, small):
    done = tokenry("compress", document, "--use", "dense_relevance:budget=0.5", "--tokenizer", small)
    assert done.status == 2
    hint = done.err.split("or use ")[1].split(", which")[0]
    assert tokenry("compress", document, "--use", f"{hint},budget=0.5", "--tokenizer", small).status == 0
