"""Put the modules of a page together into one script, so that the page needs no second file."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from markupsafe import Markup

HERE = Path(__file__).parent
_IMPORT = re.compile(r'^import (?:\{([^}]*)\} from )?"(\.[^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|class|function) (\w+))", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


@cache
def script(entry: str) -> Markup:
    """The module `entry`, a path below this folder, and all that it imports, as one script without imports.

    A browser loads the same files as modules too. Every module becomes a function that is called once, after those
    that it imports; its exports are what the function returns.
    """
    found: dict[Path, str] = {}
    _collect((HERE / entry).resolve(), found, ())
    names = {file: f"m{at}" for at, file in enumerate(found)}
    parts = "\n".join(_called(file, text, names) for file, text in found.items())
    return Markup(f'"use strict";\n(() => {{\n{parts}}})();\n')


def hash_of(text: str) -> str:
    """The hash by which a page says that a script is its own."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _collect(file: Path, found: dict[Path, str], above: tuple[Path, ...]) -> None:
    """Read a module after all that it imports."""
    if file in found:
        return
    text = file.read_text(encoding="utf-8")
    assert file not in above, f"{file.name} imports itself by way of others"
    left = _LEFT.search(_EXPORT.sub("", _IMPORT.sub("", text)))
    assert left is None, f"{file.name}: cannot be put into a page: {left and left[0]}"
    for other in _IMPORT.findall(text):
        _collect(_beside(file, other[1]), found, (*above, file))
    found[file] = text


def _called(file: Path, text: str, names: dict[Path, str]) -> str:
    """A module as a function that is called once, and what it returned as a constant."""

    def taken(found: re.Match[str]) -> str:
        wanted = (found[1] or "").replace(" as ", ": ")
        return f"const {{{wanted}}} = {names[_beside(file, found[2])]};" if wanted else ""

    exports = ", ".join(_EXPORT.findall(text))
    body = _EXPORT.sub("", _IMPORT.sub(taken, text))
    return f"// {file.relative_to(HERE)}\nconst {names[file]} = (() => {{\n{body}return {{ {exports} }};\n}})();\n"


def _beside(file: Path, path: str) -> Path:
    return (file.parent / path).resolve()
