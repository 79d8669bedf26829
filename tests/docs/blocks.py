"""Find the code blocks of the documentation and make them into programs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELLS = ("bash", "sh", "console")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, text, and the line of the page on which its text begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in _FENCE.finditer(text)]


def program(page: Path) -> str:
    """All Python blocks of a page as one file that generates and fits little; lines keep their numbers."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    # A future import holds for the whole file and must come first.
    future = "from __future__ import annotations"
    if future in lines:
        lines[lines.index(future)] = ""
        lines[0] = future
    text = re.sub(r"(max_new(?:_tokens)?=)\d+", r"\g<1>3", "\n".join(lines) + "\n") if lines else ""
    return re.sub(r"\.fit\(vectors\)", ".fit(vectors, iterations=2)", text)


def commands(page: Path) -> list[str]:
    """The commands of all shell blocks of a page; lines that end with a backslash go on."""
    found: list[str] = []
    for block in blocks(page):
        if block.language in SHELLS:
            lines = block.text.replace("\\\n", " ").splitlines()
            if block.language == "console":
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            found += [line for line in lines if line.strip() and not line.startswith("#")]
    return found


def shown(page: Path) -> dict[str, object]:
    """The document that a page shows as the output of a command: a JSON block right after a command of its own."""
    found = {}
    for block, after in pairwise(blocks(page)):
        command = block.text.replace("\\\n", " ").strip()
        if block.language in SHELLS and after.language == "json" and "\n" not in command:
            found[command] = json.loads(after.text)
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))
