"""HTML as a tree of blocks, read as browsers do: what is not closed or not opened hurts nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TAG = re.compile(
    r"""<!--.*?(?:-->|\Z) | <![^>]*+>? | <\?.*?(?:>|\Z)
    | <(?P<raw>script|style|textarea|title|svg|math|template|noscript|iframe)\b(?:"[^"]*"|'[^']*'|[^'">])*+>
      .*?(?:</(?P=raw)\s*>|\Z)
    | <(?P<close>/?)(?P<tag>[a-zA-Z][\w:-]*)(?:"[^"]*"|'[^']*'|[^'">])*+>""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_BLOCKS = frozenset(
    """address article aside blockquote body caption center colgroup dd details dialog dir div dl dt fieldset figcaption
    figure footer form h1 h2 h3 h4 h5 h6 head header hgroup html legend li main menu nav ol optgroup option p pre
    section select summary table tbody td tfoot th thead tr ul""".split()
)
_ENDS: dict[str, frozenset[str]] = {
    **{t: frozenset({"p"}) for t in _BLOCKS - {"html", "head", "body"}},
    "li": frozenset({"li", "p"}),
    **{t: frozenset({"dt", "dd", "p"}) for t in ("dt", "dd")},
    **{t: frozenset({"td", "th", "p"}) for t in ("td", "th")},
    "tr": frozenset({"td", "th", "tr", "p"}),
    **{t: frozenset({"td", "th", "tr", "thead", "tbody", "tfoot", "p"}) for t in ("thead", "tbody", "tfoot")},
    "option": frozenset({"option"}),
    "body": frozenset({"head"}),
}
"""Elements that a tag ends without a word."""
_MAY_STAY_OPEN = frozenset(
    "p li dt dd td th tr thead tbody tfoot option optgroup colgroup html head body caption".split()
)
_WHOLE = frozenset("pre select tr head p h1 h2 h3 h4 h5 h6 option".split())
"""Elements that are not opened."""


@dataclass(slots=True)
class Element:
    """An element that stands as a block.

    Args:
        tag: its name.
        start: its first character, `opened` the one behind its opening tag, `closed` the first of its closing tag, and
            `end` the one behind it.
        children: the blocks in it.
    """

    tag: str
    start: int
    opened: int
    closed: int = -1
    end: int = -1
    children: list[Element] = field(default_factory=list)

    @property
    def level(self) -> int:
        """Of a heading its level; of an element that holds nothing else, that of the heading; 0 of others."""
        if len(self.tag) == 2 and self.tag[0] == "h" and self.tag[1].isdigit():
            return int(self.tag[1])
        only = self.children[0] if len(self.children) == 1 else None
        return only.level if only is not None and only.end - only.start > 0.6 * (self.end - self.start) else 0

    @property
    def opens(self) -> bool:
        """Whether what it holds may stay or go by itself."""
        return bool(self.children) and self.tag not in _WHOLE and not self.level


def read(text: str) -> tuple[Element, int]:
    """A text as an element around its blocks, and how many tags close nothing or stay open."""
    root = Element("", 0, 0, len(text), len(text))
    stack, faults = [root], 0
    for match in _TAG.finditer(text):
        tag = (match["tag"] or "").lower()
        if tag not in _BLOCKS:
            continue
        if match["close"]:
            depth = next((d for d in range(len(stack) - 1, 0, -1) if stack[d].tag == tag), 0)
            faults += not depth
            while depth and len(stack) > depth:
                done = stack.pop()
                faults += len(stack) > depth and done.tag not in _MAY_STAY_OPEN
                last = len(stack) == depth
                done.closed, done.end = match.start(), match.end() if last else match.start()
            continue
        while stack[-1].tag in _ENDS.get(tag, ()):
            done = stack.pop()
            done.closed = done.end = match.start()
        element = Element(tag, match.start(), match.end())
        stack[-1].children.append(element)
        stack.append(element)
    for element in stack[1:]:
        faults += element.tag not in _MAY_STAY_OPEN
        element.closed = element.end = len(text)
    return root, faults


def visible(text: str) -> bool:
    """Whether anything but tags and white space stands in a text."""
    return bool(text) and not text.isspace() and not _TAG.sub("", text).isspace() and bool(_TAG.sub("", text))
