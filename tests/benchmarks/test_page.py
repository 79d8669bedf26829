"""The page says what the results say, and everything that names a benchmark names one that exists."""

from __future__ import annotations

import re
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest

from benchmarks.charts import chart
from benchmarks.models import families
from benchmarks.page import anchor, benchmarks, pages, summary
from benchmarks.record import ROOT, read, recorded
from tokenry.core.registry import entries, parts

RESULTS = [pytest.param(d, id=d["name"]) for d in recorded()]
NAMING = [
    ROOT / "Makefile", ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]  # fmt: skip


def test_pages_are_up_to_date():
    for file, text in pages().items():
        assert file.read_text(encoding="utf-8") == text, "run `python -m benchmarks.page`"
    assert families.PAGE.read_text(encoding="utf-8") == families.page(families.read())


@pytest.mark.parametrize("document", RESULTS)
def test_a_result_lies_where_its_command_writes_it(document):
    module = document["command"].split()[2]
    name = module.removeprefix("benchmarks.").replace(".", "/")
    assert find_spec(module) is not None
    assert document["name"].startswith(name)
    assert read(document["name"]) == document


def test_lines_are_drawn_between_round_numbers():
    """Twice as much is as far everywhere, and names mean nothing to XML."""
    svg = chart({"a <b": [(8.0, 0.5), (2.0, 0.05)], "other": [(4.0, 0.1)]}, across="MiB", up="nats")
    root = ElementTree.fromstring(svg)
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    (x1, y1), (x2, y2), (x3, _) = dots
    assert x3 - x1 == pytest.approx(x2 - x3, abs=0.2)
    assert y2 < y1
    assert "a &lt;b" in svg


def test_every_claim_is_in_the_summary():
    found = list(benchmarks())
    claims = [c for _, documents in found for d in documents for c in d["claims"]]
    text = summary(found)
    assert text.count("\n| ") == len(claims) + 2
    assert f"{sum(c['holds'] for c in claims)} of {len(claims)} hold" in text
    assert text.count("| **no** |") == sum(not c["holds"] for c in claims)


def test_titles_lead_to_their_sections():
    titles = [module.TITLE for module, _ in benchmarks()]
    assert len({anchor(title) for title in titles}) == len(titles)


def test_subjects_are_methods_or_words():
    known = {entry.full_name for entry in entries()}
    for module, _ in benchmarks():
        assert module.SUBJECTS
        assert all(s in known for s in module.SUBJECTS if "/" in s), module.__name__


@pytest.mark.parametrize("file", NAMING, ids=lambda f: str(f.relative_to(ROOT)))
def test_named_modules_exist(file):
    text = file.read_text(encoding="utf-8").replace("$(BENCH)", "python -m benchmarks")
    for module in re.findall(r"-m (benchmarks\.[\w.]+\w)", text):
        assert find_spec(module) is not None, module


def test_cards_name_files_that_exist():
    for entry in (*entries(), *parts()):
        for name in re.findall(r"benchmarks/[\w/]+\.\w+", " ".join((*entry.card.claims, entry.doc))):
            assert (ROOT / name).exists(), f"{entry.full_name}: {name}"
