"""Generated pages are up to date, the menu and all links lead somewhere, and the examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.docs.blocks import PAGES, ROOT, name
from tokenry.apps.pages import write as pages
from tokenry.core.registry import entries, parse

DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SLOW = ("01_answer_over_a_document.py",)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def test_generated_pages_are_up_to_date():
    assert pages.stale(DOCS) == [], "run `python -m tokenry.apps.pages docs`"


def test_pages_are_made_without_torch():
    code = "import sys; from tokenry.apps.pages.write import pages; from pathlib import Path; pages(Path(sys.argv[1]))"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(DOCS)], check=False).returncode == 0


def test_a_stale_page_is_named_and_mended(tmp_path, monkeypatch, capsys):
    docs = tmp_path / "docs"
    (tmp_path / "README.md").write_text(f"# t\n\n{pages.BEGIN}\n{pages.END}\n")
    pages.write(docs)
    assert pages.stale(docs) == []
    page = docs / "methods" / "attend" / "snapkv.md"
    text = page.read_text()
    page.write_text(text.replace("window", "door"))
    left = docs / "methods" / "attend" / "gone.md"
    left.write_text("# gone\n")
    monkeypatch.setattr(sys, "argv", ["pages", "--check", str(docs)])
    with pytest.raises(SystemExit, match="1"):
        pages.main()
    assert str(page) in (said := capsys.readouterr().err)
    assert str(left) in said
    pages.write(docs)
    assert page.read_text() == text
    assert not left.exists()


def test_menu():
    """The menu names files that exist, and every page is in it or in a list of its own."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = set(leaves(menu))
    assert {n for n in named if not (DOCS / n).exists()} == set()
    others = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")} - named
    assert {p for p in others if not re.fullmatch(r"methods/\w+/\w+\.md|adr/\d{4}-[\w-]+\.md", p)} == set()


def test_every_decision_is_listed():
    listed = _LINK.findall((DOCS / "adr" / "index.md").read_text(encoding="utf-8"))
    assert listed == [p.name for p in sorted((DOCS / "adr").glob("0*.md"))]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_links(page):
    for link in _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


_FORM = re.compile(r"`\"?((?:\w+/)?(\w+):\w+=[^`\"]*)\"?`")


@pytest.mark.parametrize("page", [p for p in PAGES if "methods" not in p.parts and p.name != "benchmarks.md"], ids=name)
def test_methods_in_sentences_can_be_built(page):
    """A method that a page names with its fields is one that can be typed."""
    known = {entry.name for entry in entries()}
    for form, method in _FORM.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        for part in form.split("|") if method in known else ():
            parse(part.strip())


@pytest.mark.parametrize(
    "example", [pytest.param(e, id=e.stem, marks=[pytest.mark.slow] if e.name in SLOW else []) for e in EXAMPLES]
)
def test_example(example, tmp_path):
    command, quiet = [sys.executable, str(example)], {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def leaves(menu):
    for entry in menu:
        for value in entry.values():
            yield from leaves(value) if isinstance(value, list) else [value]


def anchors(page):
    """The anchors that headings make."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}
