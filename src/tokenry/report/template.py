"""Templates that escape everything, and style sheets that stand inside a page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tokenry.report import figures

HERE = Path(__file__).parent


@cache
def environment() -> Environment:
    """Where the templates of this folder are found."""
    # select_autoescape goes by the file name, which ends in .j2 here: escape everything instead.
    found = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals["figures"] = figures
    return found


@cache
def styles(*files: str) -> Markup:
    """Style sheets of this folder, one after the other."""
    return Markup("\n".join((HERE / file).read_text(encoding="utf-8") for file in files))
