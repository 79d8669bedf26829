"""Code: statements stay or go as a whole under the definitions that hold them, and what is left parses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tokenry.compress.parts.kind import Kind, Lines, own_line
from tokenry.compress.units.cut import Cut, Gap
from tokenry.compress.units.grammars import GRAMMARS, language_of, parses, tree
from tokenry.compress.units.lines import lines
from tokenry.compress.units.statements import statements
from tokenry.core.card import Card
from tokenry.core.fields import choice, positive

_NOTHING = {"python": "...  ", "bash": ":  "}
"""What stands for a body of which nothing is left, where a comment alone does not."""


@dataclass(frozen=True, kw_only=True)
class Code(Kind):
    """Imports, statements and definitions; of a definition the signature and what documents it stay over its body.

    A statement never stays without the definitions around it. A statement with a block, such as `if` or `for`, is one
    unit; of a long one the longest block is opened. Comments belong to what follows them. A mark is a comment at the
    depth of what is missing: `# lines 41–118 left out`. Code that does not parse is cut by lines, and so is all code
    where the extra `code` is not installed.
    """

    part = Card(
        title="Tree-sitter: a new parsing system for programming tools",
        year=2018,
        url="https://tree-sitter.github.io/tree-sitter/",
        summary="definitions and statements of code in eleven languages; what is left parses",
    )
    counts = "lines"

    language: str = choice("auto", *GRAMMARS, default="auto", doc="that the code is written in")
    whole: int = positive(4, doc="lines up to which a definition stays or goes as a whole")
    longest: int = positive(20, doc="lines beyond which a statement that defines nothing is opened")

    def is_one(self, text: str) -> bool:
        return self._of(text) is not None

    def valid(self, text: str) -> bool:
        return self._of(text) is not None

    def cut(self, text: str) -> Cut:
        language = self._of(text)
        if language is None:
            return Lines().cut(text)
        ends = np.cumsum([0, *map(len, lines(text))], dtype=np.int64)
        rows = len(ends) - 1
        found = statements(tree(text, language), rows, whole=self.whole, longest=self.longest)
        first, last, head, tail, parent = np.array(
            [(u.first, u.last, u.head, u.tail, u.parent) for u in found], dtype=np.int64
        ).T
        closed = (tail > head + 1) & (tail <= last)
        whole = Cut.of(
            replace(self, language=language),
            text,
            np.stack((ends[first], ends[head + 1]), 1),
            parent=parent,
            tail=np.where(closed[:, None], np.stack((ends[np.minimum(tail, rows)], ends[last + 1]), 1), 0),
            number=np.stack((first + 1, last + 1), 1),
        )
        return replace(whole, titles={i: u.title for i, u in enumerate(found) if u.title})

    def mark(self, text: str, gap: Gap) -> str:
        grammar = GRAMMARS[self.language]
        said = f"{grammar.comment} {self.wording(gap)}"
        if (
            gap.first
            and gap.last
            and gap.start > 0
            and self.language in _NOTHING
            and own_line(text, gap, "")[:1] in " \t"
        ):
            said = _NOTHING[self.language] + said
        return own_line(text, gap, said)

    def _of(self, text: str) -> str | None:
        """The language of a text that parses."""
        if self.language == "auto":
            return language_of(text)
        return self.language if parses(text, self.language) else None
