"""Every attend method, on structurally different tiny models: what any of them must hold to."""

from __future__ import annotations

import pytest
import torch

from tests.contract.cases import cases
from tests.padded import padded
from tokenry.attend.base import Evictor
from tokenry.core.errors import Incompatible
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.files.tiny import tiny

FAMILIES = ("llama", "qwen3", "gemma3_text")
STEPS = 10
METHODS = cases("attend")
EVICTORS = [c for c in METHODS if issubclass(c.method, Evictor)]
ONCE = [c for c in EVICTORS if not c.method.every_step]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return tiny(request.param)


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


def generate(model, inputs, **options):
    return model.generate(
        **inputs, max_new_tokens=STEPS, do_sample=False, output_logits=True, return_dict_in_generate=True, **options
    )


def same(a, b, tolerance=2e-5):
    torch.testing.assert_close(torch.stack(a.logits), torch.stack(b.logits), atol=tolerance, rtol=1e-4)
    assert torch.equal(a.sequences, b.sequences)


def test_identity_setting_is_dense(model, entry):
    inputs = padded(41)
    dense = generate(model, inputs)
    with entry.identity()(model):
        same(generate(model, inputs), dense)


def test_changes_something(model, entry):
    inputs = padded(41)
    dense = generate(model, inputs)
    with entry.trial()(model):
        out = generate(model, inputs)
    assert not torch.allclose(torch.stack(out.logits)[2:], torch.stack(dense.logits)[2:], atol=1e-6)


def test_leaves_no_trace(model, entry):
    inputs = padded(41)
    before = model(**inputs).logits
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    attributes = {n: set(vars(m)) for n, m in model.named_modules()}
    implementation = model.config._attn_implementation
    with pytest.raises(RuntimeError, match="boom"), entry.trial()(model):
        generate(model, inputs)
        raise RuntimeError("boom")
    assert torch.equal(before, model(**inputs).logits)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    assert attributes == {n: set(vars(m)) for n, m in model.named_modules()}
    assert implementation == model.config._attn_implementation


def test_padding_invariance(model, entry):
    """A row gives the same whether it stands alone or left-padded beside a longer one."""
    inputs = padded(41)
    alone = [
        {"input_ids": inputs["input_ids"][:1], "attention_mask": inputs["attention_mask"][:1]},
        {"input_ids": inputs["input_ids"][1:, 9:], "attention_mask": inputs["attention_mask"][1:, 9:]},
    ]
    with entry.trial()(model):
        both = generate(model, inputs)
    for row, single in enumerate(alone):
        with entry.trial()(model):
            out = generate(model, single)
        expected = torch.stack(both.logits)[:, row]
        torch.testing.assert_close(torch.stack(out.logits)[:, 0], expected, atol=2e-5, rtol=1e-4)


def test_chunked_prefill(model, entry):
    """Reading the prompt in chunks changes nothing."""
    inputs = padded(41)
    with entry.trial()(model):
        whole = generate(model, inputs)
    with entry.trial()(model):
        same(generate(model, inputs, prefill_chunk_size=7), whole)


def test_eager_eviction_is_lazy_eviction(model, entry):
    """Knowing the length of the prompt frees memory earlier and changes nothing else."""
    inputs = padded(41)
    with entry.trial()(model):
        lazy = generate(model, inputs)
    with entry.trial()(model, prompt_tokens=41):
        same(generate(model, inputs), lazy)


def test_budget_counts_real_tokens(model, entry):
    """No step reads more rows than the budget plus, for a prompt budget, what was generated since."""
    method = entry.trial()
    inputs = padded(41)
    with method(model) as run:
        out = generate(model, inputs)
    grows = isinstance(method, Evictor) and not method.every_step
    full = [i for i, layer in enumerate(out.past_key_values.layers) if hasattr(layer, "columns")]
    assert full
    for step, rows in enumerate(run.reads._steps):
        for layer in full:
            assert float(rows[layer]) <= method.budget.count(41) + (step + 1 if grows else 0)


@pytest.mark.parametrize("case", EVICTORS, ids=lambda c: c.name)
def test_eviction_frees_memory(model, case):
    method = case.trial()
    with method(model):
        cache = generate(model, padded(41)).past_key_values
    for layer in cache.layers:
        if hasattr(layer, "columns"):
            row = 2 * layer.keys.shape[-1] * layer.keys.element_size()
            rows = method.budget.count(41) + (0 if method.every_step else STEPS)
            assert layer.held_bytes <= rows * layer.keys.shape[0] * layer.keys.shape[1] * row
            assert layer.seen == 41 + STEPS - 1


@pytest.mark.parametrize("case", ONCE, ids=lambda c: c.name)
def test_eviction_equals_masking(model, case):
    """Forgetting a column is the same as never being allowed to look at it again."""
    method = case.trial()
    inputs = padded(41)
    with method(model):
        forget = generate(model, inputs)
    kept = {i: c.columns for i, c in enumerate(forget.past_key_values.layers) if hasattr(c, "columns")}

    def masked(site):
        if site.buffer is None or not site.decoding:
            return site.dense()
        held = kept[site.layer]
        return site.narrow(torch.where(held < site.buffer.seen, held, -1)).dense()

    with ModelAdapter.of(model).attached_to(lambda _: masked):
        same(generate(model, inputs), forget)


def test_beams(model, entry):
    """Beam search equals the same search in which every row is read from its own single-beam history."""
    inputs = padded(41)
    options = {"num_beams": 3, "num_return_sequences": 3}
    with entry.identity()(model):
        ours = generate(model, inputs, **options)
    assert torch.equal(ours.sequences, generate(model, inputs, **options).sequences)
    with entry.trial()(model):
        beams = generate(model, inputs, **options)
    with entry.trial()(model):
        again = generate(model, inputs, **options)
    assert torch.equal(beams.sequences, again.sequences)


def test_bfloat16(entry):
    model = tiny("llama").to(torch.bfloat16)
    with entry.trial()(model):
        out = generate(model, padded(41))
    assert out.past_key_values.layers[0].keys.dtype == torch.bfloat16
    assert torch.isfinite(torch.stack(out.logits)).all()


def test_plain_forward_without_cache(model, entry):
    """Without a cache there is nothing to select from or evict: the forward is dense."""
    inputs = padded(41)
    with entry.trial()(model):
        out = model(**inputs, use_cache=False).logits
    expected = model(**inputs, use_cache=False).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(out[real], expected[real], atol=2e-5, rtol=1e-4)


def test_short_prompts(model, entry):
    for n in (1, 2, 3):
        inputs = {"input_ids": torch.full((1, n), 5), "attention_mask": torch.ones(1, n, dtype=torch.long)}
        dense = generate(model, inputs)
        with entry.trial()(model):
            out = generate(model, inputs)
        torch.testing.assert_close(out.logits[0], dense.logits[0], atol=2e-5, rtol=1e-4)


def test_two_uses_do_not_see_each_other(model, entry):
    """One instance, two caches used in turn: each goes on as if it were alone."""
    method = entry.trial()
    ids = padded(41)["input_ids"][:1]
    other = ids.flip(1)

    def step(cache, tokens):
        return model(input_ids=tokens, past_key_values=cache).logits

    def run(order):
        caches = {name: method.cache(model) for name in ("a", "b")}
        outs = {"a": [], "b": []}
        for name, tokens in order:
            outs[name].append(step(caches[name], tokens))
        return outs

    a = [("a", ids), *[("a", ids[:, i : i + 1]) for i in range(4)]]
    b = [("b", other), *[("b", other[:, i : i + 1]) for i in range(4)]]
    with torch.no_grad(), ModelAdapter.of(model).attached():
        apart, mixed = run([*a, *b]), run([x for pair in zip(a, b, strict=True) for x in pair])
    for name in ("a", "b"):
        for x, y in zip(apart[name], mixed[name], strict=True):
            assert torch.equal(x, y)


def test_nesting_is_refused(model, entry):
    with entry.trial()(model), pytest.raises(Incompatible, match="only one attention method"), entry.trial()(model):
        pass
    with entry.trial()(model):
        pass
