"""Needle Threading: find pairs in a dictionary, and follow threads whose every value is the next key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, counts, natural, numbers, positive, setting
from tokenry.measure.base import Benchmark, Numbers, Sample
from tokenry.measure.tasks import threads as weave
from tokenry.measure.tasks.haystack import MARK, Keys, Pair, Value, decoys, put, write
from tokenry.measure.tasks.quoted import quoted, said

if TYPE_CHECKING:
    from tokenry.measure.reporting.results import Results

MOST = 10_000
"""Needles, hops or threads of one task."""

GRIDS = {
    "single": ("characters", "depths"),
    "multiple": ("characters", "needles"),
    "conditional": ("characters", "needles"),
    "threading": ("characters", "hops"),
    "multi_threading": ("characters", "threads", "hops"),
    "branched": ("characters", "hops"),
}
"""For each task the fields whose values make its grid."""

ASKS = {
    "single": "Extract the value that belongs to this key in the JSON object above. Key: {}",
    "multiple": "Extract the values that belong to these keys in the JSON object above, in this order. Keys: {}",
    "conditional": 'Extract all values whose key holds the character "{mark}" in the JSON object above.',
    "threading": "The value of this key in the JSON object above is again a key, and so is the value after it, until "
    "a value is no key. Extract the last value of this chain. Key: {}",
    "multi_threading": "The value of each of these keys in the JSON object above is again a key, and so is the value "
    "after it, until a value is no key. Extract the last value of each chain, in this order. Keys: {}",
    "branched": "Values in the JSON object above may be keys again. Where a value is a list, only some of it is. Start "
    "from this key and extract the last value of the longest chain. Key: {}",
    "path": "The value of this key in the JSON object above is again a key, and so is the value after it, until a "
    "value is no key. Extract the pairs of this chain, in order. Key: {}",
}


@dataclass(frozen=True, kw_only=True)
class NeedleThreading(Benchmark):
    """Ask for values in dictionaries of random pairs, one hop away or many.

    What it does
        A haystack is a JSON dictionary of unique random keys and values, as long as asked for in characters. Tasks:
        `single` needle at a depth; `multiple` needles, anywhere or side by side; `conditional` needles, all whose key
        holds the character `*`; `threading`, from a key over values that are keys to the end, with pairs in any
        order, ever later (`forward`) or ever earlier (`backward`); `multi_threading`, several at once; `branched`,
        where a value is a list of which one goes on.
        Score of one item: 1 when the answer holds this item and no other. Of several: right items at their place over
        the larger of asked and said items; for `conditional` the place does not matter.
    Where it acts
        On any pipeline or model, as text, or by the probability of the right value among `candidates` others.
    Shapes
        samples -> Sample of one text, one question and its answers; score -> `right` and `exact`, both in [0, 1], and
        with `path` also `hop 1`, `hop 2` and so on.
    Guarantees
        The same seed gives the same bytes. Keys are unique, and no value is a key unless it leads on. The text is at
        most as long as asked for and less than one pair shorter. `solve` answers everything from text and question.
    Raises
        InvalidValue: more needles than characters, more short keys than there are, or a value out of range.
    Deviations
        Questions are in words of our own. Short keys are offered beside UUIDs, whose twenty tokens small models fail
        to copy. `path` asks for the whole thread instead of its last value.
    Relations
        `token_select` and other choices of cached tokens are compared on it: every hop needs another pair, which
        nothing that chose once, before the first hop, can know.
    """

    card = Card(
        title="Needle Threading: Can LLMs Follow Threads through Near-Million-Scale Haystacks?",
        year=2024,
        url="https://arxiv.org/abs/2411.05000",
        summary="tasks that follow threads of keys and values through a dictionary of random pairs",
        trial={"characters": "400+700", "keys": "short", "hops": "1+2", "repeats": 2},
        claims=(
            "with 64 cached rows SmolLM2-135M finds many more values of a thread where rows are chosen at every step "
            "than where they are chosen once, and the gap grows from hop to hop",
        ),
        deviations=(
            "questions in words of our own; the answer is asked for without a fixed format and parsed as JSON or by "
            "quotation marks",
            "a released example compares only the beginning of the answer; here an answer must hold the items and no "
            "others",
            "of a branched thread no data is published; here one value of each list goes on and the others end there",
            "short keys, candidates and whole threads as answers are additions",
        ),
    )

    task: str = choice(
        "single", "multiple", "conditional", "threading", "multi_threading", "branched", default="threading",
        doc="what is asked, as above",
    )  # fmt: skip
    characters: tuple[int, ...] = counts(1, 1 << 26, default=(2000, 4000, 8000), doc="lengths of the dictionary")
    keys: str = choice("uuid", "short", default="uuid", doc="uuid, or short for words of one token")
    depths: tuple[float, ...] = numbers(
        0, 1, default=(0.0, 0.25, 0.5, 0.75, 1.0), doc="places of a single needle, from 0 to 1"
    )
    needles: tuple[int, ...] = counts(1, MOST, default=(1, 2, 5, 10), doc="pairs asked for, where there are several")
    placing: str = choice("random", "clustered", default="random", doc="of several needles: random or clustered")
    hops: tuple[int, ...] = counts(1, MOST, default=(2, 3, 5, 10), doc="pairs of a thread")
    threads: tuple[int, ...] = counts(1, MOST, default=(2, 5), doc="threads at once")
    direction: str = choice(
        "forward", "backward", "random", default="random", doc="of threads: forward, backward or random"
    )
    branches: int = positive(2, doc="values of a list in a branched thread")
    path: bool = setting(False, doc="ask for all pairs of a thread instead of its last value")
    repeats: int = positive(5, doc="tasks with the same settings and other keys")
    candidates: int = natural(9, doc="wrong items beside a right one, where a model chooses")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path and self.task != "threading":
            raise InvalidValue(
                f"NeedleThreading: path must go with task=threading; got task={self.task}; leave it out."
            )

    @property
    def axes(self) -> tuple[str, ...]:
        return ("characters", *(_FACT.get(name, name) for name in reversed(GRIDS[self.task][1:])))

    def samples(self, *, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        """All settings once in random order, then all again, `repeats` times."""
        names = GRIDS[self.task]
        made = 0
        for repeat in range(self.repeats):
            cells = list(product(*(getattr(self, name) for name in names)))
            Random(f"{seed} {repeat}").shuffle(cells)
            for cell in cells:
                if made == limit:
                    return
                made += 1
                yield self._make(dict(zip(names, cell, strict=True)), seed, repeat)

    def score(self, sample: Sample, answer: str) -> Numbers:
        asked = set(quoted(sample.ask))
        items = [item for item in said(answer) if item not in asked]
        hits = [float(i < len(items) and items[i] == right) for i, right in enumerate(sample.answers)]
        right = sum(hits)
        if self.task == "conditional":
            right = float(len(set(items) & set(sample.answers)))
        share = right / max(len(items), len(sample.answers))
        found = {"right": share if len(sample.answers) > 1 else float(share == 1), "exact": float(share == 1)}
        return found | ({f"hop {i + 1}": hit for i, hit in enumerate(hits)} if self.path else {})

    def total(self, results: Results) -> Numbers:
        """The effective length in characters for each depth, number of hops or of needles."""
        fact = self.axes[1]
        return {f"effective length, {fact} {v:g}": results.effective_length(**{fact: v}) for v in results.values(fact)}

    def solve(self, sample: Sample) -> str:
        """The right answer, from the text and the question alone."""
        pairs: dict[str, Value] = json.loads(sample.text)
        if self.task == "conditional":
            return json.dumps([value for key, value in pairs.items() if MARK in key])
        ways = [weave.follow(pairs, key) for key in quoted(sample.ask)]
        return json.dumps(ways[0] if self.path else [way[-1] for way in ways])

    def _make(self, cell: Mapping[str, Any], seed: int, repeat: int) -> Sample:
        settings = " ".join(f"{name}={value}" for name, value in cell.items())
        random = Random(f"{seed} {repeat} {self.task} {self.keys} {self.placing} {self.direction} {settings}")
        keys = Keys(random, self.keys, cell["characters"])
        pairs, asked, answers = self._needles(keys, cell)
        others = decoys(keys, pairs, cell["characters"])
        places = self._places(random, cell, len(pairs), len(others))
        haystack = put(pairs, places, others)
        if self.task == "conditional":
            answers = [str(value) for key, value in haystack.items() if MARK in key]
        ask = ASKS["path" if self.path else self.task]
        inside = [v for _, value in pairs for v in ([value] if isinstance(value, str) else value)]
        return Sample(
            id=f"{self.task} {settings} #{repeat}",
            text=write(haystack),
            ask=ask.format(", ".join(f'"{key}"' for key in asked), mark=MARK),
            answers=tuple(answers),
            candidates=self._candidates(random, answers, inside, others),
            wording=self._wording(asked, answers),
            facts={
                **{_FACT.get(name, name): value for name, value in cell.items()},
                "length": len(write(haystack)), "pairs": len(haystack), "places": places,
            },
        )  # fmt: skip

    def _needles(self, keys: Keys, cell: Mapping[str, Any]) -> tuple[list[Pair], list[str], list[str]]:
        """The pairs that matter, the keys to name in the question, and the answers."""
        if "hops" in cell:
            branches = self.branches if self.task == "branched" else 1
            pairs, starts = weave.spin(keys, cell.get("threads", 1), cell["hops"], branches)
            ways = [weave.follow(dict(pairs), start) for start in starts]
            return pairs, starts, ways[0] if self.path else [way[-1] for way in ways]
        if self.task == "conditional":
            return [(keys.marked(), keys.new()) for _ in range(cell["needles"])], [], []
        named = [(keys.new(), keys.new()) for _ in range(cell.get("needles", 1))]
        return list(named), [key for key, _ in named], [value for _, value in named]

    def _places(self, random: Random, cell: Mapping[str, Any], needles: int, others: int) -> list[int]:
        pairs = needles + others
        if "depths" in cell:
            return [round(cell["depths"] * (pairs - 1))]
        if "hops" in cell:
            return weave.along(random, cell.get("threads", 1), cell["hops"], pairs, self.direction)
        return weave.spread(random, needles, pairs, self.placing)

    def _candidates(
        self, random: Random, answers: Sequence[str], inside: Sequence[str], others: Sequence[Pair]
    ) -> tuple[str, ...]:
        """Right items of other places, then values along the way, then values that lead nowhere."""
        if not self.candidates:
            return ()
        near = list(dict.fromkeys((*answers, *inside)))[: max(len(answers), self.candidates + 1)]
        far = [str(value) for _, value in others]
        return (*near, *random.sample(far, min(len(far), max(0, self.candidates + 1 - len(near)))))

    def _wording(self, asked: Sequence[str], answers: Sequence[str]) -> tuple[str, ...]:
        """Pairs are written as they stand in the dictionary, ends of threads as a list."""
        if self.task in ("single", "multiple") or self.path:
            keys = [asked[0], *answers[:-1]] if self.path else asked
            marks = [f'"{key}": "' for key in keys]
            return ("{" + marks[0], *(f'", {mark}' for mark in marks[1:]), '"}')
        return ('["', *['", "'] * (len(answers) - 1), '"]')


_FACT = {"depths": "depth"}
