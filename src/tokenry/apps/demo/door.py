"""The door: a build log and a conversation with an agent, each result cut to a quarter on its way to any model."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenry.compress.parts.auto import kind_of
from tokenry.data import build_log, conversation
from tokenry.models.text.counting import Counter
from tokenry.pipeline.messages import retrieve
from tokenry.pipeline.messages.compressing import compress_messages
from tokenry.pipeline.messages.originals import Originals

QUARTER = "lexical_relevance:budget=0.25,units=auto"
CONTROL = "compress/random:budget=0.25,units=auto"
LOG = "the build log"
ASK = "Which test fails, and what was found instead?"
NEEDLES: Mapping[str, tuple[str, str]] = {
    LOG: (">       assert whole.positions", "!= [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 7, 8, 9, 10]\n"),
    "search_code": ('"line": 240,', "_behind(self, other),"),
    "read_file": ("def _behind(", "theirs + behind), 2)\n"),
    "list_packages": ("jaxtyping,0.3.11", "arrays.\n"),
    "run_tests": ("tests/core/test_modalities.py::test_positions_of_several_axes_make_room", "[ 90%]\n"),
}
"""How the passage begins and ends that each text is asked for, by the tool that gave it."""

MANY = 12
"""Lines of the gap that is brought back, more or less."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One text before and after.

    Args:
        name: the tool that gave it, or `LOG`.
        kind: what it was cut as.
        tokens_in: before, and `tokens_out` after.
        seconds: that it took.
        needle: the passage that is asked for, whole.
        lines: of the text in which it stands, from 1, first and last.
        kept: whether all of it is left, byte for byte.
        by_chance: whether it is in a random quarter.
        mark: the first one that stands where something was left out.
        left: the text as a model reads it.
    """

    name: str
    kind: str
    tokens_in: int
    tokens_out: int
    seconds: float
    needle: str
    lines: tuple[int, int]
    kept: bool
    by_chance: bool
    mark: str
    left: str


@dataclass(frozen=True, slots=True)
class Door:
    """What was cut, and what came back.

    Args:
        cuts: every text.
        seconds: that all of it took, counting included.
        mark: of a gap in the file that was read.
        call: of the tool that brings it back, and `answer` what it gave.
        whole: whether every original came back byte for byte.
    """

    cuts: tuple[Cut, ...]
    seconds: float
    mark: str
    call: Mapping[str, Any]
    answer: str
    whole: bool

    @property
    def tokens_in(self) -> int:
        return sum(cut.tokens_in for cut in self.cuts)

    @property
    def tokens_out(self) -> int:
        return sum(cut.tokens_out for cut in self.cuts)

    def to_dict(self) -> dict[str, Any]:
        """What `tokenry demo --json` prints of it."""
        shown = ("name", "kind", "tokens_in", "tokens_out", "seconds", "needle", "lines", "kept", "by_chance")
        return {
            "tokens_in": self.tokens_in, "tokens_out": self.tokens_out, "seconds": self.seconds,
            "texts": [{name: getattr(cut, name) for name in shown} for cut in self.cuts],
            "originals_came_back": self.whole,
        }  # fmt: skip


def opened(tokenizer: str) -> Door:
    """Cut everything to a quarter, and bring the originals back."""
    counter = Counter.of(tokenizer)
    log = [{"role": "user", "content": ASK}, {"role": "tool", "tool_call_id": LOG, "content": build_log()}]
    talks: list[Sequence[Any]] = [log, conversation()]
    chance = [text for talk in talks for _, text in _results(compress_messages(talk, use=CONTROL, tokenizer=counter))]
    with TemporaryDirectory() as folder:
        store = Originals(Path(folder) / "originals.sqlite")
        start = time.perf_counter()
        found = [compress_messages(talk, use=QUARTER, tokenizer=counter, originals=store) for talk in talks]
        seconds = time.perf_counter() - start
        texts = [text for talk in talks for text in _texts(talk)]
        results = [result for messages in found for result in _results(messages)]
        cuts = tuple(map(_cut, texts, results, chance))
        keys = [change.key for change, _ in results]
        back = [None if key is None else store.get(key) for key in keys]
        mark, first, last = _gap(cuts[2].left)
        call = {"id": keys[2], "first_line": first, "last_line": last}
        answer = retrieve.answer(store, call)
        store.close()
    return Door(cuts, seconds, mark, call, answer, back == texts)


def _gap(left: str) -> tuple[str, int, int]:
    """A mark that stands for a few lines, with the first and the last of them."""
    gaps = [(m[0].strip(), int(m[1]), int(m[2])) for m in re.finditer(r"^.*\blines (\d+)–(\d+).*$", left, re.MULTILINE)]
    return min(gaps, key=lambda gap: abs(gap[2] - gap[1] - MANY))


def _texts(talk: Sequence[Any]) -> list[str]:
    return [message["content"] for message in talk if message["role"] == "tool"]


def _results(found: Any) -> list[tuple[Any, str]]:
    return list(zip(found.changes, _texts(found.messages), strict=True))


def _cut(text: str, result: tuple[Any, str], chance: str) -> Cut:
    change, left = result
    name = change.tool or LOG
    begins, ends = NEEDLES[name]
    low = text.index(begins)
    high = text.index(ends, low) + len(ends)
    needle = text[low:high].removesuffix("\n")
    first = text.count("\n", 0, low) + 1
    mark = next(line.strip() for line in left.splitlines() if change.key in line)
    return Cut(
        name, kind_of(text).name(), change.tokens_in, change.tokens_out, change.seconds, needle,
        (first, first + needle.count("\n")), needle in left, needle in chance, mark, left,
    )  # fmt: skip
