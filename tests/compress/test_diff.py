"""Diffs: hunks are whole, what is left applies, and what is missing is said where patch tools suffer it."""

from __future__ import annotations

import random
import shutil
import subprocess

import numpy as np
import pytest

from tests.compress.test_shorten import Words
from tokenry.compress.kept.writing import pieces, written
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.diff import Diff
from tokenry.core.registry import parse

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", "-c", "core.autocrlf=false")


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A folder of the state before, its diff by git with a message, and the one of plain `diff -u`."""
    home = tmp_path_factory.mktemp("repository")

    def git(*words):
        return subprocess.run([*GIT, *words], cwd=home, check=True, capture_output=True).stdout.decode()

    git("init", "-q")
    for name in "abc":
        (home / f"{name}.txt").write_bytes("".join(f"line {i} of {name}\n" for i in range(200)).encode())
    (home / "-- odd").write_bytes(b"-- one\n-- two\n" * 30)
    (home / "crlf.txt").write_bytes(b"x\r\n\r\ny\r\n" * 40)
    (home / "moved.txt").write_bytes(b"stays\n" * 40)
    (home / "gone.txt").write_bytes(b"gone\n" * 4)
    git("add", ".")
    git("commit", "-qm", "before")
    for name, every in (("a.txt", 30), ("b.txt", 45), ("-- odd", 20), ("crlf.txt", 35)):
        lines = (home / name).read_bytes().splitlines(keepends=True)
        for i in range(5, len(lines), every):
            lines[i] = b"++ changed " + lines[i].replace(b"of", b"OF")
        (home / name).write_bytes(b"".join(lines).removesuffix(b"\n"))
    (home / "moved.txt").rename(home / "there.txt")
    (home / "gone.txt").unlink()
    (home / "new.txt").write_bytes(b"new\n" * 5)
    git("add", ".")
    git("commit", "-qm", "after\n\ndiff of what there was")
    found = git("log", "-p", "-1", "-M")
    git("checkout", "-q", "HEAD~1")
    return home, found, found[found.index("diff --git") :]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_applies(changed, seed):
    home, whole, bare = changed
    rng = random.Random(seed)
    text = whole if seed % 2 else bare
    cut = Diff().cut(text)
    kept = np.array([rng.random() < 0.4 for _ in range(len(cut))], dtype=bool)
    left = written(pieces(text, cut, cut.with_parents(kept)))
    assert Diff().valid(left) or "@@" not in left
    if "diff --git" in left.partition("diff of what")[2] or "@@" in left:
        for tool in (["git", "apply", "--check", "-"], ["patch", "-p1", "--dry-run", "--force", "--batch"]):
            if shutil.which(tool[0]):
                done = subprocess.run(tool, cwd=home, input=left.encode(), capture_output=True, check=False)
                assert done.returncode == 0, (tool, done.stdout, done.stderr, left)


def test_hunks_stay_whole_below_their_file_and_marks_count_them(changed):
    _, _, text = changed
    assert isinstance(kind_of(text), Diff)
    found = parse("lexical_relevance:budget=0.2,units=auto").shorten(text, Words(), "line 95 of b")
    assert "++ changed line 95 OF b" in found.text
    assert "[… hunks 1–2 of the next file]\ndiff --git a/b.txt" in found.text
    above, _, below = found.text.partition("diff --git a/b.txt")
    assert "@@ -93,7 +93,7 @@" in below
    assert above.endswith("of the next file]\n")


def test_a_message_that_answers_stays_without_its_hunks():
    hunks = "".join(f"@@ -{i} +{i} @@\n-old line {i} of code\n+new line {i} of code\n" for i in range(1, 400, 4))
    text = "".join(
        f"commit 0123456789abcd{n}\nAuthor: a <a@b.c>\n\n    Why {n}: the zebra was lost\n\n"
        f"diff --git a/f{n} b/f{n}\n--- a/f{n}\n+++ b/f{n}\n{hunks}"
        for n in range(3)
    )
    found = parse("lexical_relevance:budget=0.01,units=auto").shorten(text, Words(), "Why was the zebra lost?")
    assert "Why 0: the zebra was lost\n\n[file 1 left out" in found.text


@pytest.mark.parametrize("odd", ["\ufeff", "\udcff", "\t"])
def test_lines_behind_the_last_hunk_that_are_none_stand_for_themselves(odd):
    begin = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+b\n"
    text = f"{begin}{odd}@@ -9 +9 @@\n-a\n+b\n"
    cut = Diff().cut(text)
    left = written(pieces(text, cut, cut.with_parents(cut.start >= len(begin))))
    assert left.endswith(text[len(begin) :])
    assert Diff().valid(left)


def test_what_only_looks_like_a_diff_is_none():
    for text in (
        "--- a\n+++ b\n@@ -1,9 +1,9 @@\n one\n", "@@ -1 +1 @@\n-a\n+b\n", "diff it\n", "",
        "prose " * 500 + "\n--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n",
    ):  # fmt: skip
        assert not Diff().is_one(text)
        Diff().cut(text)
