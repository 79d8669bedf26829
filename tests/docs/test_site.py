"""The built documentation: nothing comes from elsewhere, code has colours, and search works from files."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

_ADDRESS = r"=\"?https?:[^\s\">]+"
LOADED = re.compile(rf"<(?:script|img|iframe|source)[^>]*\ssrc{_ADDRESS}|<link[^>]*\shref{_ADDRESS}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert not LOADED.findall(page.read_text(encoding="utf-8")), page


@pytest.mark.slow
def test_code_has_colours(site):
    assert '<span class="kn">import</span>' in (site / "how-to" / "python.html").read_text(encoding="utf-8")


@pytest.mark.browser
def test_search_works_from_files_on_the_first_page(site, chromium):
    dom = chromium(site / "index.html", "?q=budget", "--dump-dom", "--window-size=1200,900")
    found = re.search(r"(\d+) matching documents", dom)
    assert found
    assert int(found[1]) > 5
    assert "concepts/budget.html" in dom
