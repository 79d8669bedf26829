"""What a method says of itself in its source: its fields with their limits, and what it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tokenry.core import registry
from tokenry.core.registry import Entry, refuse_unknown
from tokenry.core.source import Found, constant, find_class, lineage, target_of

WITH_A_MODEL = ("embed", "soft", "attend", "decode", "learn", "probe")
"""Rooms whose methods work on the model itself."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a method, as its source shows it.

    Args:
        allowed: the words that follow "must be", or nothing where the source does not tell.
    """

    name: str
    type: str
    default: str
    doc: str
    allowed: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be there before a method works.

    Args:
        question: `yes` and `no`; `sometimes` where it depends on fields, and `when` says on which.
        model: a causal model: the one that answers or one that scores.
        encoder: a text encoder.
        training: it has parameters to learn.
    """

    question: Literal["yes", "no", "sometimes"]
    model: bool
    encoder: bool
    training: bool
    when: str = ""


def fields_of(entry: Entry) -> list[Setting]:
    """The fields of a method, those of its bases first."""
    found: dict[str, Setting | None] = {}
    for node, module in lineage(entry.module, entry.class_name):
        for name, annotation, call in _fields(node):
            found.setdefault(name, None)
            given = {k.arg: k.value for k in call.keywords} if isinstance(call, ast.Call) else {}
            if isinstance(call, ast.Call) and "doc" in given:
                default = given.get("default") or call.args[0]
                found[name] = Setting(
                    name, ast.unparse(annotation), ast.unparse(default), ast.literal_eval(given["doc"]),
                    _allowed(call, annotation, module, entry.room),
                )  # fmt: skip
    return [setting for setting in found.values() if setting is not None]


def field_names(entry: Entry) -> list[str] | None:
    """Names of all fields; None where a base is in no source that can be read."""
    found: dict[str, None] = {}
    for node, module in lineage(entry.module, entry.class_name):
        if any(find_class(module, ast.unparse(base)) is None and not _plain_base(base) for base in node.bases):
            return None
        found |= dict.fromkeys(name for name, _, _ in _fields(node))
    return list(found)


def check(spec: str) -> Entry | None:
    """Refuse a one-line form with a name or a field that there is not, before anything is imported.

    Returns:
        The method that it names, None for the folder of a saved one.

    Raises:
        UnknownMethod: no such method, and no folder of a saved one.
        InvalidValue: a malformed setting or an unknown field.
    """
    entry, given = registry.named(spec)
    known = None if entry is None else field_names(entry)
    if entry is not None and known is not None:
        refuse_unknown(entry.name, known, given)
    return entry


def needs_of(entry: Entry) -> Needs:
    """What a method needs, by its room, its fields and its bases."""
    classes = lineage(entry.module, entry.class_name)
    names = {node.name for node, _ in classes}
    fields = {name for node, _ in classes for name, _, _ in _fields(node)}
    question, when = _question(classes)
    return Needs(
        question=question,
        # A layer that is trained from the start has no model to act on.
        model=(entry.room in WITH_A_MODEL and "Layer" not in names) or "scorer" in fields or "Benchmark" in names,
        encoder="encoder" in fields,
        training=entry.card.training or entry.room == "learn" or bool(names & {"Learned", "LearnedPart"}),
        when=when,
    )


def _question(classes: list[Found]) -> tuple[Literal["yes", "no", "sometimes"], str]:
    for node, _ in reversed(classes):
        for line in node.body:
            if isinstance(line, ast.FunctionDef) and line.name == "needs_query":
                return "sometimes", (ast.get_docstring(line) or "").rstrip(".")
            if isinstance(line, ast.Assign | ast.AnnAssign) and target_of(line) == "needs_query" and line.value:
                return ("yes", "") if ast.literal_eval(line.value) else ("no", "")
    return "no", ""


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    declared = any(ast.unparse(d).partition("(")[0] == "dataclass" for d in node.decorator_list)
    for line in node.body if declared else ():
        if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation):
            yield target_of(line), line.annotation, line.value


def _allowed(call: ast.Call, annotation: ast.expr, module: str, room: str) -> str:
    """The limit that a call such as `between(0, 1, default=…)` sets, in the words of `core.fields`."""
    kind = ast.unparse(call.func).rpartition(".")[2]
    given = {k.arg: k.value for k in call.keywords if k.arg}
    options = [value for arg in call.args for value in _values(arg, module)]
    match kind:
        case "positive":
            return "at least 1"
        case "natural":
            return "at least 0"
        case "natural_or":
            return f"a whole number of at least 0, or {_said(call.args[0], module)}"
        case "odd":
            return "0 or an odd number" if _said(call.args[0], module) == "0" else "an odd number of at least 1"
        case "between":
            return f"in [{_said(call.args[0], module)}, {_said(call.args[1], module)}]"
        case "choice":
            return "one of " + ", ".join(map(str, options)) if options else ""
        case "some_of":
            return "among " + ", ".join(map(str, options)) if options else ""
        case "counts" | "numbers":
            least = "none" if ast.unparse(given["default"]) == "()" else "one"
            words = f"{least} or more whole numbers" if kind == "counts" else "numbers"
            words += f" in [{_said(call.args[0], module)}, {_said(call.args[1], module)}]"
            return words + (
                f" whose product is at most {_said(given['product'], module)}" if "product" in given else ""
            )
        case "folder":
            return "the path of a folder, or none"
        case "size":
            return "a share such as 0.25 or a number of tokens such as 256"
        case "part":
            return "one of " + ", ".join(_parts(ast.unparse(annotation), module, room))
    return {"bool": "true or false", "int": "a whole number", "float": "a number"}.get(ast.unparse(annotation), "")


def _parts(kind: str, module: str, room: str) -> list[str]:
    """Parts and methods of a room that are of a kind, by the names of their bases."""
    home = find_class(module, kind)
    if home is None:
        return []
    room = home[1].split(".")[1] if home[1].startswith("tokenry.") else room
    known = [e for e in (*registry.parts(), *registry.entries()) if e.room == room]
    return [e.name for e in known if kind in (node.name for node, _ in lineage(e.module, e.class_name))]


def _said(node: ast.expr, module: str) -> str:
    """A number as `core.fields` would print it."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
        return str(int(_said(node.left, module)) << int(_said(node.right, module)))
    try:
        return str(ast.literal_eval(node))
    except ValueError:
        found = constant(ast.unparse(node), module)
    return ast.unparse(node) if found is None else str(found)


def _values(node: ast.expr, module: str) -> list[Any]:
    """What an argument stands for: itself, or all of a constant behind a star."""
    if isinstance(node, ast.Starred):
        found = constant(ast.unparse(node.value), module)
        return list(found) if found is not None else []
    try:
        return [ast.literal_eval(node)]
    except ValueError:
        return []


def _plain_base(base: ast.expr) -> bool:
    """A base that brings no field."""
    return ast.unparse(base).partition("[")[0] in ("ABC", "Protocol", "nn.Module", "Generic")
