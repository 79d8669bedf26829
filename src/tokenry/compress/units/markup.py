"""HTML as a tree of blocks, read as browsers do: what is not closed or not opened hurts nothing."""

from __future__ import annotations

import re
from collections import Counter
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
_HARDLY = 0.6
"""Share of an element that a heading makes up where it holds hardly anything else."""
_DEEPEST = 100
"""Elements around one beyond which it is not opened."""


@dataclass(slots=True)
class Element:
    """An element that stands as a block.

    Args:
        tag: its name.
        start: its first character, `opened` the one behind its opening tag, `closed` the first of its closing tag, and
            `end` the one behind it.
        children: the blocks in it.
        level: of a heading, and of an element that holds hardly anything else, how high it stands; 0 of others.
        opens: whether what it holds may stay or go by itself.
    """

    tag: str
    start: int
    opened: int
    closed: int = -1
    end: int = -1
    children: list[Element] = field(default_factory=list)
    level: int = 0
    opens: bool = False

    def close(self, at: int, end: int, depth: int) -> None:
        """Enter where it ends; what it holds is closed already."""
        self.closed, self.end = at, end
        only = self.children[0] if len(self.children) == 1 else None
        if self.tag[:1] == "h" and self.tag[1:].isdigit():
            self.level = int(self.tag[1:])
        elif only is not None and only.end - only.start > _HARDLY * (end - self.start):
            self.level = only.level
        self.opens = bool(self.children) and self.tag not in _WHOLE and not self.level and depth < _DEEPEST


def read(text: str) -> tuple[Element, int]:
    """A text as an element around its blocks, and how many tags close nothing or stay open."""
    root = Element("", 0, 0, len(text), len(text))
    stack, faults = [root], 0
    held: Counter[str] = Counter()

    def leave(at: int, end: int) -> Element:
        done = stack.pop()
        held[done.tag] -= 1
        done.close(at, end, len(stack))
        return done

    for match in _TAG.finditer(text):
        tag = (match["tag"] or "").lower()
        if tag not in _BLOCKS:
            continue
        if not match["close"]:
            while stack[-1].tag in _ENDS.get(tag, ()):
                leave(match.start(), match.start())
            stack[-1].children.append(Element(tag, match.start(), match.end()))
            stack.append(stack[-1].children[-1])
            held[tag] += 1
        elif held[tag]:
            while stack[-1].tag != tag:
                faults += leave(match.start(), match.start()).tag not in _MAY_STAY_OPEN
            leave(match.start(), match.end())
        else:
            faults += 1
    while len(stack) > 1:
        faults += leave(len(text), len(text)).tag not in _MAY_STAY_OPEN
    return root, faults


def visible(text: str) -> bool:
    """Whether anything but tags and white space stands in a text."""
    return bool(_TAG.sub("", text).strip())
