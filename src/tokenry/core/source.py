"""Classes and constants of source files, found without importing them."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

SRC = Path(__file__).parents[1]

Found = tuple[ast.ClassDef, str]
"""A class and the module that defines it."""


@cache
def lineage(module: str, name: str) -> list[Found]:
    """A class and the classes it is made from, the most general first, as far as their sources are at hand."""
    found = find_class(module, name)
    if found is None:
        return []
    node, home = found
    above = [pair for base in node.bases for pair in lineage(home, ast.unparse(base))]
    return [*dict.fromkeys(above), (node, home)]


def constant(name: str, module: str) -> Any:
    """The value of a constant, or the keys of a table; None where it is no literal."""
    tree = _tree(module)
    for line in tree.body if tree else ():
        if isinstance(line, ast.Assign | ast.AnnAssign) and target_of(line) == name and line.value is not None:
            return _literal(line.value, module)
    home = _imported(module, name)
    return None if home is None else constant(home[1], home[0])


def _literal(node: ast.expr, module: str) -> Any:
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return [ast.literal_eval(key) for key in node.keys if key is not None]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "tuple" and len(node.args) == 1:
        return constant(ast.unparse(node.args[0]), module)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def find_class(module: str, name: str) -> Found | None:
    """A class and the module that defines it."""
    tree = _tree(module)
    for line in tree.body if tree else ():
        if isinstance(line, ast.ClassDef) and line.name == name:
            return line, module
    home = _imported(module, name)
    return None if home is None else find_class(*home)


def _imported(module: str, name: str) -> tuple[str, str] | None:
    """Where a name of a module comes from: a module of this package or of the same one, and its name there."""
    tree, ours = _tree(module), ("tokenry", module.partition(".")[0])
    for line in ast.walk(tree) if tree else ():
        if isinstance(line, ast.ImportFrom) and line.module and not line.level:
            for alias in line.names:
                if name == (alias.asname or alias.name) and line.module.partition(".")[0] in ours:
                    return line.module, alias.name
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    if module.startswith("tokenry."):
        path = SRC.joinpath(*module.split(".")[1:])
        file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    else:
        spec = importlib.util.find_spec(module)
        file = Path(spec.origin) if spec is not None and spec.origin is not None else Path(module)
    return ast.parse(file.read_text(encoding="utf-8")) if file.suffix == ".py" and file.exists() else None


def target_of(line: ast.Assign | ast.AnnAssign) -> str:
    target = line.targets[0] if isinstance(line, ast.Assign) else line.target
    return target.id if isinstance(target, ast.Name) else ""
