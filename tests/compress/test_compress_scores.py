"""What the methods score: BM25, embeddings, self-information, chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.compress.compress_rows import batch, row
from tests.compress.test_shorten import Words
from tokenry.compress.dense_relevance import ELSEWHERE, DenseRelevance
from tokenry.compress.kept.text import text_of
from tokenry.compress.lexical_relevance import LexicalRelevance
from tokenry.compress.parts.kind import Word
from tokenry.compress.random import RandomUnits
from tokenry.compress.scores import information as reading
from tokenry.compress.scores import vectors
from tokenry.compress.scores.information import information
from tokenry.compress.scores.scorer import spread
from tokenry.compress.self_information import SelfInformation
from tokenry.compress.units.document import documents
from tokenry.compress.units.page import TextPage
from tokenry.core.errors import InvalidValue
from tokenry.data import questions, read
from tokenry.models.files.load import LanguageModel, load_encoder
from tokenry.models.files.tiny import tiny

TEXT = (
    "Honey keeps for years in a closed jar. The car would not start because its battery was flat. "
    "A baker gets up before dawn. Our physician advised more sleep. The king moved his capital to the coast."
)
encoded = pytest.mark.usefixtures("minilm")


def best(method, text: str, ask: str) -> str:
    ranking = method.rank(batch(text), ask)
    return ranking.documents[0].texts[int(ranking.scores[0].argmax())]


def test_bm25_ranks_the_sentence_with_the_words_first():
    assert best(LexicalRelevance(), TEXT, "Which batteries were flat?").startswith("The car")
    assert best(LexicalRelevance(), TEXT, "when do bakers get up").startswith("A baker")
    assert best(LexicalRelevance(units="word"), TEXT, "battery") == "battery"


def test_bm25_equals_its_formula():
    text = "Red apple. Red red pear tree. Blue sea."
    method = LexicalRelevance(k1=1.2, b=0.6, beside=0.0)
    scores = method.rank(batch(text), "red pear").scores[0]
    idf = {"red": np.log(1 + 1.5 / 2.5), "pear": np.log(1 + 2.5 / 1.5)}
    norm = [1.2 * (0.4 + 0.6 * n / (8 / 3)) for n in (2, 4, 2)]
    expected = [idf["red"] * 1 / (1 + norm[0]), idf["red"] * 2 / (2 + norm[1]) + idf["pear"] / (1 + norm[1]), 0.0]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)


def test_bm25_without_a_common_word_keeps_the_beginning():
    out = LexicalRelevance(budget=0.5).compress(batch(TEXT), "zebra xylophone?")
    assert text_of(out).startswith(TEXT[: TEXT.index(" A baker")])
    assert text_of(LexicalRelevance(budget=3).compress(batch("... !!! ???"), "the")) == "..."


@pytest.mark.claim
def test_bm25_keeps_the_evidence_of_half_the_questions():
    """At a quarter of the tokens, of which chance keeps about a quarter."""
    asked = [q for q in questions() if q.document in ("sotu_1930", "sotu_1975")]
    texts = {name: batch(read(name)) for name in {q.document for q in asked}}

    def held(method):
        return sum(q.evidence in text_of(method.compress(texts[q.document], q.ask)) for q in asked)

    assert held(LexicalRelevance(budget=0.25)) >= 0.5 * len(asked) > held(RandomUnits(budget=0.25))


@encoded
@pytest.mark.parametrize(
    ("ask", "start"),
    [("Why did the vehicle fail?", "The car"), ("What did the doctor recommend?", "Our physician"),
     ("When does a bread maker rise?", "A baker")],
)  # fmt: skip
def test_embeddings_rank_a_paraphrase_first(ask, start):
    assert best(DenseRelevance(), TEXT, ask).startswith(start)
    kept = text_of(DenseRelevance(units="word", budget=0.3).compress(batch(TEXT), ask))
    assert TEXT[TEXT.index(start) :].split()[1] in kept.split()


@encoded
def test_embeddings_equal_a_plain_mean_pool():
    encoder = load_encoder("minilm", device="cpu", dtype="float32")
    ask = "Why did the vehicle fail?"
    ranking = DenseRelevance().rank(batch(TEXT), ask)
    expected = []
    for text in (ask, *ranking.documents[0].texts):
        with torch.no_grad():
            hidden = encoder.model(**encoder.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(hidden.mean(0), dim=0))
    near = torch.stack(expected[1:]) @ expected[0]
    # Chance takes the same away from all.
    torch.testing.assert_close(ranking.scores[0] - ranking.scores[0].mean(), near - near.mean(), atol=0.02, rtol=0)


@encoded
def test_embeddings_do_not_fill_a_budget_with_what_chance_explains():
    other = " ".join(ELSEWHERE)
    found = DenseRelevance(budget=0.9).shorten(f"{other} The car broke down. {other}", Words(), "Why did the car fail?")
    assert "The car broke down." in found.text
    assert found.tokens_out < 0.4 * found.tokens_in
    full = DenseRelevance(budget=0.9, fill=True).shorten(f"{other} Honey.", Words(), "Why did the car fail?")
    assert full.tokens_out > 0.7 * full.tokens_in
    nothing = DenseRelevance(budget=0.1).shorten(other, Words(), "Which vaccine was given to the child?")
    assert nothing.tokens_out <= 0.1 * nothing.tokens_in


@encoded
def test_embeddings_read_what_comes_again_once(monkeypatch):
    real = vectors._read
    method, read = DenseRelevance(units="lines"), []
    monkeypatch.setattr(vectors, "_read", lambda encoder, ids: read.extend(ids) or real(encoder, ids))
    text = "The car broke down.\nHoney is sweet.\n" * 20
    scores = method.scores(TextPage(text, method.units.cut(text)), "cars", None)
    assert len(scores) == 40
    assert len(set(scores.tolist())) == 2
    assert len(read) <= 3 + len(ELSEWHERE)


@encoded
def test_embeddings_read_long_sentences_in_windows():
    long = "word " * 3000
    scores = DenseRelevance().rank(batch(long + "\n\nHoney is sweet."), "What is sweet?").scores[0]
    assert bool(scores.isfinite().all())
    assert int(scores.argmax()) == len(scores) - 1
    whole = DenseRelevance(units="word").rank(batch("x" * 4000 + " honey 🎉"), "honey")
    assert whole.documents[0].texts[int(whole.scores[0].argmax())] == "honey"


@pytest.fixture(scope="module")
def model():
    return LanguageModel(tiny("llama"), cast(Any, None), "tiny", 512)


def direct(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    """-log p of every token in one plain forward after the beginning mark."""
    with torch.no_grad():
        logits = model.model(torch.cat((torch.tensor([1]), ids))[None]).logits[0]
    return -logits[:-1].log_softmax(-1)[torch.arange(len(ids)), ids]


def some_ids(n: int) -> torch.Tensor:
    return torch.randint(3, 128, (n,), generator=torch.Generator().manual_seed(n))


def test_information_equals_a_plain_forward(model):
    for n in (1, 2, 63, 200):
        ids = some_ids(n)
        torch.testing.assert_close(
            information(model, ids, window=256, stride=128), direct(model, ids), atol=1e-5, rtol=1e-4
        )


def test_information_in_chunks_and_windows(model, monkeypatch):
    ids = some_ids(100)
    whole = information(model, ids, window=256, stride=128)
    monkeypatch.setattr(reading, "CHUNK", 7)
    torch.testing.assert_close(information(model, ids, window=256, stride=128), whole, atol=1e-5, rtol=1e-4)
    parts = information(model, ids, window=41, stride=30)
    torch.testing.assert_close(parts[:40], whole[:40], atol=1e-5, rtol=1e-4)
    for start, fresh, end in ((30, 40, 70), (60, 70, 100)):
        window = direct(model, ids[start:end])[fresh - start :]
        torch.testing.assert_close(parts[fresh:end], window, atol=1e-5, rtol=1e-4)


def test_information_without_a_beginning_mark(model):
    bare = tiny("llama", bos_token_id=None)
    ids = some_ids(9)
    values = information(LanguageModel(bare, cast(Any, None), "bare", 512), ids, window=64, stride=32)
    assert values[0] == pytest.approx(np.log(128))
    with torch.no_grad():
        logits = bare(ids[None]).logits[0]
    expected = -logits[:-1].log_softmax(-1)[torch.arange(8), ids[1:]]
    torch.testing.assert_close(values[1:], expected, atol=1e-5, rtol=1e-4)


def test_self_information_is_the_mean_over_units(model):
    tokens = batch(row(("template", "<user>"), "One two three. Four five.", ("question", "?")))
    for unit in ("token", "word", "sentence"):
        ranking = SelfInformation(units=unit).rank(tokens, model=model)
        document = ranking.documents[0]
        values = direct(model, document.ids)
        of = torch.from_numpy(document.units.of)
        expected = torch.stack([values[of == u].mean() for u in range(len(document.units))])
        torch.testing.assert_close(ranking.scores[0], expected, atol=1e-5, rtol=1e-4)


def test_self_information_needs_a_model(model):
    with pytest.raises(InvalidValue, match="scorer must be named where no model answers"):
        SelfInformation().compress(batch("a b c"))
    with pytest.raises(InvalidValue, match="stride must be below window=64"):
        SelfInformation(window=64, stride=64)


def test_spreading_conserves_information():
    document = documents(batch("One two  three."), Word(), "test")[0]
    values = torch.tensor([1.0, 2.0, 4.0])
    spans = np.array([[0, 5], [5, 9], [9, 15]])
    shared = spread(values, spans, document)
    assert float(shared.sum()) == pytest.approx(7.0)
    assert float(shared[0]) == pytest.approx(0.6)


@pytest.mark.slow
def test_another_tokenizer_measures_nearly_the_same(smollm2):
    from tokenry.models.text.document import Document
    from tokenry.models.text.prompt import plain

    text = read("sotu_1975")[:1500]
    tokens = plain(smollm2.tokenizer, [Document(text)])
    ours = SelfInformation(units="word").rank(tokens, model=smollm2)
    document = ours.documents[0]
    through = SelfInformation(units="word").score(replace(document, ids=None), None, smollm2)
    torch.testing.assert_close(through, ours.scores[0], atol=0.2, rtol=0.05)


def test_random_depends_on_text_number_and_seed_only():
    scores = [RandomUnits(seed=s).rank(batch(TEXT)).scores[0] for s in (0, 0, 1)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert 0 <= float(scores[0].min()) <= float(scores[0].max()) < 1
    many = RandomUnits(units="token").rank(batch("a " * 2000)).scores[0]
    assert float(many.mean()) == pytest.approx(0.5, abs=0.03)
