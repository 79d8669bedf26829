"""Where words begin, and where a sentence ends: a small rule instead of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from tokenry.compress.units.lines import line_ends

MARKS = ".!?…。！？।؟۔។။"
"""Characters that may end a sentence."""

OPENERS = "\"'“‘«([{¿¡*_"
CLOSERS = "\"'”’»)]}*_"

STARTERS = frozenset(
    """a after all also an and as at before but by each every for from he her here his how however i if in it its
    many moreover most my no not now of on one or our she so some that the their then there these they this those
    thus to we what when where while who why with yes you your""".split()
)
"""Words that often begin a sentence and are no names."""

ALONE = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts written without spaces, each of which counts as a word."""

_WORD = re.compile(
    rf"""[{ALONE}](?:[^\w\s「『（【〈《“‘]|[ー々])*+
    | (?:[^\s{ALONE},{{\[:}}]++ | [,{{\[:}}](?!["{{\[]))++ [,{{\[:}}]?
    | [,{{\[:}}]""",
    re.VERBOSE,
)

_THAI = "\u0e01-\u0e2e\u0e40-\u0e44\u0e81-\u0eae\u0ec0-\u0ec4"
_SPACED = re.compile(rf"(?<=[\u0e01-\u0e4e\u0e81-\u0ecd])[ \u00a0]+(?=[{_THAI}])")
"""Thai and Lao have no full stop; a space ends a sentence, or a clause."""

_TITLES = frozenset(
    """adm approx capt cf cmdr col cpt dr e.g ft gen gov hon i.e lt maj messrs mme mr mrs ms mt pres prof rep rev sen
    sgt st viz vs""".split()
)
_NUMBERED = frozenset(
    """apr art arts aug ca ch chap chaps dec eq eqs feb fig figs jan jul jun mar no nos nov oct p par pp sec secs sep
    sept vol vols""".split()
)
_SOMETIMES = frozenset("al bros co corp dept ed eds esq est inc jr lb lbs llc ltd oz ph.d sr univ".split())
_DOTTED = re.compile(r"(?:[a-z]\.)*[a-z]")
_BLANK = re.compile(r"\n[^\S\n]*+\n\s*+")
_VISIBLE = re.compile(r"\S")
_CLOSED = re.escape(CLOSERS)
_MAY_END = re.compile(rf"[{MARKS}][{_CLOSED}]*(?P<gap>\s+|(?<=[。！？])|(?<=[。！？][{_CLOSED}]))")
_ROMAN = re.compile(r"[IVXLC]+\W*")


def words(text: str) -> list[tuple[int, int]]:
    """Visible characters of every word: what stands between white space, with its punctuation.

    Chinese and Japanese characters are words by themselves, and fields of data written without spaces are words.
    """
    return [m.span() for m in _WORD.finditer(text)]


def sentence_starts(text: str, found: list[tuple[int, int]]) -> list[bool]:
    """For every word, whether a sentence begins with it.

    A sentence ends at a blank line, around list items, headings and lines of code, and after an end mark that
    white space and a capital, digit or quotation mark follow, unless the mark belongs to an abbreviation.
    """
    own = line_ends(text)
    starts = [True] * min(1, len(found))
    gap = "\n"
    for (start, end), (following, stop) in pairwise(found):
        line_start, gap = "\n" in gap, text[end:following]
        breaks = [end + i for i, c in enumerate(gap) if c == "\n"] if "\n" in gap else []
        ended = len(breaks) > 1 or any(b in own for b in breaks)
        ended = ended or _SPACED.fullmatch(text, end, following) is not None
        starts.append(ended or _ends(text[start:end], gap, text[following:stop], line_start))
    return starts


def sentence_bounds(text: str, longest: int) -> list[tuple[int, int]]:
    """First character of every sentence and the one behind its white space; together they are the text.

    The same sentences as by `sentence_starts`, found from where one may end, so that the time is that of a search.
    """
    starts = {0}
    for match in _BLANK.finditer(text):
        if match.end() < len(text):
            starts.add(text.rfind("\n", 0, match.end()) + 1)
    for end in line_ends(text):
        following = _VISIBLE.search(text, end)
        if following is not None:
            starts.add(text.rfind("\n", end, following.start()) + 1 or following.start())
    for match in _MAY_END.finditer(text):
        word_start = _word_start(text, match.start())
        gap = match["gap"]
        after = text[match.end() : match.end() + 40].split(None, 1)[:1]
        line_start = word_start == 0 or "\n" in text[max(0, word_start - 2) : word_start]
        if after and _ends(text[word_start : match.start("gap")], gap, after[0], line_start):
            starts.add(match.end())
    starts.update(m.end() for m in _SPACED.finditer(text))
    edges = [*sorted(s for s in starts if s < len(text) or s == 0), len(text)]
    bounds = [(a, b) for a, b in pairwise(edges) if b > a]
    return [piece for a, b in bounds for piece in (_pieces(text, a, b, longest) if b - a > longest else ((a, b),))]


def _word_start(text: str, at: int) -> int:
    """Where the word begins in which a character stands; of a very long one, somewhere in it."""
    low = max(0, at - 40)
    return low + max(text.rfind(c, low, at) - low + 1 for c in " \n\t\u00a0")


def _pieces(text: str, start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """A sentence that is too long, cut behind its last line, clause, word or letter that fits."""
    while end - start > longest:
        low, high = start + longest // 2, start + longest
        cuts = (max(text.rfind(c, low, high) for c in kind) + 1 for kind in ("\n", ";:,；：、，", " \t"))
        at = next((c for c in cuts if c > low), high)
        yield start, at
        start = at
    yield start, end


def _ends(word: str, gap: str, following: str, line_start: bool) -> bool:
    """Whether a sentence ends between two words of one paragraph."""
    tail = word.rstrip(CLOSERS)
    if not tail or tail[-1] not in MARKS:
        return False
    if tail[-1] in "。！？":
        return True
    first = following.lstrip(OPENERS)[:1]
    if not gap or not first.isalnum() or first.islower():
        return False
    return tail[-1] != "." or not _abbreviates(tail.lstrip(OPENERS)[:-1], following, line_start)


def _abbreviates(word: str, following: str, line_start: bool) -> bool:
    """Whether the full stop after `word` belongs to it and ends nothing."""
    plain = word.lower()
    if plain in _TITLES or (line_start and plain.isdigit()):
        return True
    if plain in _NUMBERED:
        return following[0].isdigit() or _ROMAN.fullmatch(following) is not None
    if plain in _SOMETIMES or _DOTTED.fullmatch(plain):
        return following.strip(OPENERS + CLOSERS + ",;:").lower() not in STARTERS
    return False
