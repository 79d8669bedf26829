"""Every decoder, on structurally different tiny models: what any of them must hold to."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from transformers.generation.streamers import BaseStreamer

from tests.contract.cases import cases
from tests.padded import padded
from tests.tinies import STRUCTURES, shared
from tokenry.attend.h2o import H2O
from tokenry.attend.token_select import TokenSelect
from tokenry.core.errors import Incompatible
from tokenry.models.cache.name import cache_of, with_cache

STEPS = 10
METHODS = cases("decode")
WHOLE = {"max_new_tokens": STEPS, "output_logits": True, "output_scores": True, "return_dict_in_generate": True}


@pytest.fixture(params=STRUCTURES)
def family(request):
    return request.param


@pytest.fixture
def model(family):
    return shared(family)


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


def alone(inputs, row, pad=9):
    return {k: v[row : row + 1, pad if row else 0 :] for k, v in inputs.items()}


def plain(model, inputs, **options):
    return model.generate(**inputs, do_sample=False, **WHOLE, **options)


@cache
def greedy(family, **options):
    return plain(shared(family), padded(), **options)


@cache
def tried(family, entry, seed=0):
    return entry.trial().generate(shared(family), **padded(), **WHOLE, seed=seed)


def equal(a, b):
    """Bit for bit: ids, scores, logits, and what the cache holds."""
    assert torch.equal(a.sequences, b.sequences)
    for name in ("scores", "logits"):
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
            assert torch.equal(x, y)
    assert cache_of(a).get_seq_length() == cache_of(b).get_seq_length()
    for x, y in zip(cache_of(a).layers, cache_of(b).layers, strict=True):
        assert torch.equal(x.keys, y.keys)


@pytest.mark.parametrize(
    "options", [{}, {"repetition_penalty": 1.3}, {"prefill_chunk_size": 7}, {"no_repeat_ngram_size": 2}], ids=str
)
def test_identity_setting_is_greedy(family, entry, options):
    for identity in entry.identities():
        equal(identity.generate(shared(family), **padded(), **WHOLE, **options), greedy(family, **options))


def test_identity_is_greedy_in_bfloat16(entry):
    model = shared("llama", torch.bfloat16)
    for identity in entry.identities():
        equal(identity.generate(model, **padded(), **WHOLE), plain(model, padded()))


def test_identity_is_greedy_after_embeddings(model, entry):
    inputs = padded()
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    for given in ({"inputs_embeds": embeds}, {"inputs_embeds": embeds, "input_ids": inputs["input_ids"]}):
        given = {**given, "attention_mask": inputs["attention_mask"]}
        for identity in entry.identities():
            equal(identity.generate(model, **given, **WHOLE), plain(model, given))


# Attention is behind the adapter, whatever the model.
@pytest.mark.parametrize("attention", [TokenSelect(budget="12:sink=2:recent=4", chunk=8), H2O(budget="12:recent=4")])
def test_identity_is_greedy_inside_an_attention_method(entry, attention):
    model = shared("llama")
    with attention(model):
        theirs = plain(model, padded())
    for identity in entry.identities():
        with attention(model):
            ours = identity.generate(model, **padded(), **WHOLE)
        assert torch.equal(ours.sequences, theirs.sequences)
        assert all(torch.equal(x, y) for x, y in zip(ours.logits, theirs.logits, strict=True))


def test_changes_something(family, entry):
    ours = tried(family, entry)
    assert not torch.equal(torch.stack(ours.logits), torch.stack(greedy(family).logits))
    assert len(ours.notes) == STEPS


def test_goes_on_from_a_cache(model, entry):
    """A prompt of which a part was read before gives the same."""
    inputs = {k: v[:1] for k, v in padded().items()}
    whole = entry.trial().generate(model, **inputs, **WHOLE)
    with torch.no_grad():
        cache = cache_of(model(input_ids=inputs["input_ids"][:, :30], use_cache=True))
    rest = entry.trial().generate(model, **inputs, **WHOLE, **with_cache(cache))
    assert torch.equal(whole.sequences, rest.sequences)
    torch.testing.assert_close(torch.stack(whole.logits), torch.stack(rest.logits), atol=2e-5, rtol=1e-4)


def test_leaves_no_trace(model, entry):
    inputs = padded()
    before = model(**inputs).logits
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    attributes = {n: set(vars(m)) for n, m in model.named_modules()}
    config, settings = model.config.to_dict(), model.generation_config.to_dict()
    state = torch.get_rng_state()
    method = entry.trial()
    said = copy.copy(vars(method))
    method.generate(model, **inputs, max_new_tokens=STEPS)
    assert vars(method) == said
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(before, model(**inputs).logits)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    assert attributes == {n: set(vars(m)) for n, m in model.named_modules()}
    assert (config, settings) == (model.config.to_dict(), model.generation_config.to_dict())


def test_same_seed_same_text(family, entry):
    torch.manual_seed(7)
    equal(entry.trial().generate(shared(family), **padded(), **WHOLE, seed=3), tried(family, entry, 3))


def test_a_row_alone_is_the_row_in_a_batch(family, entry):
    """Padding and other rows change nothing; row i draws from seed + i."""
    both = tried(family, entry, 3)
    for row in range(2):
        single = entry.trial().generate(shared(family), **alone(padded(), row), **WHOLE, seed=3 + row)
        assert torch.equal(single.sequences[0, -STEPS:], both.sequences[row, -STEPS:])
        for x, y in zip(single.logits, both.logits, strict=True):
            torch.testing.assert_close(x[0], y[row], atol=3e-5, rtol=1e-4)


class Nested(BaseStreamer):
    """Generates with the same value while a text is being generated."""

    def __init__(self, inner):
        self.inner, self.ids, self.found, self.ended = inner, [], None, False

    def put(self, value):
        self.ids.append(value)
        if len(self.ids) == 4:
            self.found = self.inner()

    def end(self):
        self.ended = True


def test_two_uses_do_not_see_each_other_and_streamers_get_every_id(model, entry):
    method, inputs = entry.trial(), alone(padded(), 0)
    other = {"input_ids": inputs["input_ids"].flip(1)}
    first, second = (method.generate(model, **i, **WHOLE) for i in (inputs, other))
    streamer = Nested(lambda: method.generate(model, **other, **WHOLE))
    equal(method.generate(model, **inputs, **WHOLE, streamer=streamer), first)
    equal(streamer.found, second)
    assert torch.equal(torch.cat([v.reshape(1, -1) for v in streamer.ids], 1), first.sequences)
    assert streamer.ended


def test_rows_end_independently(model, family, entry):
    """A row ends at its end of text and is padded from there; the other goes on as if nothing had happened."""
    free = tried(family, entry)
    said = free.sequences[:, -STEPS:]
    end = next(int(i) for i in said[0, 2:-1] if i not in said[0, :2] and i not in said[1])
    stop = said[0].tolist().index(end)
    out = entry.trial().generate(model, **padded(), **WHOLE, eos_token_id=end)
    now = out.sequences[:, -STEPS:]
    assert torch.equal(now[1], said[1])
    assert torch.equal(now[0, : stop + 1], said[0, : stop + 1])
    assert bool((now[0, stop + 1 :] == 0).all())
    single = entry.trial().generate(model, **alone(padded(), 0), max_new_tokens=STEPS, eos_token_id=end)
    assert torch.equal(single[0, -stop - 1 :], said[0, : stop + 1])


def test_short_prompts(model, entry):
    for n in (1, 2, 3):
        inputs = {"input_ids": torch.full((1, n), 5), "attention_mask": torch.ones(1, n, dtype=torch.long)}
        for identity in entry.identities():
            equal(identity.generate(model, **inputs, **WHOLE), plain(model, inputs))
        assert entry.trial().generate(model, **inputs, max_new_tokens=3).shape == (1, n + 3)


def test_bfloat16(entry):
    model = shared("llama", torch.bfloat16)
    out = entry.trial().generate(model, **padded(), **WHOLE)
    assert cache_of(out).layers[0].keys.dtype == torch.bfloat16
    assert torch.isfinite(torch.stack(out.logits)).all()


def test_beams_and_missing_caches_are_refused(model, entry):
    for options, words in (({"num_beams": 2}, "num_beams=2"), ({"use_cache": False}, "needs the model's cache")):
        with pytest.raises(Incompatible, match=words):
            entry.trial().generate(model, **padded(), max_new_tokens=2, **options)
    if not entry.method.draws:
        with pytest.raises(Incompatible, match=f"{entry.entry.name}: draws by settings of its own"):
            entry.trial().generate(model, **padded(), max_new_tokens=2, do_sample=True)
        with pytest.raises(Incompatible, match="repeat the rows"):
            entry.trial().generate(model, **padded(), max_new_tokens=2, num_return_sequences=2)
