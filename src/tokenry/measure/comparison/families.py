"""What else is counted of a tokenizer than its information: words, languages, numbers, edits, bytes, hostile texts."""

from __future__ import annotations

import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from tokenry.measure.base import Measured, Numbers, Weights
from tokenry.measure.statistics.intervals import of_pooled
from tokenry.measure.statistics.stream import Codec, pieces_of, stream_of

HERE = Path(__file__).parent
WORD = re.compile(r"\w+")
EDITS = 20
"""Characters of a document that are changed, one at a time."""
WINDOW = 2000
"""Characters around a change that are encoded again."""
NUMBERS = 20
"""Numbers of each length."""
LONG = 50_000
"""Characters of the long texts that are timed, after a sixteenth and a quarter of them."""
SLOW = 0.5
"""Seconds after which no longer text is timed."""
HOSTILE = (
    "", " ", "\n", "\0a\0", " leading, trailing and  double   spaces  ", "tabs\t\t \t mixed \t",
    "CRLF\r\n\r\n\rlone\n\n\n", "Hello, world!  It's 3.14 o'clock; isn't IT'S 12345678?",
    "naïve café — “quotes” … ﬁ ™ № ℌ ｆｕｌｌ İstanbul ß ǅ", "combining: e\u0301 a\u030a\u0323 \u0301\u0301alone",
    "👨‍👩‍👧‍👦 🏳️‍🌈 🤷🏽‍♀️ 🇫🇮🇸🇪 1️⃣", "zero\u200bwidth\u200d\ufeff\u2060 soft\u00adhyphen nbsp\u00a0x",
    "\u202eright to left\u202c עברית العربية", "日本語、中文。한국어 ไทย", "\ufffd \uffff \U0010ffff \ue000 𝔘𝔫𝔦 𠮷",
    "".join(map(chr, range(0x20))) + "\x7f\x80\x9f", "".join(map(chr, range(0xA0, 0x250))),
    "▁ Ġ Ċ ##ing <0x41> <unk> [UNK] </s> <s> <|endoftext|>", "a" * 300, " " * 300,
    "\u0301" * 40 + "中" * 300 + "0" * 50,
)  # fmt: skip
"""Texts of all kinds of characters, in runs and beside each other."""
LONG_TEXTS = ("a", "^", " ", "中", "ab", "\u0301", "0")


@cache
def declaration() -> dict[str, list[str]]:
    """The first articles of the Universal Declaration of Human Rights in 16 languages, article by article."""
    found: dict[str, list[str]] = json.loads((HERE / "declaration.json").read_text(encoding="utf-8"))
    return found


def words(codec: Codec, texts: Sequence[str], draws: int) -> Measured:
    """Tokens for each word, and the share of words that are cut."""
    rows = []
    for text in texts:
        ends = set(accumulate(map(len, pieces_of(codec, text))))
        count = cut = inside = 0
        at = np.concatenate(([0], np.cumsum([len(c.encode("utf-8", "surrogatepass")) for c in text])))
        for word in WORD.finditer(text):
            begin, end = int(at[word.start()]), int(at[word.end()])
            inner = sum(b in ends for b in range(begin + 1, end))
            count, cut, inside = count + 1, cut + (inner > 0), inside + inner
        rows.append([count, cut, inside + count])
    table = np.array(rows, dtype=float)

    def numbers(weights: Weights) -> Numbers:
        total, split, pieces = weights @ table
        return {"fertility": _share(pieces, total), "words_cut": _share(split, total)}

    return _measured("fertility", numbers, len(texts), draws)


def fairness(codec: Codec, languages: Mapping[str, Sequence[str]], draws: int) -> Measured:
    """Tokens of the same passages in several languages: premium over the first one, and Gini of all."""
    names = list(languages)
    table = np.array([[len(stream_of(codec, text).ids) for text in languages[name]] for name in names], dtype=float)

    def numbers(weights: Weights) -> Numbers:
        totals = table @ weights
        premiums = {f"premium_{n}": _share(t, totals[0]) for n, t in zip(names[1:], totals[1:].tolist(), strict=True)}
        return {"gini": gini(totals), "largest_premium": max(premiums.values(), default=1.0), **premiums}

    return _measured("fairness", numbers, table.shape[1], draws)


def gini(values: np.ndarray) -> float:
    """How unevenly a total is shared out: 0 where all have the same."""
    total = float(values.sum())
    return float(np.abs(values[:, None] - values[None]).sum()) / (2 * len(values) * total) if total else float("nan")


def numerals(codec: Codec, seed: int = 0) -> Measured:
    """How numbers of 1 to 9 digits are cut: tokens a digit, boundaries where groups of three are, one way a length."""
    draw = random.Random(seed)
    tokens = digits = right = found = wanted = 0
    same = []
    for length in range(1, 10):
        ways: Counter[tuple[int, ...]] = Counter()
        for _ in range(NUMBERS):
            number = str(draw.randrange(10 ** (length - 1) if length > 1 else 0, 10**length))
            ends = _number_ends(codec, number)
            groups = set(range(length % 3 or 3, length, 3))
            tokens, digits = tokens + len(ends) + 1, digits + length
            right, found, wanted = right + len(ends & groups), found + len(ends), wanted + len(groups)
            ways[tuple(sorted(ends))] += 1
        same.append(ways.most_common(1)[0][1] / NUMBERS)
    return Measured(
        who="numbers", samples=9 * NUMBERS,
        values={
            "tokens_per_digit": tokens / digits, "triad_boundary_f1": _share(2 * right, found + wanted),
            "cut_alike": statistics.fmean(same),
        },
    )  # fmt: skip


def robustness(codec: Codec, texts: Sequence[str], draws: int, seed: int = 0) -> Measured:
    """How many tokens another character changes, and how many more tokens capital letters cost."""
    rows = []
    for i, text in enumerate(texts):
        draw = random.Random(f"{seed} {i}")
        changed = edits = 0
        for _ in range(EDITS if len(text) > 1 else 0):
            begin = max(0, draw.randrange(len(text)) - WINDOW // 2)
            part = text[begin : begin + WINDOW]
            at = draw.randrange(len(part))
            other = part[:at] + draw.choice("aehinorst") + part[at + 1 :]
            before, after = (stream_of(codec, t).ids.tolist() for t in (part, other))
            changed, edits = changed + _replaced(before, after), edits + 1
        head = text[:WINDOW]
        usual, capital = (len(stream_of(codec, t).ids) for t in (head, head.upper()))
        rows.append([changed, edits, capital, usual])
    table = np.array(rows, dtype=float)

    def numbers(weights: Weights) -> Numbers:
        changed, edits, capital, usual = weights @ table
        return {"tokens_per_edit": _share(changed, edits), "capitals_cost": _share(capital, usual)}

    return _measured("robustness", numbers, len(texts), draws)


def coverage(codec: Codec, texts: Sequence[str]) -> Measured:
    """Bytes without a piece, and texts of the corpus and of 16 languages that come back whole."""
    languages = [text for passages in declaration().values() for text in passages]
    return Measured(
        who="coverage", samples=len(texts),
        values={
            "missing_bytes": float(len(codec.vocabulary.missing_bytes)),
            "corpus_whole": statistics.fmean(_whole(codec, t) for t in texts),
            "languages_whole": statistics.fmean(_whole(codec, t) for t in languages),
        },
    )  # fmt: skip


def hostile(codec: Codec) -> Measured:
    """Hostile texts that come back whole, those that raise, and how time grows with long ones."""
    whole, refused = [], 0
    for text in HOSTILE:
        try:
            whole.append(_whole(codec, text))
        except Exception:
            refused += 1
            whole.append(0.0)
    growth = []
    for text in LONG_TEXTS:
        try:
            growth.append(_growth(codec, text))
        except Exception:
            refused += 1
    return Measured(
        who="hostile", samples=len(HOSTILE) + len(LONG_TEXTS),
        values={
            "hostile_whole": statistics.fmean(whole), "refused": float(refused),
            "slowest_growth": max(growth, default=float("nan")),
        },
    )  # fmt: skip


def _growth(codec: Codec, piece: str) -> float:
    """How many times as long four times a text takes: 4 where time grows with length, 16 with its square."""

    def seconds(size: int) -> float:
        """The shortest of a few times; others hold what else a process does."""
        text, found = (piece * size)[:size], []
        for _ in range(3):
            begin = time.process_time()
            codec.encode(text)
            found.append(time.process_time() - begin)
            if found[-1] > SLOW:
                break
        return min(found)

    seconds(10)
    times = [seconds(LONG // 16)]
    for size in (LONG // 4, LONG):
        times.append(seconds(size))
        if times[-1] > SLOW:
            break
    # What takes no time at all grows by chance.
    return max(times[-1], 5e-3) / max(times[-2], 1.25e-3)


def _number_ends(codec: Codec, number: str) -> set[int]:
    """The digits behind which a number is cut, as inside of a text."""
    before = "It is "
    ends = accumulate(map(len, pieces_of(codec, f"{before}{number} of")))
    return {end - len(before) for end in ends} & set(range(1, len(number)))


def _replaced(before: Sequence[int], after: Sequence[int]) -> int:
    """Tokens between what both begin and end with."""
    short = min(len(before), len(after))
    head = next((i for i in range(short) if before[i] != after[i]), short)
    tail = next((i for i in range(short - head) if before[-1 - i] != after[-1 - i]), short - head)
    return max(len(before), len(after)) - head - tail


def _whole(codec: Codec, text: str) -> float:
    """Whether the text comes back: by decoding where the tokenizer can, else by what its ids spell."""
    decode: Callable[..., bytes] | None = getattr(codec, "decode", None)
    if decode is None:
        return float(stream_of(codec, text).whole)
    return float(decode(codec.encode(text)) == text.encode("utf-8", "surrogatepass"))


def _measured(who: str, pooled: Callable[[Weights], Numbers], samples: int, draws: int) -> Measured:
    values = pooled(np.ones(samples))
    sure = of_pooled(pooled, values, samples, draws) if samples > 1 and draws else {}
    return Measured(who=who, samples=samples, values=values, intervals=sure)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
