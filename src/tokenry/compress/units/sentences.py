"""Where words begin, and where a sentence ends: a small rule instead of a model."""

from __future__ import annotations

import re
from itertools import pairwise

from tokenry.compress.units.lines import line_ends

MARKS = ".!?…。！？।؟۔"
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
        starts.append(ended or _ends(text[start:end], gap, text[following:stop], line_start))
    return starts


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
