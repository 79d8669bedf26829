"""The modules of a page become one script, and those that draw know nothing of a trace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tokenry.report import script

DRAWING = sorted((script.HERE / "drawing").glob("*.js"))
ENTRIES = ("trace/main.js", "tokens/main.js")
MODULES = [*DRAWING, *sorted(file for entry in ENTRIES for file in (script.HERE / entry).parent.glob("*.js"))]
LONGEST = 450


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "HERE", tmp_path)
    return tmp_path


def modules_of(entry: str) -> list[str]:
    return re.findall(r"^// (\w+/\w+\.js)$", script.script(entry), re.MULTILINE)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_module_is_in_a_page_once_after_what_it_imports(entry: str) -> None:
    order = modules_of(entry)
    assert len(order) == len(set(order))
    assert order[-1] == entry
    for at, name in enumerate(order):
        file = script.HERE / name
        for path in re.findall(r'from "(.*)";', file.read_text(encoding="utf-8")):
            other = (file.parent / path).resolve().relative_to(script.HERE)
            assert order.index(str(other)) < at


def test_every_module_is_in_a_page() -> None:
    """What no page of this folder needs, the studio loads as it is."""
    found = {name for entry in ENTRIES for name in modules_of(entry)}
    assert found == {str(file.relative_to(script.HERE)) for file in MODULES}


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_imports_are_left(entry: str) -> None:
    assert not re.search(r"^\s*(import|export)\b", script.script(entry), re.MULTILINE)


def test_names_are_kept_and_renamed(folder: Path) -> None:
    (folder / "a.js").write_text("export const one = 1;\nexport function two() { return 2; }\n")
    (folder / "b.js").write_text('import { one, two as zwei } from "./a.js";\nconsole.log(one + zwei());\n')
    whole = script.script("b.js")
    assert "const { one, two: zwei } = m0;" in whole
    assert "return { one, two };" in whole


OTHERS = ('import whole from "./a.js";', "export default 1;", 'import("./a.js");', "export { a };")
PAGE = re.compile(r"getElementById|document\.(?:querySelector|body|documentElement)|\b(?:location|history|trace)\b")


@pytest.mark.parametrize("line", OTHERS)
def test_other_forms_are_refused(folder: Path, line: str) -> None:
    (folder / "a.js").write_text("export const a = 1;\n")
    (folder / "other.js").write_text(line + "\n")
    with pytest.raises(AssertionError, match="cannot be put into a page"):
        script.script("other.js")


def test_circles_are_refused(folder: Path) -> None:
    (folder / "x.js").write_text('import { y } from "./y.js";\nexport const x = 1;\n')
    (folder / "y.js").write_text('import { x } from "./x.js";\nexport const y = 1;\n')
    with pytest.raises(AssertionError, match="imports itself"):
        script.script("x.js")


@pytest.mark.parametrize("file", DRAWING, ids=lambda file: file.name)
def test_what_draws_knows_no_page(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for other in re.findall(r'from "(.*)";', text):
        assert (file.parent / other).resolve() in DRAWING
    assert not PAGE.search(text)


@pytest.mark.parametrize("file", sorted(script.HERE.rglob("*.*")), ids=lambda file: file.name)
def test_files_are_short(file: Path) -> None:
    if file.suffix in (".js", ".css", ".j2", ".py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST
