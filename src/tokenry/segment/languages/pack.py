"""A language for `morph_hybrid`: its roots, its affixes, and how their letters follow those before them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue, UnreadableInput

HERE = Path(__file__).parent
LANGUAGES = tuple(sorted(file.stem for file in HERE.glob("*.toml")))

Context = tuple[str, str]
"""What a form depends on: the last vowel that is not neutral, and the last letter."""

_SIGN = re.compile(r"\((?P<buffer>.)\)|(?P<letter>.)")


@dataclass(frozen=True, slots=True)
class Unit:
    """A root or an affix.

    Args:
        kind: `root`, or the group of the affix.
        forms: one or two; affixes with signs for letters that depend on what stands before them.
    """

    kind: str
    forms: tuple[str, ...]

    @property
    def name(self) -> str:
        """How it is shown."""
        return self.forms[0]


@dataclass(frozen=True, eq=False)
class Pack:
    """All that is known of a language.

    `bound` are affixes that stand behind other affixes, and behind a root only where no other reading is as short.
    """

    language: str
    letters: frozenset[str]
    vowels: str
    before: re.Pattern[str]
    lowers: Mapping[str, str]
    harmony: Mapping[str, Mapping[str, str]]
    assimilation: Mapping[str, Mapping[str, str]]
    affixes: Sequence[Unit]
    roots: Sequence[Unit]
    bound: frozenset[str] = frozenset()

    def lower(self, text: str) -> str:
        """Small letters as the language has them."""
        for capital, small in self.lowers.items():
            text = text.replace(capital, small)
        return text.lower()

    def upper(self, text: str) -> str:
        """Capital letters as the language has them."""
        for capital, small in self.lowers.items():
            text = text.replace(small, capital)
        return text.upper()

    def context(self, text: str) -> Context:
        """What an affix behind a text depends on."""
        letters = [c for c in text if c in self.letters]
        vowel = next((c for c in reversed(letters) if c in self._harmonic), "")
        return vowel, letters[-1] if letters else ""

    def realised(self, form: str, text: str) -> str:
        """A form of an affix as it is written behind a text."""
        return self._realised(form, *self.context(text))

    def surfaces(self, context: Context) -> Mapping[str, list[tuple[int, int]]]:
        """Affixes that may stand behind what has this context: as written, which one, and which form of it."""
        if context not in self._surfaces:
            found: dict[str, list[tuple[int, int]]] = {}
            for i, unit in enumerate(self.affixes):
                for k, form in enumerate(unit.forms):
                    found.setdefault(self._realised(form, *context), []).append((i, k))
            self._surfaces[context] = found
        return self._surfaces[context]

    def form(self, unit: Unit, behind: str, following: Unit | None) -> str:
        """The form that a unit takes behind a text and before another unit."""
        forms = unit.forms if unit.kind == "root" else tuple(self.realised(f, behind) for f in unit.forms)
        if len(forms) == 1 or following is None or following.kind == "root":
            return forms[0]
        return forms[1] if self.before.search(self.realised(following.forms[0], behind + forms[1])) else forms[0]

    @cached_property
    def root_forms(self) -> Mapping[str, list[tuple[int, int]]]:
        """Roots as they may be written: which one, and which form of it."""
        found: dict[str, list[tuple[int, int]]] = {}
        for i, unit in enumerate(self.roots):
            for k, form in enumerate(unit.forms):
                found.setdefault(form, []).append((i, k))
        return found

    @cached_property
    def longest(self) -> int:
        """Letters of the longest root."""
        return max(map(len, self.root_forms), default=0)

    @cached_property
    def _harmonic(self) -> frozenset[str]:
        return frozenset(c for letters in self.harmony.values() for after in letters.values() for c in after)

    @cached_property
    def _surfaces(self) -> dict[Context, dict[str, list[tuple[int, int]]]]:
        return {}

    def _realised(self, form: str, vowel: str, last: str) -> str:
        out = ""
        for sign in _SIGN.finditer(form):
            letter = self._letter(sign["buffer"] or sign["letter"], vowel, last)
            if sign["buffer"] and (last in self.vowels) == (letter in self.vowels):
                continue
            out, last = out + letter, letter
            vowel = letter if letter in self._harmonic else vowel
        return out

    def _letter(self, sign: str, vowel: str, last: str) -> str:
        if sign in self.harmony:
            after = self.harmony[sign]
            return next((c for c, vowels in after.items() if vowel and vowel in vowels), [*after][-1])
        if sign in self.assimilation:
            return next((c for c, after in self.assimilation[sign].items() if not after or (last and last in after)))
        return sign


def pack(language: str, roots: str | None = None) -> Pack:
    """A language that comes along, with more roots from a file.

    Args:
        language: one of `LANGUAGES`.
        roots: a file with a root on each line, and its second form behind a space.

    Raises:
        UnreadableInput: the file of roots.
        InvalidValue: a line of it that holds something else.
    """
    return _read(language, roots, Path(roots).stat().st_mtime_ns if roots and Path(roots).is_file() else 0)


@lru_cache(maxsize=8)
def _read(language: str, roots: str | None, stamp: int) -> Pack:
    told: dict[str, Any] = tomllib.loads((HERE / f"{language}.toml").read_text(encoding="utf-8"))
    lines = dict.fromkeys(_lines(HERE / f"{language}.roots"))
    lines |= dict.fromkeys(_lines(Path(roots)) if roots else ())
    affixes = [Unit(kind, tuple(a.split())) for kind, group in told["affixes"].items() for a in group]
    return Pack(
        language, frozenset(told["letters"]), told["vowels"], re.compile(told["second_before"]), told["lower"],
        told["harmony"], told["assimilation"], affixes, [Unit("root", forms) for forms in lines],
        frozenset(told.get("bound", ())),
    )  # fmt: skip


def _lines(file: Path) -> Iterator[tuple[str, ...]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{file}: must be a readable file of roots; {error}.") from error
    for line in text.splitlines():
        forms = tuple(line.split())
        if len(forms) > 2 or not all(form.isalpha() and form == form.lower() for form in forms):
            raise InvalidValue(
                f"{file}: every line must be a root in small letters and perhaps its second form; got {line[:60]!r}."
            )
        if forms:
            yield forms
