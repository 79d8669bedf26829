"""Lines folded: what they have in common is said once above them, and a passage that comes again is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tokenry.compress.folding.passages import repeats
from tokenry.compress.folding.templates import templates
from tokenry.compress.parts.log import Log

SIGNS = "~^@%§¤"
_SLOTS = ("{}", "<>", "‹›", "⟨⟩")
_LEGEND = re.compile(
    r"\[folded, nothing left out: (?=(?P<sign>[^\w\s]))"
    r"(?P<templates>(?P=sign)1 a b is the line at (?P=sign)1: with a, b for its (?P<slot>[^\s;\]]+))?(?:; )?"
    r"(?P<passages>(?P=sign)\(1 to (?P=sign)\)1 is passage 1, (?P=sign)=1 is it again)?\]\n"
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a folded text.

    Args:
        start: its first character, and `end` the one behind its line break.
        says: the lines of the source that it stands for; none of what only tells how to read others.
        needs: the template or passage without which nobody can read it, as `1:` or `(1`.
        name: how others refer to it, where they do.
        inside: the passages that it belongs to.
    """

    start: int
    end: int
    says: tuple[str, ...]
    needs: str = ""
    name: str = ""
    inside: tuple[str, ...] = ()


def folded(text: str) -> str | None:
    """A text with its lines folded; None where nothing is to be folded, or no sign is free to say it.

    Only lines of a log have templates, since those of code or a document are better read as they are.
    """
    lines = text.split("\n")
    sign = next((s for s in SIGNS if f"\n{s}" not in text and text[:1] != s), None)
    slot = next((s for s in _SLOTS if s not in text), None)
    if sign is None or slot is None or "\0" in text:
        return None
    again = repeats(lines)
    gone = {i for a in again for i in range(a.at, a.at + a.count)}
    found = templates(lines, (i for i in range(len(lines)) if i not in gone), slot) if Log().is_one(text) else []
    if not again and not found:
        return None
    spelled = {
        i: f"{sign}{n}{''.join(f' {v}' for v in values)}" for n, (_, rows) in enumerate(found, 1) for i, values in rows
    }
    names = {span: n for n, span in enumerate(dict.fromkeys((a.like, a.count) for a in again), 1)}
    begins: dict[int, list[str]] = {}
    ends: dict[int, list[str]] = {}
    for (like, count), n in names.items():
        begins.setdefault(like, []).append(f"{sign}({n}")
        ends.setdefault(like + count - 1, []).insert(0, f"{sign}){n}")
    at = {a.at: f"{sign}={names[a.like, a.count]}" for a in again}
    out = [_legend(sign, slot if found else "", bool(again)), *(f"{sign}{n}: {t}" for n, (t, _) in enumerate(found, 1))]
    for i, line in enumerate(lines):
        out += begins.get(i, ())
        if i in at:
            out.append(at[i])
        elif i not in gone:
            out.append(spelled.get(i, line))
        out += ends.get(i, ())
    return "\n".join(out)


def _legend(sign: str, slot: str, again: bool) -> str:
    """How to read what follows, in one line."""
    said = [f"{sign}1 a b is the line at {sign}1: with a, b for its {slot}"] if slot else []
    said += [f"{sign}(1 to {sign})1 is passage 1, {sign}=1 is it again"] if again else []
    return f"[folded, nothing left out: {'; '.join(said)}]"


def is_folded(text: str) -> bool:
    return _LEGEND.match(text) is not None


def read(text: str) -> Iterator[Line]:
    """The lines of a folded text behind its legend, in order.

    Raises:
        ValueError: it is none, or refers to what it does not hold.
    """
    legend = _LEGEND.match(text)
    if legend is None:
        raise ValueError("no legend")
    sign, slot = legend["sign"], legend["slot"]
    forms: dict[str, list[str]] = {}
    passages: dict[str, list[str]] = {}
    inside: list[str] = []
    heads = slot is not None
    every = text[legend.end() :].split("\n")
    ends = accumulate((len(line) + 1 for line in every), initial=legend.end())
    for start, line in zip(ends, every, strict=False):
        end = min(start + len(line) + 1, len(text))
        name, _, rest = line[1:].partition(" ")
        if line[:1] != sign:
            heads = False
            says: tuple[str, ...] = (line,)
            needs = ""
        elif heads and name.endswith(":"):
            forms[name] = rest.split(slot)
            yield Line(start, end, (), name=name)
            continue
        elif name[:1] in ("(", ")"):
            if name[0] == "(":
                inside.append(name)
                passages[name] = []
            else:
                inside.remove(f"({name[1:]}")
            yield Line(start, end, (), name=name, inside=tuple(inside))
            continue
        elif name[:1] == "=":
            needs = f"({name[1:]}"
            says = tuple(passages[needs])
        else:
            heads, needs = False, f"{name}:"
            values = rest.split(" ") if " " in line else []
            first, *others = forms[needs]
            says = (first + "".join(v + piece for v, piece in zip(values, others, strict=True)),)
        for passage in inside:
            passages[passage] += says
        yield Line(start, end, says, needs, inside=tuple(inside))


def unfolded(text: str) -> str:
    """The text that was folded.

    Raises:
        ValueError: it is none, or refers to what it does not hold.
    """
    try:
        return "\n".join(said for line in read(text) for said in line.says)
    except KeyError as error:
        raise ValueError(f"nothing is called {error}") from error
