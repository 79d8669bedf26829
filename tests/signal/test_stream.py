"""Streams of ids: what is packed is unpacked, nothing else is, and a grammar keeps what is said whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry.core.errors import InvalidValue
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.signal.streams.grammar import StreamGrammar
from tokenry.signal.streams.new_rows import extended
from tokenry.signal.streams.stream import LARGEST, Segment, Stream
from tokenry.signal.streams.vocabulary import UnifiedVocabulary

SIZES = (("text", 50), ("control", 30), ("image", 8), ("audio", 12), ("video", 8))
NUMBERS = {"image": 2, "audio": 1, "video": 3}
STREAM = Stream(SIZES, NUMBERS)


@st.composite
def segments(draw):
    kind = draw(st.sampled_from(["text", "image", "audio", "video"]))
    ids = draw(st.lists(st.integers(0, dict(SIZES)[kind] - 1), max_size=6))
    size = draw(st.tuples(*[st.integers(0, LARGEST - 1)] * NUMBERS.get(kind, 0)))
    return Segment(kind, torch.tensor(ids, dtype=torch.long), size)


def same(a, b):
    assert [(s.kind, s.ids.tolist(), s.size) for s in a] == [(s.kind, s.ids.tolist(), s.size) for s in b]


@given(st.lists(segments(), max_size=5))
def test_what_is_packed_is_unpacked(given_segments):
    same(STREAM.unpack(STREAM.pack(given_segments)), given_segments)


@given(st.lists(segments(), min_size=1, max_size=4), st.data())
def test_a_row_that_was_changed_is_another_stream_or_none(given_segments, data):
    row = STREAM.pack(given_segments)
    at = data.draw(st.integers(0, len(row) - 1))
    changed = row.clone()
    changed[at] = data.draw(st.integers(0, len(STREAM.vocabulary) - 1))
    try:
        found = STREAM.unpack(changed)
    except InvalidValue:
        return
    # Packing says everything that unpacking reads, but for controls between segments.
    assert torch.equal(STREAM.pack(found), changed) or len(found) != len(given_segments)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_ids_of_kinds_never_overlap(sizes):
    vocabulary = UnifiedVocabulary([(str(i), n) for i, n in enumerate(sizes)])
    masks = torch.stack([vocabulary.allowed(str(i)) for i in range(len(sizes))])
    assert (masks.sum(0) == 1).all()
    assert masks.shape[1] == len(vocabulary) == sum(sizes)
    for i, n in enumerate(sizes):
        ids = torch.arange(n)
        assert torch.equal(vocabulary.lower(str(i), vocabulary.lift(str(i), ids)), ids)
        with pytest.raises(InvalidValue, match="ids must be from"):
            vocabulary.lift(str(i), torch.tensor([n]))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0], r"id 0 \(text\) cannot stand at 0, between segments"),
        ([STREAM.end("image")], "cannot stand at 0"),
        ([STREAM.begin("text"), 3], "text must be closed by"),
        ([STREAM.begin("text"), STREAM.begin("text")], r"\(control\) cannot stand at 1, content of text"),
        ([STREAM.begin("image"), STREAM.comma], "cannot stand at 1, header of image"),
        ([STREAM.begin("image"), STREAM.digit(0), STREAM.digit(1), STREAM.comma], "cannot stand at 2, header of image"),
        (
            [STREAM.begin("audio"), *STREAM.header("audio", (5,)), 0],
            "cannot stand at 3, content of audio",
        ),
        ([-1], "no id"),
        ([len(STREAM.vocabulary)], "no id"),
    ],
)
def test_a_row_that_is_no_stream_is_refused(row, words):
    with pytest.raises(InvalidValue, match=words):
        STREAM.unpack(torch.tensor(row))


def test_what_cannot_be_packed():
    nothing = torch.zeros(0, dtype=torch.long)
    for segment, words in (
        (Segment("smell", nothing), "kind must be one of text, image, audio, video"),
        (Segment("image", nothing), "size must be 2 numbers"),
        (Segment("audio", nothing, (-1,)), "size must be 1 numbers"),
        (Segment("image", torch.tensor([8]), (1, 1)), "image: ids must be from 0 to 7; got 8"),
    ):
        with pytest.raises(InvalidValue, match=words):
            STREAM.pack([segment])
    with pytest.raises(InvalidValue, match="at least 25 ids of controls"):
        Stream((*SIZES[:1], ("control", 24), *SIZES[2:]), NUMBERS)
    with pytest.raises(InvalidValue, match="names of their own"):
        UnifiedVocabulary([("a", 1), ("a", 2)])
    with pytest.raises(InvalidValue, match="control: must be from 0 to 4"):
        STREAM.control(5)


def test_controls_between_segments_are_passed_over():
    one, other = STREAM.pack([Segment("text", torch.tensor([1]))]), STREAM.pack([Segment("text", torch.tensor([2]))])
    row = torch.cat((one, torch.tensor([STREAM.control(3)]), other))
    assert [s.ids.tolist() for s in STREAM.unpack(row)] == [[1], [2]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(), ("image",), ("text", "audio")]))
def test_whatever_the_grammar_lets_through_is_a_stream(seed, kinds):
    def count(kind, size):
        return None if kind == "text" else size[-1] % 7

    grammar = StreamGrammar(STREAM, kinds=kinds, count=count)
    generator = torch.Generator().manual_seed(seed)
    row = torch.zeros(1, 0, dtype=torch.long)
    for step in range(400):
        scores = grammar(row, torch.randn(1, len(STREAM.vocabulary), generator=generator) * 3)
        row = torch.cat((row, scores.softmax(-1).multinomial(1, generator=generator)), 1)
        if step > 60 and grammar.where(row[0]).part == "between":
            break
    else:
        return
    found = STREAM.unpack(row[0])
    assert found
    assert {s.kind for s in found} <= set(kinds or STREAM.kinds)
    assert all(count(s.kind, s.size) in (None, len(s.ids)) for s in found)


def test_generation_under_the_grammar():
    """A tiny model that never saw a picture says whole ones, in a batch with a prompt."""
    model = tiny("llama", vocab_size=len(STREAM.vocabulary))
    prompt = torch.randint(0, 50, (2, 5), generator=torch.Generator().manual_seed(0))
    stop = 3
    grammar = StreamGrammar(STREAM, kinds=("image",), count=lambda kind, size: 4, stop=(stop,), start=5)
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=True, max_new_tokens=60, logits_processor=[grammar],
        eos_token_id=stop, pad_token_id=stop,
    )  # fmt: skip
    for row in out:
        said = [i for i in row[5:].tolist() if i != stop]
        marks = [i for i, x in enumerate(said) if x == STREAM.end("image")]
        whole = STREAM.unpack(torch.tensor(said[: marks[-1] + 1] if marks else [], dtype=torch.long))
        assert all(s.kind == "image" and len(s.ids) == 4 for s in whole)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3_text"])
def test_more_rows_change_nothing_that_is_said_of_the_old_ones(family, smollm2):
    model = tiny(family)
    language = LanguageModel(model, smollm2.tokenizer, "tiny", 512)
    size = model.get_input_embeddings().weight.shape[0]
    grown = extended(language, 7, vectors={2: torch.randn(4, 3, generator=torch.Generator().manual_seed(0))})
    ids = torch.randint(3, size, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = model(ids).logits, grown.model(ids).logits
    assert after.shape[-1] == size + 7
    assert torch.equal(after[..., :size], before)
    assert grown.model.config.get_text_config().vocab_size == size + 7
    assert model.get_input_embeddings().weight.shape[0] == size
    new = grown.model.get_input_embeddings().weight[size:]
    assert new.isfinite().all()
    old = model.get_input_embeddings().weight.float()
    assert (new[[0, 1, 6]].float() - old.mean(0)).norm(dim=1).max() < old.sub(old.mean(0)).norm(dim=1).median()
    with pytest.raises(InvalidValue, match="at least 3, where the last vectors end"):
        extended(language, 2, vectors={1: torch.zeros(2, 2)})


def test_codebooks_take_turns_under_the_grammar():
    books = {"audio": (4, 8), "image": (8,)}
    stream = Stream(SIZES, NUMBERS, books)
    grammar = StreamGrammar(stream, kinds=("audio",), count=lambda kind, size: 6)
    row = torch.tensor([stream.begin("audio"), *stream.header("audio", (3,))])
    first = stream.vocabulary.ranges["audio"].first
    for place in range(6):
        allowed = grammar.allowed(grammar.where(row)).nonzero()[:, 0].tolist()
        assert allowed == list(range(first + 4, first + 12) if place % 2 else range(first, first + 4))
        row = torch.cat((row, torch.tensor(allowed[:1])))
    assert grammar.allowed(grammar.where(row)).nonzero()[:, 0].tolist() == [stream.end("audio")]
    for wrong in ({"audio": (4, 7)}, {"smell": (1,)}, {"audio": ()}):
        with pytest.raises(InvalidValue, match="codebooks must fill a range"):
            Stream(SIZES, NUMBERS, wrong)
