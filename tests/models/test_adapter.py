"""The adapter reproduces models exactly, refuses what it cannot, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import DynamicCache

from tests.padded import padded
from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import DECODERS, tiny


@pytest.fixture(scope="module", params=sorted(DECODERS))
def model(request):
    return tiny(request.param)


def dense(_):
    return Site.dense


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"prefill_chunk_size": 7}], ids=["greedy", "beams", "chunks"]
)
def test_generation_is_exact_for_both_rows(model, options):
    settings = {"max_new_tokens": 12, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    expected = model.generate(**padded(), **settings, **options)
    with ModelAdapter.of(model).attached_to(dense):
        ours = model.generate(**padded(), **settings, **options)
    assert torch.equal(expected.sequences, ours.sequences)
    for a, b in zip(expected.logits, ours.logits, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    sliding = [layer.is_sliding for layer in cache_of(ours).layers]
    assert [isinstance(layer, KVBuffer) for layer in cache_of(ours).layers] == [not s for s in sliding]


def test_crop_is_never_having_seen(model):
    """Within its window also for native sliding layers, which transformers cannot crop once they are full."""
    ids = padded(24, 0)["input_ids"]
    tail = torch.full((2, 3), 7)
    with torch.no_grad(), ModelAdapter.of(model).attached_to(dense):
        cache = DynamicCache(config=model.config)
        model(input_ids=ids[:, :9], **with_cache(cache))
        cut = DynamicCache(config=model.config)
        model(input_ids=ids[:, :15], **with_cache(cut))
        cut.crop(-6)
        a = model(input_ids=tail, **with_cache(cache)).logits
        b = model(input_ids=tail, **with_cache(cut)).logits
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_bfloat16_is_close_to_the_models_own(model):
    half = tiny(model.config.model_type).to(torch.bfloat16)
    expected = half(**padded()).logits
    with ModelAdapter.of(half).attached_to(dense):
        ours = half(**padded()).logits
    real = padded()["attention_mask"].bool()
    assert (ours[real] - expected[real]).abs().max() <= 0.05 * expected[real].abs().max()


def test_gradients_flow_through_the_cache():
    model = tiny("llama")
    embeds = torch.randn(1, 6, 64, requires_grad=True)
    with ModelAdapter.of(model).attached_to(dense):
        first = model(inputs_embeds=embeds, use_cache=True)
        model(input_ids=torch.tensor([[5, 6]]), **with_cache(cache_of(first))).logits.sum().backward()
    assert embeds.grad is not None
    assert (embeds.grad.abs().sum(-1) > 0).all()


def test_a_four_axis_mask_is_honoured():
    model = tiny("llama")
    ids = padded()["input_ids"]
    mask = torch.ones(2, 1, 40, 40, dtype=torch.bool).tril()
    mask[:, :, :, 3] = False
    mask[:, :, 3, 3] = True
    expected = model(input_ids=ids, attention_mask=mask).logits
    with ModelAdapter.of(model).attached_to(dense):
        ours = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_sites_are_the_attention_layers(model):
    places = list(ModelAdapter.of(model).sites.values())
    assert [p.layer for p in places] == list(range(model.config.num_hidden_layers))
    assert {p.kind for p in places} == {"self"}
    assert len({p.stack for p in places}) == 1


def test_peft_models_are_looked_through():
    peft = pytest.importorskip("peft")
    model = tiny("llama")
    expected = model(**padded()).logits
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"]))
    with ModelAdapter.of(wrapped).attached_to(dense):
        ours = wrapped(**padded()).logits
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_a_family_off_the_interface_is_refused():
    config = AutoConfig.for_model("bloom", vocab_size=128, hidden_size=64, n_layer=2, n_head=4)
    with pytest.raises(UnsupportedModel, match=r"BloomForCausalLM: must call transformers' attention interface"):
        ModelAdapter.of(AutoModelForCausalLM.from_config(config).eval())


def test_anything_but_a_model_is_refused():
    with pytest.raises(UnsupportedModel, match="must be a transformers PreTrainedModel; got Linear"):
        ModelAdapter.of(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("family", ["llama", "t5", "llava"])
def test_attention_maps_are_refused(family):
    """As an argument, through `generate`, of a part of the model, or by its configuration; outside they are made."""
    model = tiny(family)
    inputs = Experiment(model).inputs
    part = next(m for m in model.modules() if isinstance(m, PreTrainedModel) and m is not model)
    with ModelAdapter.of(model).attached_to(dense):
        for asked, arguments in ((model, inputs), (part, {}), (model.generate, inputs)):
            with pytest.raises(Incompatible, match=r"must not be asked for attention maps .* output_attentions=True"):
                asked(**arguments, output_attentions=True)
        model(**inputs, output_attentions=False)
    eager = tiny("llama")
    eager.set_attn_implementation("eager")
    eager.config.output_attentions = True
    with pytest.raises(UnsupportedModel, match="must not be asked"):
        ModelAdapter.of(eager)


def test_a_wrong_attention_fails_the_proof(monkeypatch):
    """The self-test is not decoration: break dense attention and the model is refused."""
    model = tiny("llama", seed=3)
    monkeypatch.setattr(Site, "dense", lambda site: site.v.repeat_interleave(site.groups, 1)[:, :, -site.q.shape[2] :])
    with pytest.raises(UnsupportedModel, match="must reproduce the model's own outputs"):
        ModelAdapter.of(model)


def test_models_are_let_go():
    import gc
    import weakref

    model = tiny("llama")
    with ModelAdapter.of(model).attached_to(dense):
        model.generate(**padded(), max_new_tokens=2)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_one_handler_per_cache():
    model = tiny("llama")
    adapter = ModelAdapter.of(model)
    cache = DynamicCache(config=model.config)
    adapter.bind(cache, Site.dense)
    with pytest.raises(Incompatible, match="only one attention method"):
        adapter.bind(cache, Site.dense)


def test_a_filled_cache_is_adopted():
    model = tiny("llama")
    ids = padded(20, 0)["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=ids).logits[:, -1]
        cache = cache_of(model(input_ids=ids[:, :19]))
        with ModelAdapter.of(model).attached_to(dense):
            ours = model(input_ids=ids[:, 19:], **with_cache(cache)).logits[:, -1]
    assert isinstance(cache.layers[0], KVBuffer)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_threads_use_different_methods_on_one_model():
    """Each thread has a cache of its own with a method of its own; none sees another."""
    from concurrent.futures import ThreadPoolExecutor

    from tokenry import SnapKV, TokenSelect, Window

    model = tiny("llama")
    ids = padded(48, 0)["input_ids"][:1]
    methods = [TokenSelect(budget="12:sink=2:recent=4", chunk=0), SnapKV(budget=12, window=4), Window(budget=10), None]

    def answer(method):
        cache = method.cache(model, prompt_tokens=48) if method else None
        return model.generate(ids, **with_cache(cache), max_new_tokens=16, do_sample=False).tolist()

    with ModelAdapter.of(model).attached():
        alone = [answer(m) for m in methods]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(answer, methods * 4))
    assert together == alone * 4
    assert len({str(a) for a in alone}) == 4
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_forwards_without_cache_have_handlers_of_their_own():
    """Also where a pass leaves out the first attention layers of the model, as text does in a model that sees."""
    model = tiny("llava")
    adapter = ModelAdapter.of(model)
    made = []

    def bind(name):
        def new(cache):
            made.append(name)
            return Site.dense

        return new

    ids = torch.randint(3, 40, (1, 6))
    with torch.no_grad(), adapter.attached():
        for name in "ab":
            with adapter.attached_to(bind(name)):
                for _ in range(2):
                    model(input_ids=ids, use_cache=False)
        for name in "cd":
            with adapter.attached_to(bind(name)):
                model.model.language_model(input_ids=ids, use_cache=False)
    assert made == ["a", "a", "b", "b", "c", "d"]


def test_a_four_axis_mask_of_one_row_is_for_all_queries():
    model = tiny("llama", seed=5)
    ids = torch.arange(3, 15)[None]
    mask = torch.ones(1, 1, 1, 12).bool()
    mask[..., 4:7] = False
    expected = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    with ModelAdapter.of(model).attached_to(lambda _: Site.dense):
        found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert torch.allclose(found, expected, atol=1e-5)
