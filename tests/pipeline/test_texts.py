"""A budget of text is a ceiling on the text itself, and tokens of documents are counted in one way."""

from __future__ import annotations

import json

import pytest

from tests.embed.embed_models import trained
from tokenry import Document, Pipeline
from tokenry.data import read
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.models.text.as_text import text_ids

LINES = "One line here.\r\nTwo lines there.\r\nThree of them.\r\n\r\nAnd a fourth, which is longer.\r\n"
TEXTS = {
    "crlf": [LINES],
    "several": [read("sotu_1975")[:500], read("moby_dick")[:400], LINES, read("sotu_1930")[:300]],
    "blank ends": ["  \n\nA first one.\n\n\n", "\tindented\n  more of it \n", "last"],
    "marks": ["He said <|im_end|> twice: <|im_end|>.", "No."],
    "emoji": ["🤷🏽‍♀️🤷🏽‍♀️ so it goes 🤷🏽‍♀️", "日本語のテキスト。"],
}
BUDGETS = (1, 2, 3, 5, 8, 13, 21, 34, 0.1, 0.33, 0.5, 0.9, 1.0)
METHODS = ("compress/random:units=word,budget=", "compress/random:units=token,budget=", "lexical_relevance:budget=")


@pytest.fixture(scope="module")
def tokenizer():
    return trained(" ".join(t for texts in TEXTS.values() for t in texts), 700)


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("method", METHODS)
def test_the_text_of_several_documents_is_never_longer_than_their_budget(tokenizer, texts, method):
    whole = len(text_ids(tokenizer, "\n\n".join(texts)))
    for budget in BUDGETS:
        short = Pipeline([f"{method}{budget}"]).shorten(texts, tokenizer, "line")
        goal = min(budget if isinstance(budget, int) else max(1, int(budget * whole + 0.5)), whole)
        assert short.tokens_in == whole
        assert short.tokens_out == len(text_ids(tokenizer, short.text)) <= goal
        if goal == whole:
            assert short.text == "\n\n".join(texts)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_it_is_as_near_to_it_as_words_come(tokenizer, share):
    """Marks of what is left out take tokens, which are given back to words in some rounds."""
    short = Pipeline([f"compress/random:units=word,budget={share}"]).shorten(TEXTS["several"], tokenizer)
    assert 0.8 * share <= short.tokens_out / short.tokens_in <= share + 0.01


def test_receipt_report_and_compress_count_alike(smollm2):
    """Protected tokens too; `compress` also counts the lines that it puts between documents."""
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    language = LanguageModel(model, smollm2.tokenizer, "tiny", 2048)
    texts = [t.strip() for t in TEXTS["several"][:3]]
    pipeline = Pipeline(["compress/random:budget=0.5,units=word"])
    trace = pipeline.generate([Document(t, protect=((0, 3),)) for t in texts], language, "Why?", max_new=1)
    step, painted = trace.receipt.steps[0], json.loads(json.dumps(trace.to_dict()))
    assert step.tokens_in == sum(len(d["tokens"]) for d in painted["documents"])
    assert step.tokens_out == sum(map(sum, painted["steps"][0]["kept"]))
    assert step.tokens_in == sum(pipeline.shorten(t, smollm2.tokenizer).tokens_in for t in texts)
