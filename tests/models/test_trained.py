"""Models as training leaves them: `use_cache` off, activations recomputed. What a layer does is not a setting."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from tests.contract.cases import choosing, reducing
from tests.padded import padded
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.cache.name import cache_of
from tokenry.models.files.tiny import DECODERS, OTHERS, tiny

METHODS = [*choosing(), *reducing()]


def trained(family="llama", **changes):
    """A model as a Trainer leaves it."""
    model = tiny(family, **changes)
    for config in (model.config, model.config.get_text_config()):
        config.use_cache = False
    return model


def generate(model):
    return model.generate(
        **padded(41), max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
    )


def kinds(model):
    return dict(Counter(place.kind for place in ModelAdapter.of(model).sites.values()))


@pytest.mark.parametrize("case", METHODS, ids=lambda c: c.name)
def test_every_method_acts_as_before_the_training(case):
    plain, model = tiny("llama"), trained()
    with case.trial()(plain) as theirs:
        expected = generate(plain)
    with case.trial()(model) as ours:
        found = generate(model)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits), atol=2e-5, rtol=1e-4)
    assert ours.reads.per_step == theirs.reads.per_step
    assert [layer.keys.shape for layer in cache_of(found).layers] == [
        layer.keys.shape for layer in cache_of(expected).layers
    ]
    assert model.config.use_cache is False


@pytest.mark.parametrize("family", ["gemma3_text", "gpt2", "llava", "qwen3_moe", "t5", "whisper"])
def test_kinds_do_not_depend_on_the_setting(family):
    assert kinds(trained(family)) == kinds(tiny(family))
    assert kinds(tiny(family))["self"] == tiny(family).config.get_text_config(decoder=True).num_hidden_layers


@pytest.mark.parametrize("family", ["bert", "clip", "modernbert", "siglip"])
def test_encoders_stay_encoders(family):
    for model in (tiny(family), trained(family)):
        assert set(kinds(model)) == {"encoder"}


def test_an_encoder_with_a_head_that_could_generate_stays_one():
    """Its class can generate; that its layers read what follows says that it does not."""
    config = AutoConfig.for_model("bert", **OTHERS["bert"])
    assert set(kinds(AutoModelForCausalLM.from_config(config).eval())) == {"encoder"}
    assert set(kinds(AutoModelForMaskedLM.from_config(config).eval())) == {"encoder"}
    config.is_decoder = True
    assert set(kinds(AutoModelForCausalLM.from_config(config).eval())) == {"self"}


def test_a_model_without_its_head_decodes_as_with_it():
    config = AutoConfig.for_model("llama", **DECODERS["llama"])
    config.use_cache = False
    assert kinds(AutoModel.from_config(config).eval()) == {"self": 3}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activations_may_be_recomputed(use_reentrant):
    """The model is found in training; a pass with gradients brings no cache, and gives what it gave."""
    model = trained(attention_dropout=0.0)
    model.train()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    assert kinds(model) == {"self": 3}
    assert all(module.training for module in model.modules())
    embeds = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for attach in (False, True):
        embeds.grad = None
        if attach:
            with ModelAdapter.of(model).attached_to(lambda _: Site.dense):
                logits = model(inputs_embeds=embeds).logits
                logits.square().sum().backward()
        else:
            logits = model(inputs_embeds=embeds).logits
            logits.square().sum().backward()
        found.append((logits.detach(), embeds.grad.clone()))
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
