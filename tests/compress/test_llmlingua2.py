"""LLMLingua-2: probabilities are means over pieces, chunks end with sentences, heads learn and are found again."""

from __future__ import annotations

from time import process_time

import numpy as np
import pytest
import torch

from tests.compress.compress_rows import batch, free
from tokenry.compress.heads.keep_drop import KeepDrop
from tokenry.compress.heads.training import better_half, by_compression, train
from tokenry.compress.kept.text import text_of
from tokenry.compress.llmlingua2 import SHIPPED, LLMLingua2
from tokenry.compress.units.sentences import words
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.models.files.load import load_encoder

TEXT = (
    "Mr. Keeper climbed the lighthouse in 1903. The lamp was unbelievably broken, and nobody knew why! Rain fell.\n\n"
    "The town paid $1,250.75 for a new lamp; it wasn't cheap. Dr. Moss relit it. Ships came. Then it rained."
)
pytestmark = pytest.mark.usefixtures("minilm")


def forward(text: str, layer: int = 3) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """States of the pieces of a text in one plain forward, and their characters."""
    encoder = load_encoder("minilm")
    inputs = encoder.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    places = inputs.pop("offset_mapping")[0, 1:-1].tolist()
    with torch.no_grad():
        return encoder.model(**inputs, output_hidden_states=True).hidden_states[layer][0, 1:-1].float(), places


def test_a_text_that_fits_is_read_in_one_pass():
    states, at = KeepDrop().read(TEXT, [0, 43])
    expected, places = forward(TEXT)
    assert torch.equal(states, expected)
    assert at.tolist() == [start for start, _ in places]
    assert torch.equal(KeepDrop(layer=6).read(TEXT, [0])[0], forward(TEXT, 6)[0])


def test_a_longer_text_is_read_in_chunks_that_end_with_sentences():
    sentences = ["One two three four. ", "Five six seven. ", "Eight, nine! ", "Ten. ", "Eleven twelve, all. ", "End"]
    text = "".join(sentences)
    starts = np.cumsum([0, *map(len, sentences)])[:-1].tolist()
    states, at = KeepDrop(window=16).read(text, starts)
    chunks = ["".join(sentences[:3]), "".join(sentences[3:])]
    assert [len(forward(part)[0]) for part in (*chunks, sentences[3])] == [13, 8, 2], "14 pieces fit beside the marks"
    torch.testing.assert_close(states, torch.cat([forward(chunk)[0] for chunk in chunks]))
    assert at.tolist() == [a for a, _ in forward(text)[1]]


def test_a_sentence_longer_than_the_window_is_read_in_parts():
    text = "word " * 100
    states, at = KeepDrop(window=32).read(text, [0])
    assert at.tolist() == list(range(0, 500, 5))
    assert states.shape == (100, 384)
    assert torch.equal(states[:30], forward("word " * 30)[0])


def test_the_probability_of_a_word_is_the_mean_over_its_pieces():
    states, places = forward(TEXT)
    probability = KeepDrop.load(SHIPPED["minilm"]).judge(states).detach()
    for units in ("word", "sentence"):
        ranking = LLMLingua2(units=units).rank(batch(TEXT))
        document, scores = ranking.documents[0], ranking.scores[0]
        pieces = []
        for (start, end), score in zip(document.units.bounds, scores, strict=True):
            mine = torch.tensor([start <= a < end for a, _ in places])
            pieces.append(int(mine.sum()))
            assert float(score) == pytest.approx(float(probability[mine].mean()), abs=1e-6)
        assert max(pieces) > 1
        assert sum(pieces) == len(places)


def test_what_the_encoder_does_not_see_goes_first():
    ranking = LLMLingua2().rank(batch("Hello \u200b\u200b world."))
    scores = dict(zip(ranking.documents[0].texts, ranking.scores[0].tolist(), strict=True))
    assert scores["\u200b\u200b"] == 0.0 < min(scores["Hello"], scores["world."])


def test_the_head_that_ships():
    head = KeepDrop.load(SHIPPED["minilm"])
    assert head.to_dict() == {"method": "compress/keep_drop", "encoder": "minilm", "layer": 3, "window": 512}
    assert head.head.weight.shape == (2, 384)
    assert sum(f.stat().st_size for f in SHIPPED["minilm"].iterdir()) < 10_000


SCHOOL = [
    "The cat sat on the red mat. A dog ran to the old barn. The sun rose over the green hill and an oak.",
    "The bird sang in the tall tree. A fish swam to the cold lake. The wind blew from the far sea to an isle.",
    "The boy ate a ripe plum. The girl drew a small boat to an artist. An owl sat on the dark roof of the mill.",
]
STOP = {"the", "a", "an", "on", "to", "in", "from", "over", "of", "and"}


def lessons(texts: list[str]) -> list[list[bool]]:
    """Words that are no stop words stay."""
    return [[text[a:b].lower() not in STOP for a, b in words(text)] for text in texts]


def test_training_is_deterministic_learns_and_is_loaded_as_it_was(tmp_path):
    state = torch.get_rng_state()
    first, second = (train(SCHOOL, lessons(SCHOOL), epochs=50, batch=16, seed=3, progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.head.bias, second.head.bias)
    other = train(SCHOOL, lessons(SCHOOL), epochs=50, batch=16, seed=4, progress=False)
    assert not torch.equal(first.head.weight, other.head.weight)
    first.save(tmp_path / "head")
    method = LLMLingua2(head=str(tmp_path / "head"))
    text = "A fox sat on the wet bush. The king ran to an inn."
    scores = method.rank(batch(text)).scores[0]
    states, _ = first.read(text, [0])
    assert [w for w, s in zip(text.split(), scores.tolist(), strict=True) if s < 0.5] == [
        "A", "on", "the", "The", "to", "an",
    ]  # fmt: skip
    again = KeepDrop.load(tmp_path / "head")
    assert torch.equal(again.judge(states), first.judge(states))
    other.save(tmp_path / "head")
    assert not torch.equal(method.rank(batch(text)).scores[0], scores), "a head that was saved anew is read anew"


def test_training_says_what_is_wrong():
    with pytest.raises(InvalidValue, match="texts must hold at least one text"):
        train([], progress=False)
    with pytest.raises(InvalidValue, match="labels must be given for all 3 texts; got 2"):
        train(SCHOOL, lessons(SCHOOL)[:2], progress=False)
    with pytest.raises(InvalidValue, match="labels must be one for each word; got 1 for 24"):
        train(SCHOOL[:1], [[True]], progress=False)
    with pytest.raises(InvalidValue, match="words that stay and words that go"):
        train(SCHOOL[:1], [[True] * 24], progress=False)
    with pytest.raises(InvalidValue, match="layer must be at most 6 for minilm; got 7"):
        KeepDrop(layer=7).read(TEXT, [0])


def test_labels():
    assert better_half(torch.tensor([1.0, 5.0, 3.0, 3.0, 0.0])).tolist() == [False, True, True, True, False]
    assert better_half(torch.cat((torch.arange(400.0), torch.tensor([9.0, 8.0])))).nonzero()[:, 0].tolist() == [
        *range(200, 400), 400,
    ]  # fmt: skip
    text = "The old lamp, which nobody liked, was sold. The town paid."
    kept = by_compression(text, "old lamp nobody liked sold; town paid")
    assert [text[a:b] for (a, b), k in zip(words(text), kept, strict=True) if k] == [
        "old", "lamp,", "nobody", "liked,", "sold.", "town", "paid.",
    ]  # fmt: skip
    assert not any(by_compression(text, ""))
    assert all(by_compression(text, text))


@pytest.mark.slow
def test_labels_by_information_are_those_of_the_teacher(smollm2):
    """Without labels, the half of the words that surprises the scorer most stays."""
    from tokenry.compress.heads.training import by_information
    from tokenry.compress.self_information import SelfInformation
    from tokenry.models.text.document import Document
    from tokenry.models.text.prompt import plain

    kept = by_information(TEXT, smollm2)
    ranking = SelfInformation(units="word").rank(plain(smollm2.tokenizer, [Document(TEXT)]), model=smollm2)
    assert kept == better_half(ranking.scores[0]).tolist()
    assert sum(kept) == (len(words(TEXT)) + 1) // 2
    given, own = (train([TEXT], labels, scorer=smollm2, progress=False) for labels in ([kept], None))
    assert torch.equal(given.head.weight, own.head.weight)


def test_repeated_words_give_way():
    text = "No no no! Stop, stop the lamp. Lamp lamp lamp 7 7 7 lamp, lamp lamp lamp."
    plain, single = LLMLingua2(budget=0.5), LLMLingua2(budget=0.5, drop_consecutive=True)
    kept = [text_of(m.compress(batch(text))).split() for m in (plain, single)]
    assert any(a == b for a, b in zip(kept[0], kept[0][1:], strict=False))
    assert not any(a == b for a, b in zip(kept[1], kept[1][1:], strict=False))
    assert free(plain.compress(batch(text))) == free(single.compress(batch(text)))
    forced = LLMLingua2(budget=0.5, drop_consecutive=True, force=("numbers",))
    assert text_of(forced.compress(batch(text))).count("7") == 3
    assert free(single.compress(batch("la " * 30))) == free(plain.compress(batch("la " * 30)))


def test_heads_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidValue, match="head must be given for an encoder for which none ships; got my/encoder"):
        LLMLingua2(encoder="my/encoder").compress(batch(TEXT))
    with pytest.raises(StorageError, match=r"nothing/method.json: must be a readable JSON file"):
        LLMLingua2(head=str(tmp_path / "nothing")).compress(batch(TEXT))
    KeepDrop(encoder="other").build(width=384).save(tmp_path / "head")
    with pytest.raises(InvalidValue, match=r"encoder must be other, on which the head in .* was trained; got minilm"):
        LLMLingua2(head=str(tmp_path / "head")).compress(batch(TEXT))


@pytest.mark.claim
@pytest.mark.slow
def test_on_texts_it_has_not_seen_it_agrees_with_its_teacher_and_is_many_times_faster():
    """Two documents that the head was not trained on; teacher and pupil read in one run, in the same types."""
    from tokenry.compress.random import RandomUnits
    from tokenry.compress.self_information import SelfInformation
    from tokenry.data import read
    from tokenry.models.files.load import load
    from tokenry.models.text.document import Document
    from tokenry.models.text.prompt import plain

    language, pupil = load("smollm2"), LLMLingua2(budget=0.5)
    pupil.rank(batch(TEXT))
    for name in ("moby_dick", "sotu_1975"):
        tokens = plain(language.tokenizer, [Document(read(name)[:5000])])
        start = process_time()
        taught = SelfInformation(units="word").rank(tokens, model=language)
        between = process_time()
        found = pupil.rank(tokens)
        assert process_time() - between < (between - start) / 5
        scores, stays = found.scores[0], better_half(taught.scores[0])
        above = (scores[stays][:, None] > scores[~stays]).double() + (scores[stays][:, None] == scores[~stays]) / 2
        assert float(above.mean()) > 0.75, "area under the ROC curve"
        nats = taught.columns(tokens)
        ours, chance = (
            float(nats[half.survival() > 0].sum() / nats.sum())
            for half in (pupil.fit(tokens, found), RandomUnits(units="word", budget=0.5).compress(tokens))
        )
        assert ours > 1.2 * chance
