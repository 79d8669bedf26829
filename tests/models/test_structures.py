"""Models that do more with attention than most: exact beyond every edge, or refused by name."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import fields

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.cache_utils import StaticCache

from tests.attend.feeding import CACHE, feed, same, tokens
from tests.tinies import shared
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.token_select import TokenSelect
from tokenry.attend.window import Window
from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.mask import MaskFacts, note_facts
from tokenry.models.attention.site import Site
from tokenry.models.files.tiny import DECODERS, OTHERS, tiny

PLAIN = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
IMAGE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 16,
         "patch_size": 8, "projection_dim": 64, "vocab_size": 128}  # fmt: skip
FAMILIES = {
    "deepseek_v32": {**PLAIN, **EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 4, "q_lora_rank": 16,
                     "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_group": 1,
                     "topk_group": 1, "first_k_dense_replace": 1, "index_head_dim": 16, "index_n_heads": 4,
                     "index_topk": 16},
    "diffllama": PLAIN,
    "doge": PLAIN,
    "gemma4_text": {**PLAIN, **EXPERTS, "num_experts": 4, "top_k_experts": 2, "sliding_window": 8,
                    "vocab_size_per_layer_input": 128, "hidden_size_per_layer_input": 16},
    "git": {**PLAIN, "vision_config": IMAGE},
    "hrm_text": PLAIN,
    "inkling_text": {**PLAIN, **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "swa_head_dim": 16,
                     "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "sliding_window_size": 8},
    "llama4_text": {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2, "attention_chunk_size": 8},
    "paligemma": {"text_config": {**PLAIN, "model_type": "gemma"}, "vision_config": {**IMAGE, "model_type":
                  "siglip_vision_model"}, "projection_dim": 64, "image_token_index": 127},
}  # fmt: skip
METHODS = (SnapKV(budget=12, window=4), Window(budget="12:sink=2"), TokenSelect(budget="12:sink=2:recent=4", chunk=0))
IDS = tokens(2, 41)
MASK = torch.ones_like(IDS)
MASK[1, :5] = 0


def built(family, **changes):
    auto = AutoModelForImageTextToText if family == "paligemma" else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(AutoConfig.for_model(family, **{**FAMILIES[family], **changes})).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Attention of small weights is nearly even, and hides what it sees.
                parameter.data.mul_(4 if parameter.std() < 0.05 else 1)
    return model


def dense(model):
    return lambda _, **__: ModelAdapter.of(model).attached_to(lambda _: Site.dense)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"doge"}))
@pytest.mark.parametrize("padded", [True, False])
def test_dense_attention_is_the_models_own(family, padded):
    """Past windows, chunks and chosen keys; in chunks of a prompt, single steps and several at once."""
    model = built(family)
    how = {"mask": MASK if padded else None, "chunks": (23, 7), "passes": (1, 1, 5, 1, 3)}
    same(feed(model, dense(model), IDS, 30, **how).logits, feed(model, None, IDS, 30, **how).logits)


def test_what_adds_its_own_logits_to_a_mask_is_refused():
    with pytest.raises(UnsupportedModel, match=r"DogeForCausalLM: .* must hold 0 or the lowest number; got other"):
        ModelAdapter.of(built("doge"))


def test_an_indexer_that_names_what_a_query_sees_leaves_nothing_to_a_method():
    for method in METHODS:
        with pytest.raises(UnsupportedModel, match="DeepseekV32ForCausalLM must leave the choice of keys"):
            method(built("deepseek_v32")).__enter__()


def test_a_chunk_taken_for_a_window_does_not_pass_the_proof(monkeypatch):
    """The proof goes past an edge, whatever a model's own is."""

    def slides(self, first):
        return self.window is None or self.first_query + self.queries - first <= self.window

    ModelAdapter(built("llama4_text", attention_chunk_size=4096))
    monkeypatch.setattr(MaskFacts, "_last_sees", slides)
    with pytest.raises(UnsupportedModel, match="must reproduce the model's own outputs"):
        ModelAdapter(built("llama4_text", attention_chunk_size=4096))


def test_what_is_narrowed_for_the_proof_is_as_before():
    model = built("llama4_text", attention_chunk_size=4096)
    ModelAdapter(model)
    assert model.config.attention_chunk_size == 4096


@pytest.mark.parametrize("family", [*DECODERS, *OTHERS])
def test_a_proven_model_is_as_before(family):
    """Also where two names of a configuration mean one number, as of ModernBERT's window."""
    model = tiny(family)
    before = model.config.to_dict()
    with suppress(UnsupportedModel):
        ModelAdapter(model)
    assert model.config.to_dict() == before


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name())
def test_a_module_that_runs_several_times_writes_to_a_layer_each_time(method):
    """Two stacks that are run in cycles: every call has its own buffer, and the method acts on each."""
    model, calls = built("hrm_text"), Counter()

    class Counting(type(method)):
        def attend(self, site, state):
            calls[site.layer, id(site.buffer), id(state)] += 1
            return super().attend(site, state)

    counting = Counting(**{f.name: getattr(method, f.name) for f in fields(method)})
    fed = feed(model, counting, IDS, 36, mask=MASK)
    assert len(fed.cache.layers) > len(ModelAdapter.of(model).sites)
    assert sorted(layer for layer, *_ in calls) == list(range(len(fed.cache.layers)))
    assert set(calls.values()) == {1 + 5}
    assert {layer.seen for layer in fed.cache.layers} == {41}
    if not isinstance(method, TokenSelect):
        assert {layer.columns.shape[-1] <= 12 + 5 for layer in fed.cache.layers} == {True}


def test_values_that_attention_gets_in_halves_are_none_that_a_cache_holds():
    model = built("diffllama")
    with pytest.raises(UnsupportedModel, match="it makes others of them"):
        Window()(model).__enter__()
    seen = []
    with ModelAdapter.of(model).attached_to(lambda _: lambda site: seen.append(site.layer) or site.dense()):
        model(IDS)
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


def test_layers_that_read_the_keys_of_others_are_refused():
    model = built("gemma4_text", num_kv_shared_layers=2, layer_types=["full_attention"] * 4)
    with pytest.raises(UnsupportedModel, match="2 of 4 do not; use it densely"):
        Window()(model).__enter__()


def test_a_model_that_counts_the_keys_it_holds_cannot_forget():
    """Its positions would move with an eviction; a method that keeps all keys may act on it."""
    model = tiny("llama")
    forward = model.model.forward

    def counting(input_ids, **more):
        cache = more.get(CACHE) or more.get("cache")
        held = cache.layers[0].keys.shape[2] if cache is not None and cache.get_seq_length() else 0
        return forward(input_ids, **more | {"position_ids": torch.arange(held, held + input_ids.shape[1])[None]})

    model.model.forward = counting
    with pytest.raises(UnsupportedModel, match="forgetting cached keys must be the same as masking them"):
        Window()(model).__enter__()
    with TokenSelect(budget="12:sink=2:recent=4")(model):
        model(IDS, use_cache=True)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_static_cache_is_attended_densely(family):
    model = shared(family)
    options = {"max_new_tokens": 6, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    for given in ({"cache_implementation": "static"}, {CACHE: StaticCache(config=model.config, max_cache_len=50)}):
        expected = model.generate(IDS, attention_mask=MASK, **options, **given)
        if CACHE in given:
            given[CACHE].reset()
        with ModelAdapter.of(model).attached_to(lambda _: Site.dense):
            ours = model.generate(IDS, attention_mask=MASK, **options, **given)
        same(torch.stack(ours.logits), torch.stack(expected.logits))


def test_facts_are_a_mask_to_whoever_uses_them_as_one():
    facts = note_facts(2, 3, 7, q_offset=4, mask_function=lambda b, h, q, k: k <= q, attention_mask=MASK[:, :7])
    mask = facts.tensor()
    assert (facts.ndim, facts.shape, facts.dtype) == (4, mask.shape, mask.dtype)
    logits = torch.randn(2, 4, 3, 7)
    low = torch.finfo(torch.float32).min
    assert torch.equal(facts[:, 0], mask[:, 0])
    assert torch.equal(~facts, ~mask)
    assert torch.equal(torch.where(facts, 1, 0), torch.where(mask, 1, 0))
    assert torch.equal(torch.cat([facts, mask], -1), torch.cat([mask, mask], -1))
    assert torch.equal(facts.to(torch.float32), mask.float())
    assert torch.equal(logits.masked_fill(~facts, low), logits.masked_fill(~mask, low))
    for added in (logits + facts, facts + logits):
        assert torch.equal(added, logits + torch.zeros(mask.shape).masked_fill(~mask, low))
