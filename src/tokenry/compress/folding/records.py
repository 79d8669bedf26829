"""JSON folded: objects with the same keys as rows under these keys, and no white space between signs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_LEAST = 3
"""Objects that make a table at least."""
_SIGNS = "~^@%§¤"
_TAB = "\t"
_LEGEND = re.compile(
    r"\[folded JSON(?P<lines> Lines)?, nothing left out: (?P<sign>[^\w\s])1 is the list in table (?P=sign)1, each row "
    r"an object that fills the _ of its head; "
    r"(?P<indent>-|\d+|\d+t)(?P<item>,[ ]?)(?P<key>:[ ]?)(?P<ascii>a?)(?P<end>\d+)\]\n"
)
_RAW = re.compile(r'"\\u0000([^"]*)"')
_LEAF = re.compile(r"(?<=:)_(?=[,}])")


@dataclass(frozen=True, slots=True)
class Style:
    """How a JSON text is written: its white space, and whether letters beyond ASCII have numbers."""

    lines: bool
    indent: str | None
    item: str
    key: str
    ascii: bool
    end: int

    def write(self, value: Any) -> str:
        if self.lines:
            return "\n".join(self._one(v) for v in value) + "\n" * self.end
        return self._one(value) + "\n" * self.end

    def _one(self, value: Any) -> str:
        return _dumps(value, self.indent, (self.item, self.key), self.ascii)


def folded(text: str) -> str | None:
    """A JSON text with its lists of equal objects as tables; None where there are none, or it is written otherwise."""
    sign = next((s for s in _SIGNS if f'"{s}' not in text), None)
    value, style = _read(text)
    if style is None or sign is None:
        return None
    tables: list[list[str]] = []
    skeleton = _with_tables(value, tables, sign, style)
    if not tables and style.indent is None:
        return None
    said = _dumps(skeleton, None, (",", ":"), style.ascii)
    return "\n".join([_legend(style, sign), said, *(line for table in tables for line in table)])


def _legend(style: Style, sign: str) -> str:
    indent = "-" if style.indent is None else f"{len(style.indent)}{'t' if style.indent[:1] == _TAB else ''}"
    written = f"{indent}{style.item}{style.key}{'a' * style.ascii}{style.end}"
    return (
        f"[folded JSON{' Lines' if style.lines else ''}, nothing left out: {sign}1 is the list in table {sign}1, "
        f"each row an object that fills the _ of its head; {written}]"
    )


def is_folded(text: str) -> bool:
    return _LEGEND.match(text) is not None


def sign_of(text: str) -> str:
    """With which the heads of tables in a folded text begin."""
    legend = _LEGEND.match(text)
    return legend["sign"] if legend else ""


def unfolded(text: str) -> str:
    """The text that was folded.

    Raises:
        ValueError: it is none, or a table is damaged.
    """
    legend = _LEGEND.match(text)
    if legend is None:
        raise ValueError("no legend")
    indent = legend["indent"]
    space = None if indent == "-" else ("\t" if indent.endswith("t") else " ") * int(indent.rstrip("t"))
    style = Style(
        bool(legend["lines"]), space, legend["item"], legend["key"], bool(legend["ascii"]), int(legend["end"])
    )
    skeleton, *rest = text[legend.end() :].split("\n")
    tables: dict[str, list[Any]] = {}
    name, keys = "", None
    for line in rest:
        if line[:1] == legend["sign"]:
            name, _, head = line.partition(" ")
            keys = _loads(_LEAF.sub("null", head))
            tables.setdefault(name, [])
        else:
            values = iter(_loads(f"[{line}]"))
            tables[name].append(_filled(keys, values))
    return style.write(_without_tables(_loads(skeleton), tables))


def _read(text: str) -> tuple[Any, Style | None]:
    """What a JSON text says, and the style in which writing it gives the same text; None where there is none."""
    body = text.rstrip("\n")
    if body[:1] not in ("{", "[") or "\\u0000" in text:
        return None, None
    ascii = text.isascii()
    try:
        value, lines = _loads(body), False
    except (ValueError, RecursionError):
        try:
            value, lines = [_loads(line) for line in body.split("\n")], True
        except (ValueError, RecursionError):
            return None, None
    inner = re.match(r"[\[{]\n([ ]*|\t*)\S", body) if not lines else None
    for item, key in ((",", ": "),) if inner else ((", ", ": "), (",", ":")):
        style = Style(lines, inner[1] if inner else None, item, key, ascii, len(text) - len(body))
        if style.write(value) == text:
            return value, style
    return None, None


def _loads(text: str) -> Any:
    """What a JSON text says, with numbers that are not whole as they are written, behind a sign that no text has."""
    return json.loads(text, parse_float=lambda number: f"\0{number}")


def _dumps(value: Any, indent: str | None, separators: tuple[str, str], ascii: bool) -> str:
    return _RAW.sub(r"\1", json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii))


def _with_tables(value: Any, tables: list[list[str]], sign: str, style: Style) -> Any:
    if isinstance(value, dict):
        return {k: _with_tables(v, tables, sign, style) for k, v in value.items()}
    if not isinstance(value, list):
        return value
    runs = list(_runs(value))
    if not runs or len(value) < _LEAST * len(runs):
        return [_with_tables(v, tables, sign, style) for v in value]
    name = f"{sign}{len(tables) + 1}"
    table: list[str] = []
    tables.append(table)
    for keys, rows in runs:
        head = _dumps(keys, None, (",", ":"), style.ascii)
        table.append(f"{name} {head.replace(':null', ':_')}")
        table += [_dumps(list(_leaves(row, keys)), None, (",", ":"), style.ascii)[1:-1] for row in rows]
    return name


def _runs(value: list[Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Objects that follow each other with the same keys; none where something else is among them."""
    if not all(isinstance(v, dict) and v for v in value):
        return
    start = 0
    for i in range(1, len(value) + 1):
        if i == len(value) or list(value[i]) != list(value[start]):
            yield _keys(value[start:i]), value[start:i]
            start = i


def _keys(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The keys that rows share, with None for each value; of objects that have the same keys in all rows, theirs."""
    found: dict[str, Any] = {}
    for key in rows[0]:
        inner = [row[key] for row in rows]
        same = all(isinstance(v, dict) and v and list(v) == list(inner[0]) for v in inner)
        found[key] = _keys(inner) if same else None
    return found


def _leaves(row: dict[str, Any], keys: dict[str, Any]) -> Iterator[Any]:
    for key, inner in keys.items():
        if inner is None:
            yield row[key]
        else:
            yield from _leaves(row[key], inner)


def _filled(keys: Any, values: Iterator[Any]) -> dict[str, Any]:
    try:
        return {k: next(values) if inner is None else _filled(inner, values) for k, inner in keys.items()}
    except StopIteration:
        raise ValueError("a row has too few values") from None


def _without_tables(value: Any, tables: dict[str, list[Any]]) -> Any:
    if isinstance(value, str):
        return tables.get(value, value)
    if isinstance(value, dict):
        return {k: _without_tables(v, tables) for k, v in value.items()}
    return [_without_tables(v, tables) for v in value] if isinstance(value, list) else value
