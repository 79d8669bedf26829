"""Libraries that only some files need are named as the extra that brings them."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

import tokenry
from tokenry.core import needs
from tokenry.core.errors import InvalidValue

SRC = Path(tokenry.__file__).parent


def asked():
    """Libraries that some file asks for by name."""
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and ast.unparse(node.func) == "need"
            if named and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value.partition(".")[0]


def test_every_library_that_is_asked_for_is_in_the_extra_that_is_named():
    said = tomllib.loads((SRC.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = said["project"]["optional-dependencies"]
    packages = importlib.metadata.packages_distributions()
    assert set(asked()) <= set(needs.EXTRAS)
    for library, extra in needs.EXTRAS.items():
        names = {re.split(r"[<>=[]", wanted)[0] for wanted in extras[extra]}
        assert names & {library, library.replace("_", "-"), *packages.get(library, ())}, library


def test_what_is_missing_is_one_sentence():
    said = 'file.wav: needs the package soundfile, which is not installed; run `pip install "tokenry[audio]"`.'
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InvalidValue) as error:
        patch.setitem(__import__("sys").modules, "soundfile", None)
        needs.need("soundfile", "file.wav")
    assert str(error.value) == said
    with pytest.raises(InvalidValue, match="run `pip install there_is_none`"):
        needs.need("there_is_none", "x")
