"""Code as lines that stay or go together: statements, and definitions over the statements of their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.compress.units.cut import ROOT

_BLOCKS = frozenset(
    """block statement_block class_body interface_body constructor_body declaration_list field_declaration_list
    compound_statement body_statement do_group preproc_ifdef preproc_if""".split()
)
_DEFINES = re.compile(
    "function|method|class|interface|impl_|trait|mod|namespace|struct|constructor|lambda|preproc|linkage"
)
_IMPORTS = re.compile("import|use_decl|using_directive|extern_crate|preproc_include|package_")


@dataclass(slots=True)
class Lines:
    """Rows that stay or go together.

    Args:
        first: the first row, from 0, and `last` the last.
        head: the last row that stays with it when what stands under it goes; `last` where nothing does.
        tail: the first row that closes it behind what stands under it; behind `last` where nothing does.
        parent: index of the one that it stands under.
        title: what it defines.
    """

    first: int
    last: int
    head: int
    tail: int
    parent: int
    title: str = ""


@dataclass(slots=True)
class _Group:
    """Rows of one statement with the comments above it, or of several that share a row."""

    first: int
    last: int
    node: Any


def statements(root: Any, rows: int, *, whole: int, longest: int) -> list[Lines]:
    """The statements of a syntax tree, each before those under it.

    Args:
        rows: how many the text has.
        whole: rows up to which a definition is not opened.
        longest: rows up to which another statement is not opened.
    """
    found: list[Lines] = []
    waiting = [(group, ROOT) for group in reversed(_merged(_groups(root.named_children, 0, rows - 1)))]
    while waiting:
        group, parent = waiting.pop()
        inside = _opened(group, whole, longest)
        if inside is None:
            found.append(Lines(group.first, group.last, group.last, group.last + 1, parent, _title(group.node)))
            continue
        head, tail, nodes = inside
        found.append(Lines(group.first, group.last, head, tail, parent, _title(group.node)))
        above = len(found) - 1
        waiting += [(g, above) for g in reversed(_groups(nodes, head + 1, tail - 1))]
    return found


def _groups(nodes: Sequence[Any], first: int, last: int) -> list[_Group]:
    """Statements between two rows, which they cover; a comment belongs to what follows it without a blank line."""
    found: list[_Group] = []
    above: int | None = None
    end = first - 1
    for node in nodes:
        start, stop = node.start_point.row, max(_end(node), node.start_point.row)
        comment = "comment" in node.type
        if comment and start <= end:
            end = max(end, stop)
            continue
        if above is not None and start > end + 1:
            found.append(_Group(above, end, None))
            above = None
        end = max(end, stop)
        if comment:
            above = start if above is None else above
        elif found and start <= found[-1].last:
            found[-1] = _Group(found[-1].first, end, None)
        else:
            found.append(_Group(start if above is None else above, end, node))
            above = None
        if found and above is None:
            found[-1].last = end
    if above is not None:
        found.append(_Group(above, end, None))
    for group, following in zip(found, [*found[1:], None], strict=True):
        group.last = last if following is None else following.first - 1
    if found:
        found[0].first = first
    return found


def _merged(groups: list[_Group]) -> list[_Group]:
    """Imports that follow each other are one."""
    found: list[_Group] = []
    imports = False
    for group in groups:
        before, imports = imports, group.node is not None and _IMPORTS.search(group.node.type) is not None
        if before and imports:
            found[-1].last = group.last
        else:
            found.append(group)
    return found


def _opened(group: _Group, whole: int, longest: int) -> tuple[int, int, list[Any]] | None:
    """The last row of the head, the first of the tail, and what stands between; None where it stays one."""
    if group.node is None or group.last - group.first < min(whole, longest):
        return None
    rows = _end(group.node) - group.node.start_point.row + 1
    block = _longest_block(group.node)
    if block is None:
        return None
    defines = _DEFINES.search(block.type if block == group.node else block.parent.type) is not None
    if rows <= (whole if defines else longest):
        return None
    inside = [n for c in block.named_children for n in (c.named_children if c.type == "statement_list" else [c])]
    head, tail = _opener(block), _closer(block, group.last)
    while inside and inside[0].start_point.row <= head:
        head = max(head, _end(inside.pop(0)))
    if inside and inside[0].type == "expression_statement" and inside[0].named_children[0].type == "string":
        head = max(head, _end(inside.pop(0)))
    while inside and _end(inside[-1]) >= tail:
        tail = min(tail, inside.pop().start_point.row)
    return (head, tail, inside) if any("comment" not in n.type for n in inside) and head + 1 < tail else None


def _title(node: Any) -> str:
    """The name of what a statement defines, where it defines something."""
    while node is not None:
        if node.type.endswith("identifier"):
            return str(node.text.decode("utf-8", "replace"))
        inner = (node.child_by_field_name(name) for name in ("name", "definition", "declarator", "declaration"))
        node = next((child for child in inner if child is not None), None)
    return ""


def _longest_block(node: Any) -> Any:
    """Of the blocks in a statement that stand in no other, the one with most rows."""
    best, waiting = None, [node]
    while waiting:
        at = waiting.pop()
        rows = at.end_point.row - at.start_point.row
        if rows < 1 or (best is not None and rows <= best.end_point.row - best.start_point.row):
            continue
        # Of cases at least one must stay, so what holds them is not opened, but one of them may be.
        if at.type in _BLOCKS and at.is_named and at.parent.type != "match_statement":
            best = at
        else:
            waiting += reversed(at.children)
    return best


def _opener(block: Any) -> int:
    """The row on which a block is opened."""
    first = block.child(0)
    if not first.is_named:
        return first.end_point.row
    before = block.prev_sibling
    while before is not None and "comment" in before.type:
        before = before.prev_sibling
    return block.start_point.row - 1 if before is None else _end(before)


def _closer(block: Any, last: int) -> int:
    """The row on which a block is closed; behind the last row where a dedent closes it and nothing follows."""
    end = block.child(block.child_count - 1)
    return end.start_point.row if not end.is_named else min(_end(block), last) + 1


def _end(node: Any) -> int:
    """The last row of a node; some take the line break behind them."""
    end = node.end_point
    return end.row - 1 if end.column == 0 and end.row > node.start_point.row else end.row
