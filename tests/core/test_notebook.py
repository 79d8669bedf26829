"""What notebooks show: everything that came from outside is text in it, and there is never too much."""

from __future__ import annotations

from html.parser import HTMLParser

import torch

from tests.compress.compress_rows import batch
from tests.pipeline.test_messages import call, result
from tokenry import compress_messages
from tokenry.core.notebook import MOST_ROWS, MOST_TOKENS
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.core.tokens import TokenBatch

EVIL = "<script>alert('x')</script><img src=x onerror=y> & \"q\" "


class Seen(HTMLParser):
    """Elements and texts of a page, all of whose elements end."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.said, self._open = set(), [], []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self):
        return "".join(self.said)


def test_tokens_of_texts():
    whole = batch(EVIL + "Ada spoke. " * 200)
    page = whole._repr_html_()
    seen = Seen(page)
    assert seen.tags <= {"p", "pre", "span"}
    assert "<script>alert('x')</script>" in seen.text
    assert page.count("<span") == MOST_TOKENS
    assert len(page) < 40_000
    few = whole.take(torch.tensor([[0, 3]]))
    assert "2 of" in Seen(few._repr_html_()).text


def test_many_rows_and_tokens_without_texts():
    ids = torch.arange(60).view(10, 6)
    seen = Seen(TokenBatch.from_ids(ids)._repr_html_())
    assert seen.text.count("6 tokens") == MOST_ROWS
    assert "⟨5⟩" in seen.text
    nothing = torch.zeros(2, 6, dtype=torch.long)
    soft = TokenSequence(
        ids=torch.full((2,), -1), source=torch.full((2,), -1), spans=nothing, sources=(),
        protected=torch.tensor([True, False]), modality=torch.full((2,), int(Modality.SOFT)),
    )  # fmt: skip
    page = soft._repr_html_()
    assert Seen(page).text == "2 tokens⟨soft⟩⟨soft⟩"
    assert page.count("underline") == 1


def test_messages():
    talk = [{"role": "user", "content": "a?"}]
    for i in range(150):
        talk += [call("chat", f"c{i}", EVIL, {}), result("chat", f"c{i}", "short")]
    seen = Seen(compress_messages(talk)._repr_html_())
    assert seen.tags == {"p", "table", "tr", "th", "td"}
    assert seen.said.count(EVIL) == 100
    assert "… and 50 more" in seen.text
