"""The order of the house: imports go one way, and only models/ knows architectures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tokenry
from tokenry.core.registry import ROOMS, entries, parts

SRC = Path(tokenry.__file__).parent
FILES = sorted(SRC.rglob("*.py"))
TESTS = sorted(Path(__file__).parents[1].rglob("*.py"))
LOWER = {
    "core": {"core"},
    "data": {"core", "data"},
    "report": {"core", "data", "report"},
    "models": {"core", "data", "models"},
}
EXTRA = {"signal": {"quantize"}, "segment": {"attend", "embed"}}
LONGEST = 450


def statements(tree):
    """All statements but those that only a type checker runs."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from statements(node)


def module(file):
    return ".".join(("tokenry", *file.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}


def imports(file, *, types=True):
    """Modules of ours that a file imports, at its top or later."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if types else statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tokenry."):
            below = {f"{node.module}.{name.name}" for name in node.names} & set(MODULES)
            yield from below or {node.module}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_imports_go_one_way(file):
    place = file.relative_to(SRC).parts[0]
    allowed = LOWER.get(place)
    if place in ROOMS:
        allowed = {"core", "data", "models", place} | EXTRA.get(place, set())
    if allowed is not None:
        # A page may name the type of what it draws, which is made above it.
        assert {name.split(".")[1] for name in imports(file, types=place != "report")} <= allowed
    # `python -m tokenry` is the command.
    if place not in ("apps", "__main__.py"):
        assert not [name for name in imports(file) if name.startswith("tokenry.apps")]


def test_no_file_imports_in_a_circle():
    left = {name: set(imports(file, types=False)) - {name} for name, file in MODULES.items()}
    while free := [name for name, needed in left.items() if not needed & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"these import each other, or what does: {sorted(left)}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_shows_its_methods(room):
    """At a room's top stand its base and one file for each method."""
    methods = {entry.name for entry in entries() if entry.room == room}
    assert {file.stem for file in (SRC / room).glob("*.py")} - {"__init__", "base"} == methods


@pytest.mark.parametrize("room", ROOMS)
def test_a_file_of_parts_holds_one_kind(room):
    """Each file of parts holds at most one kind, with a card for all that are no kind themselves."""
    for file in (SRC / room / "parts").glob("*.py"):
        found = [entry.class_name for entry in parts() if entry.module == module(file)]
        assert found or file.stem == "__init__"


@pytest.mark.parametrize("file", [*FILES, *TESTS], ids=lambda f: "/".join(f.parts[-3:]))
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_only_models_knows_architectures(file):
    if file.relative_to(SRC).parts[0] != "models":
        found = re.findall(
            r"(?i)\b(llama(?!_index|index)|qwen|mistral|gemma|phi3|q_proj|self_attn)\w*",
            file.read_text(encoding="utf-8"),
        )
        assert not found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_errors_name_no_file_of_the_repository(file):
    """Who installed tokenry has none of them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise):
            assert not re.search(r"\b(docs|tests|benchmarks|examples|src)/", ast.unparse(node))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SRC)))
def test_nothing_loads_code(file):
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"\bpickle\b|torch\.load\(|(?<![_.a-z])(eval|exec)\(|shell=True", text)
