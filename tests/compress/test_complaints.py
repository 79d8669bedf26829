"""What users of compressors complain about most, as tests: dropped without a word, torn, skipped, mixed up."""

from __future__ import annotations

import re

import pytest

from tests.compress.code_samples import CODE
from tests.compress.test_shorten import TEXTS, Words
from tokenry import compress_messages
from tokenry.core.registry import parse

LISTING = "total 96\n" + "".join(
    f"-rw-r--r--  1 root root {size:6d} Nov {day:2d} 16:{day:02d} {name}.py\n"
    for day, (name, size) in enumerate(zip("abcdefghijklmnopqrst", range(900, 60_000, 2900), strict=False), 1)
)
FOUND = "".join(f"src/{n % 4}.py:{7 * n}:    value = take({n})\n" for n in range(60))
_RANGE = re.compile(r"(lines?|rows?) (\d+)(?:–(\d+))?")


def marked(text, unit):
    """The numbers that marks name."""
    found = set()
    for what, first, last in _RANGE.findall(text):
        if what.removesuffix("s") == unit:
            found |= set(range(int(first), int(last or first) + 1))
    return found


def calls(*results):
    """A question and tools that were called for it."""
    messages = [{"role": "user", "content": "What became of worker w2?"}]
    for i, result in enumerate(results):
        call = {"id": f"c{i}", "type": "function", "function": {"name": "fetch", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{i}", "content": result})
    return messages


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", ["log", "lines", "csv", "tsv", "python", "listing", "grep"])
def test_no_line_is_left_out_without_a_mark_that_counts_it(name, share):
    text = {"listing": LISTING, "grep": FOUND, "python": CODE["python"]}.get(name) or TEXTS[name]
    text = text.replace("b\nc", "b c")
    found = parse(f"compress/random:budget={share},units=auto").shorten(text, Words())
    unit, header = ("row", 1) if name in ("csv", "tsv") else ("line", 0)
    said = marked(found.text, unit)
    kept = {line.strip() for line in found.text.split("\n")}
    missing = {i for i, line in enumerate(text.split("\n")[header:], 1) if line.strip() and line.strip() not in kept}
    assert missing <= said or found.text.startswith("[all left out")


@pytest.mark.parametrize("text", [LISTING, FOUND])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_lines_of_a_listing_are_whole_or_gone(text, share):
    found = parse(f"lexical_relevance:budget={share},units=auto").shorten(text, Words(), "How large is m.py, take(12)?")
    lines = set(text.split("\n"))
    assert all(line in lines or _RANGE.search(line) for line in found.text.split("\n"))


def test_a_short_answer_of_a_tool_is_not_touched():
    messages = calls(LISTING, FOUND)
    assert compress_messages(messages, tokenizer=Words()).messages == messages


@pytest.mark.parametrize("odd", ["", None, [{"type": "image_url", "image_url": {"url": "data:"}}], 7, "\ud800" * 9])
def test_one_odd_part_does_not_keep_the_others_from_being_shortened(odd):
    done = compress_messages(calls(TEXTS["log"], odd, TEXTS["lines"]), tokenizer=Words(), floor=10)
    assert done.messages[4]["content"] == odd
    assert [c.why == "" for c in done.changes if c.tokens_in > 20] == [True, True]


def test_conversations_know_nothing_of_each_other():
    use, log = parse("lexical_relevance:budget=0.2,units=auto"), TEXTS["log"]
    asks = ("Which step was 13?", "Which step was 31?", "What broke?")
    alone = [use.shorten(log, Words(), ask).text for ask in asks]
    assert len(set(alone)) > 1
    for i in (2, 0, 1, 0, 2, 1):
        assert use.shorten(log, Words(), asks[i]).text == alone[i]
