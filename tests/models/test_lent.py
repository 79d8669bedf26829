"""What a block lends to a model: copies never have it, threads share it, and offloaded models take it."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from accelerate import cpu_offload, dispatch_model

from tests.padded import padded
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.token_select import TokenSelect
from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.adapter import NAME, ModelAdapter
from tokenry.models.attention.proof import proven_blocks
from tokenry.models.attention.rest import evaluating
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.name import cache_of
from tokenry.models.files.tiny import tiny
from tokenry.models.private import attention_name, configurations

METHOD = TokenSelect(budget="12:sink=2:recent=4", chunk=0)


def names(model):
    return [attention_name(config) for config in configurations(model)]


def generate(model):
    return model.generate(
        **padded(41), max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
    )


def same(a, b):
    return torch.allclose(torch.stack(a.logits), torch.stack(b.logits), atol=2e-5, rtol=1e-4)


COPIES = {"memory": copy.deepcopy, "file": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize(("family", "how"), [("llama", "memory"), ("llama", "file"), ("llava", "memory")])
def test_a_copy_is_of_the_model_as_it_was(family, how):
    """Also while tokens may change between layers, and of a part."""
    model = tiny(family)
    before = names(model)
    adapter = ModelAdapter.of(model)
    proven_blocks(adapter, next(p.stack for p in adapter.sites.values() if p.kind == "self"))
    expected = generate(model)
    with METHOD(model):
        chosen = generate(model)
        copied, part = COPIES[how](model), COPIES[how](model.get_decoder())
        assert set(names(model)) == {NAME}
        found = generate(copied)
    assert names(copied) == before
    assert NAME not in names(part)
    assert same(found, expected)
    assert not same(chosen, expected)
    assert not any(isinstance(layer, KVBuffer) for layer in cache_of(found).layers)
    with METHOD(copied):
        assert same(generate(copied), chosen)
    assert names(model) == names(copied) == before


def test_a_configuration_is_written_as_it_was(tmp_path):
    model = tiny("llama")
    model.config.save_pretrained(tmp_path / "before")
    with METHOD(model):
        model.config.save_pretrained(tmp_path / "inside")
        assert attention_name(copy.deepcopy(model.config)) != NAME
    before, inside = ((tmp_path / name / "config.json").read_text() for name in ("before", "inside"))
    assert inside == before


@pytest.mark.parametrize("repeat", range(3))
def test_a_first_use_by_several_threads_leaves_nothing(repeat):
    model = tiny("llama", seed=repeat)
    before, hooks = names(model), sum(len(m._forward_pre_hooks) for m in model.modules())
    start, adapters = threading.Barrier(4), []

    def first():
        start.wait()
        adapters.append(ModelAdapter.of(model))
        proven_blocks(adapters[-1], "model.layers")

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(adapters) == 4
    assert len(set(map(id, adapters))) == 1
    assert names(model) == before
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks


def test_threads_that_measure_a_model_leave_it_training():
    model = tiny("llama").train()
    inside, leave = threading.Barrier(2), threading.Event()

    def longer():
        with evaluating(model):
            inside.wait()
            leave.wait()

    thread = threading.Thread(target=longer)
    thread.start()
    with evaluating(model):
        inside.wait()
    assert not any(m.training for m in model.modules()), "the other block is not left yet"
    leave.set()
    thread.join()
    assert all(m.training for m in model.modules())


@pytest.mark.filterwarnings("ignore:Some parameters are on the meta device")
@pytest.mark.parametrize("where", ["cpu", "disk", "all"])
@pytest.mark.parametrize("method", [METHOD, SnapKV(budget=12, window=4)], ids=["token_select", "snapkv"])
def test_offloaded_models_are_attended_as_whole_ones(method, where, tmp_path):
    """Weights that are fetched layer by layer, some of them or all."""
    model = tiny("llama")
    with method(model):
        expected = generate(model)
    model = tiny("llama")
    if where == "all":
        cpu_offload(model, execution_device=torch.device("cpu"))
        assert model.device.type == "meta"
    else:
        parts = ("model.embed_tokens", "model.layers.0", "model.layers.2", "model.norm", "model.rotary_emb", "lm_head")
        device_map = {**dict.fromkeys(parts, "cpu"), "model.layers.1": where}
        dispatch_model(model, device_map, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    with method(model):
        found = generate(model)
    assert same(found, expected)
    assert NAME not in names(model)


def test_models_that_share_a_configuration_give_it_back_together():
    model = tiny("llama")
    before, whole, part = names(model), ModelAdapter.of(model), ModelAdapter.of(model.get_decoder())
    first, second = whole.attached(), part.attached()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(names(model)) == {NAME}, "the part is still attached"
    second.__exit__(None, None, None)
    assert names(model) == before


def test_an_implementation_that_cannot_be_set_is_given_back(monkeypatch):
    model = tiny("clip")
    before = names(model)

    def half(name):
        model.config._attn_implementation_internal = name
        raise ValueError("not supported")

    monkeypatch.setattr(model, "set_attn_implementation", half)
    with pytest.raises(UnsupportedModel, match="must run a small input through"):
        ModelAdapter.of(model)
    assert names(model) == before


def test_configurations_that_belong_to_no_model_are_given_back():
    """A part of a configuration may have no model of its own, and another implementation than the whole."""
    model = tiny("clip")
    model.config.vision_config = type(model.config.vision_config)(**model.config.vision_config.to_dict())
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    before = names(model)
    assert len(set(before)) > 1
    with ModelAdapter.of(model).attached_to(lambda _: Site.dense):
        pass
    assert names(model) == before
