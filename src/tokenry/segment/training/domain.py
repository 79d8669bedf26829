"""Text of legal and financial documents that is one token wherever it stands, in groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

_TENS = ("", "x", "xx", "xxx", "xl")
_ONES = ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")
_ROMAN = [tens + ones for tens in _TENS for ones in _ONES][1:]
_LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
_TAGS = (
    "html", "head", "body", "title", "div", "span", "p", "a", "b", "i", "u", "br", "hr", "ul", "ol", "li", "table",
    "thead", "tbody", "tr", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "pre", "code", "sup", "sub",
    "section", "article", "img", "link", "meta", "script", "style",
)  # fmt: skip
_REPORTS = (
    "U.S.", "U.S.C.", "S. Ct.", "L. Ed.", "L. Ed. 2d", "F.2d", "F.3d", "F.4th", "F. Supp.", "F. Supp. 2d",
    "F. Supp. 3d", "F. App'x", "Fed. Cl.", "Fed. Reg.", "Fed. R. Civ. P.", "Fed. R. Crim. P.", "Fed. R. Evid.",
    "C.F.R.", "Stat.", "Pub. L.", "B.R.", "T.C.", "A.2d", "A.3d", "P.2d", "P.3d", "N.E.2d", "N.E.3d", "N.W.2d",
    "S.E.2d", "S.W.2d", "S.W.3d", "So. 2d", "So. 3d", "Cal. Rptr.", "N.Y.S.2d", "U.C.C.", "Rev. Rul.", "Treas. Reg.",
    "et seq.", "Id. at", " v. ", "§ ", "§§ ",
)  # fmt: skip

GROUPS: Mapping[str, Sequence[str]] = {
    "spaces": [*(" " * n for n in range(2, 17)), *("\n" * n for n in range(2, 9)), *("\t" * n for n in range(1, 9))],
    "markdown": ["```", "**", "__", "~~", "##", "###", "####", "---", "***", "![", "](", "[ ]", "[x]", "> ", "|---"],
    "html": [part for tag in _TAGS for part in (f"<{tag}>", f"</{tag}>", f"<{tag} ")] + ["<!--", "-->", "&nbsp;"],
    "json": ['{"', '"}', '":', '","', '": "', '", "', "[{", "}]", "},{", "}, {", "null,", "true,", "false,"],
    "xml": ["<?xml", "?>", "/>", "<![CDATA[", "]]>", "<!DOCTYPE", 'xmlns="', 'version="1.0"', 'encoding="UTF-8"'],
    "years": [str(year) for year in range(1776, 2051)],
    "numbers": [str(number) for number in range(1, 1000)],
    "enumerations": [
        f"({mark})"
        for marks in (_LETTERS, map(str.upper, _LETTERS), _ROMAN, map(str.upper, _ROMAN), range(1, 100))
        for mark in marks
    ],
    "citations": _REPORTS,
}
"""What NFKC leaves as it is."""


def outside(added: Sequence[str]) -> Callable[[str], list[str]]:
    """The parts of a text between some strings, of which the longest one is found first."""
    if not added:
        return lambda text: [text]
    # Strings under their first character, so that most places are passed by at once.
    groups = groupby(sorted(added, key=lambda text: (text[0], -len(text))), key=lambda text: text[0])
    choices = (
        re.escape(first) + "(?:" + "|".join(re.escape(text[1:]) for text in group) + ")" for first, group in groups
    )
    pattern = re.compile("|".join(choices))
    return lambda text: [part for part in pattern.split(text) if part]
