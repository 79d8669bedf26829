"""Models of pictures and text: the form of their pictures is found, and what cannot be made up stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.models.small import small
from tokenry.attend.token_select import TokenSelect
from tokenry.attend.window import Window
from tokenry.models.attention import experiment
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.call import NAME
from tokenry.models.attention.experiment import Experiment
from tokenry.models.cache.name import cache_of

FORMS = {
    "gemma4": {"pixel_values", "image_position_ids", "mm_token_type_ids"},
    "idefics3": {"pixel_values"},
    "lfm2_vl": {"pixel_values", "spatial_shapes", "pixel_attention_mask"},
    "llava_next": {"pixel_values", "image_sizes"},
    "minicpmv4_6": {"pixel_values", "target_sizes"},
    "mllama": {"pixel_values", "aspect_ratio_ids", "aspect_ratio_mask"},
    "qwen2_vl": {"pixel_values", "image_grid_thw", "mm_token_type_ids"},
}
TEXT = {"input_ids", "attention_mask"}
OPTIONS = {"max_new_tokens": 5, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}


@torch.no_grad()
def inputs(model):
    return Experiment(model).inputs


@pytest.mark.parametrize("family", FORMS)
def test_the_form_of_a_picture_is_found(family):
    """Its layers are found with those of the text, and what follows is what the model itself says."""
    model = small("image-text", family)
    given = inputs(model)
    assert set(given) == FORMS[family] | TEXT
    expected = model.generate(**given, **OPTIONS)
    with TokenSelect(budget=10_000)(model) as run:
        found = model.generate(**given, **OPTIONS)
    assert run.acted
    assert {"encoder", "self"} <= {place.kind for place in ModelAdapter.of(model).sites.values()}
    assert torch.equal(found.sequences, expected.sequences)
    for ours, own in zip(found.logits, expected.logits, strict=True):
        assert torch.allclose(ours, own, atol=1e-4)


def test_keys_of_a_picture_are_forgotten_as_those_of_a_text():
    model = small("image-text", "qwen2_vl")
    given = inputs(model)
    with Window(budget="8:sink=1")(model):
        cache = cache_of(model.generate(**given, **OPTIONS))
    assert [layer.keys.shape[2] for layer in cache.layers] == [8] * 4


def test_tokens_of_a_picture_that_see_each_other():
    """Gemma 3 lets them, where it is told which they are."""
    model = small("image-text", "gemma3")
    given = inputs(model)
    given["token_type_ids"] = (given["input_ids"] == model.config.image_token_id).long()
    expected = model(**given).logits
    without = model(**{**given, "token_type_ids": torch.zeros_like(given["token_type_ids"])}).logits
    with TokenSelect(budget=10_000)(model):
        found = model(**given).logits
    real = given["attention_mask"].bool()
    assert not torch.allclose(expected[real], without[real], atol=1e-2)
    assert torch.allclose(found[real], expected[real], atol=1e-4)


@pytest.mark.parametrize("family", ["qwen2_vl", "lfm2_vl"])
def test_a_part_that_was_never_tried_keeps_its_own_attention(family, monkeypatch):
    """Nobody can make up a picture: the text proves the language model, and pictures are looked at as before."""
    model = small("image-text", family)
    given = inputs(copy.deepcopy(model))
    expected = copy.deepcopy(model).generate(**given, **OPTIONS)
    monkeypatch.setattr(experiment, "pictures", lambda *_: iter(()))
    with TokenSelect(budget=10_000)(model):
        assert model.config.get_text_config()._attn_implementation == NAME
        assert model.config.vision_config._attn_implementation != NAME
        found = model.generate(**given, **OPTIONS)
    assert {place.kind for place in ModelAdapter.of(model).sites.values()} == {"self"}
    assert torch.equal(found.sequences, expected.sequences)
    for ours, own in zip(found.logits, expected.logits, strict=True):
        assert torch.allclose(ours, own, atol=1e-4)


def test_nothing_is_noted_about_what_a_model_was_tried_with():
    """Qwen keeps how far positions are off after a picture; a text that came next would take it for its own."""
    model = small("image-text", "qwen3_vl")
    fresh = copy.deepcopy(model)
    ids = torch.arange(3, 23)[None]
    ModelAdapter.of(model)
    assert model.model.rope_deltas is None
    steps = {"max_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(ids, **steps), fresh.generate(ids, **steps))


def test_what_a_model_noted_before_is_as_it_was():
    model = small("image-text", "qwen3_vl")
    model(**inputs(model))
    noted = model.model.rope_deltas
    assert noted is not None
    ModelAdapter.of(model)
    assert model.model.rope_deltas is noted
