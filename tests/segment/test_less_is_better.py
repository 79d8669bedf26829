"""A lexicon that is learnt online: longest matches, comparison of readings, remembering and forgetting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.growth import growth
from tokenry import LessIsBetter
from tokenry.core.errors import InvalidValue, StorageError, UnknownModel
from tokenry.data import read
from tokenry.segment.lexicon.chunks import Chunks
from tokenry.segment.lexicon.learner import SENTENCE, Learner

TEXT = read("sotu_1975")


def brute(chunks, text):
    """Greedy longest matches by trying every length."""
    found = []
    while text:
        size = next((n for n in range(len(text), 0, -1) if text[:n] in chunks), 1)
        found.append(text[:size])
        text = text[size:]
    return found


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.text("abc ", min_size=1, max_size=5), max_size=12), st.text("abc d", max_size=30))
def test_longest_matches(chunks, text):
    made = Chunks((c, i) for i, c in enumerate(chunks))
    found, at = [], 0
    while at < len(text):
        end = max(made.longest(text, at)[0], at + 1)
        found.append(text[at:end])
        at = end
    assert found == brute(set(chunks), text)
    sizes = sorted({n for n in range(1, len(text) + 1) if text[:n] in chunks}, reverse=True)
    assert made.two(text, 0) == tuple([*sizes, 0, 0][:2])
    assert "".join(text[a:b] for a, b, _ in made.readings(text, 48)) == text


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.text("abc", min_size=1, max_size=4), unique=True, max_size=12), st.data())
def test_what_is_removed_was_never_there(chunks, data):
    gone = data.draw(st.sets(st.sampled_from(chunks))) if chunks else set()
    made = Chunks((c, 0) for c in chunks)
    for chunk in gone:
        made.remove(chunk)
    assert made.root == Chunks((c, 0) for c in chunks if c not in gone).root


def test_a_text_is_cut_as_by_hand():
    lexicon = [" ", "a", "the", "the c", "at", "cat", "c"]
    made = Chunks((c, i) for i, c in enumerate(lexicon))
    assert brute(set(lexicon), "the cat") == ["the c", "at"]
    assert [(a, b) for a, b, _ in made.readings("the cat", 48)] == [(0, 5), (5, 7)]
    # Two chunks against three: the second longest wins at the first place.
    made = Chunks((c, i) for i, c in enumerate(["ab", "abc", "cd", "d", "c", "e", "cde"]))
    assert [(a, b) for a, b, _ in made.readings("abcde", 48)] == [(0, 2), (2, 5)]


@pytest.mark.parametrize("compare", [False, True])
def test_tokens_spell_the_text(compare):
    tokenizer = LessIsBetter(compare=compare)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT.encode()
    pieces = [tokenizer.vocabulary[i] for i in tokenizer.encode(TEXT).ids.tolist()]
    assert b"".join(pieces) == TEXT.encode()
    if not compare:
        chunks = {p.decode() for i, p in enumerate(tokenizer.vocabulary) if i > 256}
        assert brute(chunks, TEXT[:2000].strip()) == [p.decode() for p in _greedy(tokenizer, TEXT[:2000].strip())]


def _greedy(tokenizer, text):
    return [text.encode()[a:b] for a, b in tokenizer.encode(text).spans[:, :2].tolist()]


def test_a_chunk_opens_into_its_parts():
    tokenizer = LessIsBetter()
    long = max(range(257, tokenizer.vocab_size), key=lambda i: len(tokenizer.vocabulary[i]))
    parts = tokenizer.parts(long)
    assert len(parts) > 1
    assert tokenizer.decode(parts) == tokenizer.vocabulary[long]
    assert tokenizer.parts(65) == [65]
    assert tokenizer.parts(256) == [256]


def test_nothing_is_remembered_nor_forgotten():
    learner = Learner()
    learner.read(TEXT)
    known = set(learner.rank)
    learner._trials.clear()
    learner.remember = learner.forget = 0.0
    learner.read(TEXT)
    assert set(learner.rank) == known


def test_learning_goes_on():
    whole, pieces = Learner(article=5), Learner(article=5)
    sentences = [s + ". " for s in TEXT.split(". ")]
    whole.read("".join(sentences))
    for sentence in sentences:
        pieces.read(sentence)
    assert whole.known(10**6) == pieces.known(10**6)
    assert whole.known(10**6) != _read(1, TEXT, article=5).known(10**6)


def _read(seed, text, **rates):
    learner = Learner(seed=seed, **rates)
    learner.read(text)
    return learner


def test_what_is_not_used_goes():
    learner = Learner(article=10)
    learner.read("quixotic zebras jump. " * 40)
    learner.forget = 0.1
    before = {c for c in learner.rank if len(c) > 3}
    assert before
    learner.read("An other text altogether. " * 2000)
    assert {c for c in before & set(learner.rank) if "q" in c or "z" in c} < before


def test_expressions_of_several_words_are_learnt():
    assert any(" " in c.strip() for c in _read(0, TEXT).known(2000))


def test_rates_that_are_none():
    with pytest.raises(InvalidValue, match=r"must be in \[0, 1\]"):
        Learner(remember=2)
    with pytest.raises(InvalidValue, match="must be at least 1"):
        Learner(longest=0)


def test_a_file_that_is_no_lexicon(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        '{"model": {}, "added_tokens": [{"id": 3, "content": "a", "special": false}]}'
    )
    with pytest.raises(StorageError, match="must hold a lexicon"):
        LessIsBetter(source=str(tmp_path)).encode("a")
    with pytest.raises(StorageError):
        LessIsBetter(source="sample-unigram").encode("a")
    with pytest.raises(UnknownModel):
        LessIsBetter(source=str(tmp_path / "gone")).encode("a")


@pytest.mark.parametrize("piece", ["a", "!", ".", "? ", "\n", " ", "a. "])
def test_sentences_are_found_in_time_that_grows_with_the_text(piece):
    def read(count):
        assert sum(len(found[0]) for found in SENTENCE.finditer((piece * count)[:count])) == count

    assert growth(read, 80_000, 16) < 5


@pytest.mark.parametrize("piece", ["a", "the ", "of the ", "^", "中", "\0", "!"])
@pytest.mark.parametrize("compare", [False, True])
def test_time_grows_with_the_length(piece, compare):
    assert growth(lambda n: LessIsBetter(compare=compare).encode((piece * n)[:n]), 80_000) < 4


@pytest.mark.parametrize("piece", ["a", "the ", "of the ", "^", "中", "\0", "!"])
def test_learning_takes_time_that_grows_with_the_length(piece):
    assert growth(lambda n: Learner().read((piece * n)[:n]), 32_000) < 4
