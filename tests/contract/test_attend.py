"""Every attend method, on structurally different tiny models: what any of them must hold to."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from functools import cache

import pytest
import torch
from torch import Tensor

from tests.contract.cases import Case, case_of, choosing
from tests.padded import padded
from tests.tinies import LATENT, STRUCTURES, shared
from tokenry.attend.base import Evictor
from tokenry.attend.running.run import Run
from tokenry.core.errors import Incompatible
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of, with_cache

STEPS = 7
METHODS = choosing()
EVICTORS = [c for c in METHODS if issubclass(c.method, Evictor)]
BUDGETED = [c for c in METHODS if hasattr(c.trial(), "budget")]
ONCE = [c for c in EVICTORS if not c.method.every_step]
PROMPT = padded(41)


@pytest.fixture(params=[*STRUCTURES, LATENT])
def family(request):
    case = case_of(request.node)
    if request.param == LATENT and case is not None and not case.method.shares_rows:
        pytest.skip("refused by name, see tests/attend/test_latents.py")
    return request.param


@pytest.fixture
def model(family):
    return shared(family)


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


def generate(model, inputs, **options):
    settings = {"max_new_tokens": STEPS, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    return model.generate(**inputs, **settings | options)


def alone(row):
    """One row of the prompt without its padding."""
    return {name: values[row : row + 1, 9 if row else 0 :] for name, values in PROMPT.items()}


@cache
def dense(family, length=41, **options):
    return generate(shared(family), PROMPT if length == 41 else short(length), **options)


def short(length):
    return {"input_ids": torch.full((1, length), 5), "attention_mask": torch.ones(1, length, dtype=torch.long)}


@dataclass(frozen=True, eq=False)
class Tried:
    """A method at its trial setting: the prompt read, and what was generated."""

    out: object
    run: Run


@cache
def tried(family, entry: Case) -> Tried:
    with entry.trial()(shared(family)) as run:
        return Tried(generate(shared(family), PROMPT), run)


def growing(cache):
    """The layers of a cache that hold what was not forgotten, with their numbers."""
    return [(i, layer) for i, layer in enumerate(cache.layers) if hasattr(layer, "columns")]


def same(a, b, tolerance=2e-5):
    torch.testing.assert_close(torch.stack(a.logits), torch.stack(b.logits), atol=tolerance, rtol=1e-4)
    assert torch.equal(a.sequences, b.sequences)


def test_identity_setting_is_dense(family, entry):
    for method in entry.identities():
        with method(shared(family)):
            same(generate(shared(family), PROMPT), dense(family))


def test_changes_something(family, entry):
    out, plain = (torch.stack(o.logits)[2:] for o in (tried(family, entry).out, dense(family)))
    assert not torch.allclose(out, plain, atol=1e-6)


def test_leaves_no_trace(model, entry):
    before = model(**PROMPT).logits
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    attributes = {n: set(vars(m)) for n, m in model.named_modules()}
    implementation = model.config._attn_implementation
    with pytest.raises(RuntimeError, match="boom"), entry.trial()(model):
        generate(model, PROMPT)
        raise RuntimeError("boom")
    assert torch.equal(before, model(**PROMPT).logits)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    assert attributes == {n: set(vars(m)) for n, m in model.named_modules()}
    assert implementation == model.config._attn_implementation


def test_padding_invariance(family, entry):
    """A row gives the same whether it stands alone or left-padded beside a longer one."""
    both = torch.stack(tried(family, entry).out.logits)
    for row in range(2):
        with entry.trial()(shared(family)):
            out = generate(shared(family), alone(row))
        torch.testing.assert_close(torch.stack(out.logits)[:, 0], both[:, row], atol=2e-5, rtol=1e-4)


def test_chunked_prefill(family, entry):
    """Reading the prompt in chunks changes nothing."""
    whole = tried(family, entry).out
    with entry.trial()(shared(family)):
        same(generate(shared(family), PROMPT, prefill_chunk_size=7), whole)


def test_eager_eviction_is_lazy_eviction(family, entry):
    """Knowing the length of the prompt frees memory earlier and changes nothing else."""
    lazy = tried(family, entry).out
    with entry.trial()(shared(family), prompt_tokens=41):
        same(generate(shared(family), PROMPT), lazy)


@pytest.mark.parametrize("case", BUDGETED, ids=lambda c: c.name)
def test_budget_counts_real_tokens(family, case):
    """No step reads more rows than the budget plus, for a prompt budget, what was generated since.

    Steps that the method says may read everything are none of the budget's.
    """
    method, done = case.trial(), tried(family, case)
    full = [i for i, _ in growing(cache_of(done.out))]
    assert full
    bounded = [step for step in range(STEPS - 1) if not method.reads_all(step)]
    assert bounded, "the budget of the trial must bound some of its steps"
    for step in bounded:
        for layer in full:
            assert float(done.run.reads._steps[step][layer]) <= method.budget.count(41) + (
                step + 1 if method.grows else 0
            )


def test_states_hold_what_follows_a_cache(family, entry):
    """Tensors of which the first axis counts sequences, and plain values: nothing else is reordered and frozen.

    They go through a file with their cache.
    """
    for _, layer in growing(cache_of(tried(family, entry).out)):
        for state in layer.states:
            again = pickle.loads(pickle.dumps(state))
            assert type(again) is type(state)
            assert str(again) == str(state)
            for field in fields(state):
                value = getattr(state, field.name)
                if isinstance(value, Tensor):
                    assert value.shape[0] == 2, field.name
                else:
                    assert value is None or isinstance(value, bool | int | float | str), field.name


@pytest.mark.parametrize("case", EVICTORS, ids=lambda c: c.name)
def test_eviction_frees_memory(family, case):
    method = case.trial()
    for _, layer in growing(cache_of(tried(family, case).out)):
        row = 2 * layer.keys.shape[-1] * layer.keys.element_size()
        rows = method.budget.count(41) + (0 if method.every_step else STEPS)
        assert layer.held_bytes <= rows * layer.keys.shape[0] * layer.keys.shape[1] * row
        assert layer.seen == 41 + STEPS - 1


@pytest.mark.parametrize("case", ONCE, ids=lambda c: c.name)
def test_eviction_equals_masking(family, case):
    """Forgetting a column is the same as never being allowed to look at it again."""
    forget = tried(family, case).out
    kept = {i: layer.columns for i, layer in growing(cache_of(forget))}

    def masked(site):
        if site.buffer is None or not site.decoding:
            return site.dense()
        held = kept[site.layer]
        return site.narrow(torch.where(held < site.buffer.seen, held, -1)).dense()

    with ModelAdapter.of(shared(family)).attached_to(lambda _: masked):
        same(generate(shared(family), PROMPT), forget)


def test_beams(entry):
    """What a state remembers follows its beam: a search gives the same again, and the dense one at the identity."""
    model, options = shared("llama"), {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5}
    for method in entry.identities():
        with method(model):
            ours = generate(model, PROMPT, **options)
        assert torch.equal(ours.sequences, dense("llama", **options).sequences)
    found = []
    for _ in range(2):
        with entry.trial()(model):
            found.append(generate(model, PROMPT, **options).sequences)
    assert torch.equal(*found)


def test_bfloat16(entry):
    model = shared("llama", torch.bfloat16)
    with entry.trial()(model):
        out = generate(model, PROMPT)
    assert cache_of(out).layers[0].keys.dtype == torch.bfloat16
    assert torch.isfinite(torch.stack(out.logits)).all()


def test_plain_forward_without_cache(model, entry):
    """Without a cache there is nothing to select from or evict: the forward is dense."""
    with entry.trial()(model):
        out = model(**PROMPT, use_cache=False).logits
    expected = model(**PROMPT, use_cache=False).logits
    real = PROMPT["attention_mask"].bool()
    torch.testing.assert_close(out[real], expected[real], atol=2e-5, rtol=1e-4)


def test_short_prompts(family, entry):
    for n in (1, 2, 3):
        with entry.trial()(shared(family)):
            out = generate(shared(family), short(n), max_new_tokens=3)
        torch.testing.assert_close(out.logits[0], dense(family, n).logits[0], atol=2e-5, rtol=1e-4)


def test_two_uses_do_not_see_each_other(entry):
    """One instance, two caches used in turn: each goes on as if it were alone."""
    method, model = entry.trial(), shared("llama")
    ids = PROMPT["input_ids"][:1]
    other = ids.flip(1)

    def step(cache, tokens):
        return model(input_ids=tokens, **with_cache(cache)).logits

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


def test_several_tokens_between_steps(entry):
    """A pass of several tokens after some were generated is read whole, and generation goes on from there."""
    model, method = shared("llama"), entry.trial()
    ids, mask = PROMPT["input_ids"], PROMPT["attention_mask"]
    parts = [(0, 30), *((i, i + 1) for i in range(30, 34)), (34, 38), *((i, i + 1) for i in range(38, 41))]

    def read(rows, low):
        cache, found = method.cache(model), []
        for start, end in ((max(s - low, 0), e - low) for s, e in parts):
            out = model(
                input_ids=ids[rows, low:][:, start:end], attention_mask=mask[rows, low:][:, :end],
                position_ids=(mask[rows, low:].cumsum(1) - 1).clamp_min(0)[:, start:end], **with_cache(cache),
            )  # fmt: skip
            found.append(out.logits[:, -1])
        return torch.stack(found)

    with torch.no_grad(), ModelAdapter.of(model).attached():
        both = read(slice(0, 2), 0)
        for row, low in ((0, 0), (1, 9)):
            torch.testing.assert_close(read(slice(row, row + 1), low)[:, 0], both[:, row], atol=2e-5, rtol=1e-4)
    assert bool(both.isfinite().all())


def test_nesting_is_refused(model, entry):
    with entry.trial()(model), pytest.raises(Incompatible, match="only one attention method"), entry.trial()(model):
        pass
    with entry.trial()(model):
        pass
