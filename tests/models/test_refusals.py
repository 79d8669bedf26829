"""A refusal says what the model does not do, and is right; it never hands on what a library said."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tests.embed.embed_models import OLD_TEXT, trained
from tests.padded import padded
from tokenry.attend.token_select import TokenSelect
from tokenry.attend.window import Window
from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.place import Place
from tokenry.models.attention.site import Site
from tokenry.models.cache.name import cache_of
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.files.tiny import tiny

COMMON = {
    "vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None, "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "head_dim": 16,
}  # fmt: skip
SIZES = {
    "afmoe": {**COMMON, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_dense_layers": 1,
              "sliding_window": 16, "global_attn_every_n_layers": 3},
    "gemma3n_text": {**COMMON, "num_hidden_layers": 4, "num_kv_shared_layers": 2, "sliding_window": 16,
                     "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.0] * 4, "laurel_rank": 8,
                     "layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 16,
                     "vocab_size_per_layer_input": 128},
    "qwen4_exp_text": {**COMMON, "layer_types": ["indexed_attention"] * 3, "indexer_n_heads": 4, "indexer_kv_heads": 1,
                       "indexer_head_dim": 16, "indexer_budget": 16, "indexer_compress_ratio": 4, "hc_lowrank": 16,
                       "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                       "shared_expert_intermediate_size": 32},
    "recurrent_gemma": {**COMMON, "lru_width": 64, "attention_window_size": 16},
}  # fmt: skip


def made(family, auto=AutoModelForCausalLM, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto.from_config(AutoConfig.for_model(family, **{**SIZES[family], **changes})).eval()


def refusal(model, method=None):
    with pytest.raises(UnsupportedModel) as caught, (method or TokenSelect())(model):
        pass
    return str(caught.value)


def test_a_model_that_decodes_is_no_encoder():
    model = made("afmoe")
    assert [place.kind for place in ModelAdapter.of(model).sites.values()] == ["self"] * 3
    inputs, options = padded(41), {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    expected = model.generate(**inputs, **options)
    with TokenSelect(budget=1000)(model):
        assert torch.equal(model.generate(**inputs, **options).sequences, expected.sequences)
    with Window(budget="8:sink=1")(model):
        held = [layer.keys.shape[2] for layer in cache_of(model.generate(**inputs, **options)).layers]
    assert held == [15, 15, 8], "two layers with a window of their own, and one that was brought to the budget"


@pytest.mark.parametrize("method", [TokenSelect(), Window()], ids=["token_select", "window"])
def test_layers_that_forget_by_themselves_leave_nothing_to_choose(method):
    model = made("recurrent_gemma")
    assert list(ModelAdapter.of(model).sites.values()) == [Place(2, "self", "model.layers")]
    assert "must have a layer that keeps every token; all of them forget by themselves" in refusal(model, method)
    assert "all of them forget by themselves" in refusal(tiny("mistral"), method)


@pytest.mark.parametrize("method", [TokenSelect(), Window()], ids=["token_select", "window"])
def test_layers_that_choose_by_themselves_do_not_forget(method):
    said = refusal(made("qwen4_exp_text"), method)
    assert "must leave the choice of keys to methods; layers that keep every token choose by an index" in said


def test_an_assertion_of_a_model_is_a_refusal():
    """XLM asserts that its positions are as many as its tokens, which they are not where a cache is read."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("xlm", vocab_size=128, emb_dim=32, n_layers=1))
    assert "XLMWithLMHeadModel: must run a small input" in refusal(model)


def test_layers_that_read_the_cache_of_others_are_counted():
    model = made("gemma3n_text")
    assert [(p.kind, p.cached) for p in ModelAdapter.of(model).sites.values()] == [("self", True)] * 2 + [
        ("self", False)
    ] * 2
    assert "must cache keys and values in every layer that attends to what is decoded; 2 of 4 do not" in refusal(model)


def test_inputs_nobody_can_make_up_are_named():
    config = AutoConfig.for_model("patchtst", d_model=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16)
    said = refusal(AutoModel.from_config(config).eval())
    assert "must take text, pictures or sounds under one of the names input_ids, pixel_values, input_features" in said
    assert "it takes past_values" in said


def test_a_wave_can_be_made_up():
    config = AutoConfig.for_model(
        "wav2vec2", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, conv_dim=[16],
        conv_kernel=[10], conv_stride=[5], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    model = AutoModel.from_config(config).eval()
    assert [place.kind for place in ModelAdapter.of(model).sites.values()] == ["encoder"] * 2


def raw(message):
    def fail(*_, **__):
        raise RuntimeError(message)

    return fail


@pytest.mark.parametrize("place", ["forward", "attention", "step", "sizes"])
def test_no_refusal_hands_on_an_error(place, monkeypatch):
    model = tiny("vit" if place == "sizes" else "llama", seed=7)
    if place == "forward":
        monkeypatch.setattr(model.model.norm, "forward", raw("shape '[2, 3]' is invalid"))
    elif place == "attention":
        monkeypatch.setattr(Site, "dense", raw("shape '[2, 3]' is invalid"))
    elif place == "step":
        monkeypatch.setattr(Experiment, "step", raw("shape '[2, 3]' is invalid"))
    else:
        monkeypatch.setattr(Experiment, "_waves", raw("no attribute 'image_size'"))
    with pytest.raises(UnsupportedModel, match=r"\w+: must .*; it does not; use a model of another family") as e:
        ModelAdapter.of(model)
    assert e.value.__cause__ is not None
    assert "'" not in str(e.value).replace("transformers' attention", "")
    assert "Error" not in str(e.value)


def test_no_memory_is_not_the_fault_of_the_model(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    model = tiny("llama", seed=7)
    monkeypatch.setattr(model.model.norm, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        ModelAdapter.of(model)


def test_the_tokenizer_of_another_model(tmp_path):
    """It is refused where a model gets it, not by an index inside; marks beyond the rows are no text's ids."""
    tokenizer, model = trained(OLD_TEXT, 330), tiny("llama", vocab_size=300)
    with pytest.raises(InvalidValue, match=r"no more than the model's 300 ids; got 3\d\d; pass the model's own"):
        LanguageModel.of(model, tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InvalidValue, match="300 ids; got 3"):
        load(str(tmp_path))
    marked = copy.deepcopy(trained(OLD_TEXT, 300))
    marked.add_tokens(["<m>"], special_tokens=True)
    assert LanguageModel.of(model, marked).tokenizer is marked
