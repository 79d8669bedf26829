"""The recipe of the model that sees: what it learns from, and that it goes on where it was interrupted."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tokenry.core.errors import StorageError, UnknownModel
from tokenry.data.collages import PLACES, QUARTER
from tokenry.data.image import Image, read_image
from tokenry.data.photographs import photographs
from tokenry.models.files import store
from tokenry.models.files.load import load
from tokenry.models.signals.encoders import load_vision
from tokenry.models.signals.llava import MARK, joined
from tokenry.models.signals.vision_language import load_vision_language
from tokenry.recipes import collages
from tokenry.recipes.collage_lessons import LAYER, Lessons, Projector
from tokenry.recipes.training_file import TrainingFile


@pytest.fixture(scope="module")
def parts():
    try:
        return load_vision("dinov2", dtype="float32", device="cpu"), load("smollm2", dtype="float32", device="cpu")
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def lessons(parts):
    vision, language = parts
    language.tokenizer.add_special_tokens({"additional_special_tokens": [MARK]})
    return Lessons(vision, language, {name: read_image(file) for name, file in photographs().items()})


def test_every_question_stands_right_behind_the_picture(lessons):
    """What is said of one place is not seen by another question, and is read as if it were the first."""
    drawn = lessons.draw(2, 0)
    talks = lessons.talks(drawn)
    tokenizer = lessons.language.tokenizer
    patches = (2 * QUARTER) ** 2
    for row, one in enumerate(drawn):
        answers = talks.labels[row][talks.labels[row] != -100].view(len(PLACES), 2)
        assert tokenizer.batch_decode(answers) == [f" {name}<|im_end|>" for name in one.names]
        where = (talks.labels[row] != -100).nonzero()[:, 0].view(len(PLACES), 2)
        for place in range(len(PLACES)):
            seen = talks.sees[row, 0, where[place, 0] - 1]
            text = tokenizer.decode(talks.ids[row, seen])
            assert text == "User:" + MARK * patches + f"What is at the {PLACES[place]}?\nAssistant:"
            positions = talks.positions[row, seen]
            assert torch.equal(positions, torch.arange(len(positions)))


def test_words_of_a_patch_are_its_photograph_and_its_place(lessons):
    one = lessons.draw(1, 5)[0]
    words = lessons.words([one])[0]
    embed = lessons.language.model.get_input_embeddings()

    def word(text):
        return embed(torch.tensor(lessons.language.tokenizer.encode(f" {text}", add_special_tokens=False))).mean(0)

    for place, name in enumerate(one.names):
        found = words[one.covered(place)]
        assert torch.allclose(found, (word(name) + word(PLACES[place])).expand_as(found), atol=1e-6)
    uncovered = ~torch.stack([one.covered(place) for place in range(4)]).any(0)
    assert torch.allclose(words[uncovered][0], word("grey") + word(PLACES[0]), atol=1e-6)


def test_the_folded_projector_is_the_learned_one(parts):
    vision, language = parts
    torch.manual_seed(0)
    projector = Projector(384, 576)
    projector.mean.normal_()
    projector.std.uniform_(0.1, 9)
    theirs = joined(vision, language, layer=LAYER, side=2 * QUARTER).model.multi_modal_projector
    theirs.load_state_dict(projector.folded())
    features = torch.randn(2, 5, 384) * 3
    assert torch.allclose(theirs(features), projector(features), atol=1e-4)


def test_a_joined_model_speaks_as_before(parts):
    """Without a picture it is the language model, and its encoder is the encoder."""
    vision, language = parts
    whole = joined(vision, language, layer=LAYER, side=2 * QUARTER)
    ids = torch.arange(1000, 1020)[None]
    with torch.no_grad():
        expected, found = language.model(ids).logits, whole(input_ids=ids).logits
    assert torch.allclose(found[..., : expected.shape[-1]], expected, atol=1e-5)
    pixels = vision.prepare(torch.randint(0, 256, (1, 28, 28, 3), dtype=torch.uint8))
    with torch.no_grad():
        assert torch.equal(whole.model.vision_tower(pixels).last_hidden_state, vision.model(pixels).last_hidden_state)


def test_a_training_file_brings_everything_back(tmp_path):
    torch.manual_seed(0)

    def fresh():
        weights = torch.nn.Linear(3, 2)
        return weights, torch.optim.AdamW([{"params": weights.parameters(), "lr": 0.1}])

    def train(weights, optimizer):
        optimizer.zero_grad()
        weights(torch.ones(3)).square().sum().backward()
        optimizer.step()

    weights, optimizer = fresh()
    train(weights, optimizer)
    kept = TrainingFile(tmp_path / "kept.safetensors", {"steps": 2})
    assert kept.read(optimizer) == 0
    kept.write(optimizer, 1)
    train(weights, optimizer)
    others, again = fresh()
    assert TrainingFile(kept.file, {"steps": 3}).read(again) == 0
    assert kept.read(again) == 1
    train(others, again)
    assert torch.equal(weights.weight, others.weight)
    kept.file.write_bytes(kept.file.read_bytes()[:-9])
    with pytest.raises(StorageError, match="must be a whole file of a training"):
        kept.read(again)
    kept.remove()
    assert kept.read(again) == 0


@pytest.mark.slow
def test_an_interrupted_training_goes_on_where_it_stopped(tmp_path, monkeypatch, parts):
    for name, value in (("BATCH", 1), ("EVERY", 2), ("WORDS_COLLAGES", 4), ("WORDS_STEPS", 3)):
        monkeypatch.setattr(collages, name, value)
    found = {}
    for how in ("whole", "interrupted"):
        home = tmp_path / how
        (home / "models").mkdir(parents=True)
        for name in ("smollm2", "dinov2"):
            (home / "models" / name).symlink_to(store.place(name))
        monkeypatch.setenv("TOKENRY_CACHE", str(home))
        steps = []

        def tell(what, done, of, loss, how=how, steps=steps):
            steps.append((what, done))
            if how == "interrupted" and (what, done) == ("questions", 3) and steps.count((what, done)) == 1:
                raise KeyboardInterrupt

        if how == "interrupted":
            with pytest.raises(KeyboardInterrupt):
                collages.make(steps=4, tell=tell)
            assert store.place("collages") is None
            assert not list((home / "models").glob(".collages.partial-*"))
        collages.make(steps=4, tell=tell)
        found[how] = load_file(home / "models" / "collages" / "model.safetensors")
        assert json.loads((home / "models" / "collages" / "tokenry.json").read_text()) == {"recipe": 1}
        assert not list((home / "models").glob(".collages.training*"))
        if how == "interrupted":
            assert steps.count(("words", 1)) == 1
            assert steps.count(("questions", 2)) == 1
            model = load_vision_language(str(home / "models" / "collages"))
            assert len(model.say(model.read([Image(torch.zeros(9, 9, 3, dtype=torch.uint8))], ["What?"]))) == 1
    monkeypatch.undo()
    assert found["whole"].keys() == found["interrupted"].keys()
    assert all(torch.equal(found["whole"][name], found["interrupted"][name]) for name in found["whole"])
