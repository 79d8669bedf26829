"""Write the pages of the methods and the README's table from cards, docstrings and fields: `… pages [--check] docs`."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tokenry.core.described import fields_of
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import Entry, entries, parts
from tokenry.core.saving import write_text

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
"""The README's table stands between these lines."""

SRC = Path(__file__).parents[2]
EXAMPLES = Path(__file__).parent / "examples"
"""What the pages of a room show, `<room>.md`, or one page, `<name>.md`; those of the room's methods that are learned
may have one together, `<room>_learned.md`. `{class}`, `{name}` and, where there is one, `{budget}` are filled in."""


def pages(docs: Path) -> dict[Path, str]:
    """Every generated file and what it must hold."""
    readme = docs.parent / "README.md"
    made = {docs / "methods" / f"{e.full_name}.md": _page(e) for e in entries()}
    made |= {docs / "methods" / room / f"{kind}.md": _kind(room, kind, of) for room, kind, of in _kinds()}
    made[docs / "methods" / "index.md"] = _index()
    made[readme] = _with_table(readme.read_text(encoding="utf-8"))
    return made


def stale(docs: Path) -> list[Path]:
    """Generated files that are missing, out of date, or left from a method that is gone."""
    made = pages(docs)
    wrong = [file for file, text in made.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    return wrong + [file for file in sorted((docs / "methods").rglob("*.md")) if file not in made]


def write(docs: Path) -> None:
    """Bring the generated files up to date."""
    made = pages(docs)
    for file in stale(docs):
        if file in made:
            write_text(file, made[file])
        else:
            file.unlink()


def _page(entry: Entry) -> str:
    lines = [f"# {entry.full_name}", *_about_one(entry, "##")]
    names = (entry.name, *([f"{entry.room}_learned"] if entry.card.training else []), entry.room)
    example = next((f for n in names if (f := EXAMPLES / f"{n}.md").exists()), None)
    if example is not None:
        text = example.read_text(encoding="utf-8")
        budget = "budget=128" if "budget" in {f.name for f in fields_of(entry)} else ""
        filled = {"{class}": entry.class_name, "{name}": entry.full_name, "{budget}": budget,
                  "{:budget}": f":{budget}" if budget else ""}  # fmt: skip
        for word, value in filled.items():
            text = text.replace(word, value)
        lines += ["## Example", text]
    return "\n\n".join(p.rstrip() for p in lines) + "\n"


def _kind(room: str, kind: str, of: Sequence[Entry]) -> str:
    """One page for all parts of a kind."""
    doc = ast.get_docstring(ast.parse((SRC / room / "parts" / f"{kind}.py").read_text(encoding="utf-8"))) or ""
    lines = [f"# {room}: {kind.replace('_', ' ')}", _plain(doc), _rows("part", of)]
    for entry in of:
        lines += [f"## {entry.name}", *_about_one(entry, "###")]
    return "\n\n".join(p.rstrip() for p in lines) + "\n"


def _kinds() -> list[tuple[str, str, list[Entry]]]:
    """Room, file and parts of each kind that belongs to tokenry."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in parts():
        if entry.module.startswith("tokenry."):
            found.setdefault((entry.room, entry.kind), []).append(entry)
    return [(room, kind, of) for (room, kind), of in found.items()]


def _about_one(entry: Entry, mark: str) -> list[str]:
    """Title, docstring and fields of a method or a part, under headings of the given depth."""
    card = entry.card
    lines = [f"[{_plain(card.title)}]({card.url}), {card.year}", _prose(entry.doc, mark)]
    settings = fields_of(entry)
    rows = [(f"`{f.name}`", f"`{f.type.replace(' | ', ' or ')}`", f"`{f.default}`", _plain(f.doc)) for f in settings]
    if rows or entry in entries():
        lines += [f"{mark} Fields", _table(("field", "type", "default", "meaning"), rows) if rows else "None."]
    if card.identities:
        each = (", ".join(f"`{name}={value!r}`" for name, value in at.items()) for at in card.identities)
        lines.append(f"It changes nothing at {', and nothing at '.join(each)}.")
    for heading, items in (("Claims", card.claims), ("Differs from the paper", card.deviations)):
        if items:
            lines += [f"{mark} {heading}", _bullets(items)]
    if card.exempt:
        exempt = [f"`{name}`: {reason}" for name, reason in card.exempt.items()]
        lines += [f"{mark} Exempt from contract tests", _bullets(exempt)]
    return lines


def _prose(doc: str, mark: str) -> str:
    """The docstring as Markdown: a line without indent that stands over an indented one is a heading."""
    lines = doc.splitlines()
    found = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        heading = line[:1].strip() and below.startswith(" ")
        found.append(f"\n{mark} {line}\n" if heading else _plain(line.strip()))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(found))


def _index() -> str:
    lines = ["# Methods", "One page for each method, written from its file. `tokenry explain NAME` prints the same."]
    for room, found in groupby(entries(), key=lambda e: e.room):
        lines += [f"## {room}", _about(room), _rows("method", found)]
        kinds = [f"[{kind.replace('_', ' ')}]({at}/{kind}.md)" for at, kind, _ in _kinds() if at == room]
        if kinds:
            lines += [f"Parts that some of these take as the value of a field, by kind: {', '.join(kinds)}."]
    return "\n\n".join(lines) + "\n"


def _rows(kind: str, found: Iterable[Entry]) -> str:
    rows = [(f"[{e.name}]({_page_of(e)})", _plain(e.card.summary), str(e.card.year)) for e in found]
    return _table((kind, "what it does", "year"), rows)


def _page_of(entry: Entry) -> str:
    """Where the index or a page of its kind finds an entry."""
    return f"{entry.full_name}.md" if entry in entries() else f"#{entry.name}"


def _about(room: str) -> str:
    """What the first line of a room's `base.py` says after the room's name."""
    base = SRC / room / "base.py"
    line = (ast.get_docstring(ast.parse(base.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return _plain(line.removeprefix(f"Room: {room}. "))


def _with_table(readme: str) -> str:
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InvalidValue(f"README.md: must hold the lines {BEGIN} and {END}; add them where the table belongs.")
    rows = [(f"[{e.full_name}](docs/methods/{e.full_name}.md)", _plain(e.card.summary)) for e in entries()]
    return f"{before}{begin}\n\n{_table(('method', 'what it does'), rows)}\n\n{end}{after}"


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join("| " + " | ".join(cell for cell in line) + " |" for line in lines)


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(item)}" for item in items)


def _plain(text: str) -> str:
    """Text in which nothing but code between backticks means anything to Markdown."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]|])", r"\\\1", p).replace("<", "&lt;") for p in parts[::2]]
    return "`".join(parts)


def main() -> None:
    """Write the pages, or with `--check` name those that are out of date and exit with 1."""
    options = argparse.ArgumentParser(prog="python -m tokenry.apps.pages", description=__doc__)
    options.add_argument("docs", type=Path, help="folder of the documentation, beside README.md")
    options.add_argument("--check", action="store_true", help="change nothing")
    given = options.parse_args()
    if not given.check:
        write(given.docs)
        return
    wrong = stale(given.docs)
    for file in wrong:
        sys.stderr.write(f"{file}: out of date; run `python -m tokenry.apps.pages {given.docs}`\n")
    sys.exit(1 if wrong else 0)
