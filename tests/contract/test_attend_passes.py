"""Every attend method, where a pass brings several tokens after the prompt: what single steps give."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import CACHE, TRIES, feed, same, taken_back, tokens
from tests.contract.cases import choosing
from tests.tinies import shared
from tokenry.attend.base import Evictor
from tokenry.core.errors import Incompatible
from tokenry.models.attention.adapter import ModelAdapter

METHODS = choosing()
PROMPT, N, PAD = 41, 53, 9
IDS = tokens(2, N)
MASK = torch.ones_like(IDS)
MASK[1, :PAD] = 0
TEXT = tokens(1, 10).repeat(1, 4)


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


@pytest.fixture
def steps(entry):
    """The prompt, then one token after the other."""
    return feed(shared("qwen3"), entry.trial(), IDS, PROMPT, mask=MASK, prompt_tokens=PROMPT)


@pytest.mark.parametrize("passes", [[4, 1, 3, 2, 2], [12], [1, 11]], ids=str)
def test_a_pass_of_several_tokens_is_so_many_steps(entry, steps, passes):
    """The same logits, and the same account of what was read."""
    fed = feed(shared("qwen3"), entry.trial(), IDS, PROMPT, mask=MASK, passes=passes, prompt_tokens=PROMPT)
    same(fed.logits, steps.logits)
    assert fed.run.reads.per_step == pytest.approx(steps.run.reads.per_step)
    for mine, theirs in zip(fed.cache.layers, steps.cache.layers, strict=True):
        assert (mine.seen, mine.held_bytes) == (theirs.seen, theirs.held_bytes)


def test_what_follows_a_single_step_follows_the_prompt(entry):
    """Without its length, a prompt ends where one token comes by itself."""
    steps = feed(shared("qwen3"), entry.trial(), IDS, PROMPT, mask=MASK)
    fed = feed(shared("qwen3"), entry.trial(), IDS, PROMPT, mask=MASK, passes=[1, 4, 7])
    same(fed.logits, steps.logits)
    assert fed.run.reads.per_step == pytest.approx(steps.run.reads.per_step)


def test_a_last_chunk_of_one_token_is_of_the_prompt(entry):
    """Where the length says so."""
    model, ids = shared("qwen3"), IDS[:1]
    whole = feed(model, entry.trial(), ids, PROMPT, prompt_tokens=PROMPT)
    chunks = feed(model, entry.trial(), ids, PROMPT, chunks=[16, 16, 8, 1], prompt_tokens=PROMPT)
    same(chunks.logits, whole.logits)


def test_a_pass_over_the_end_of_the_prompt(entry, steps):
    """What is tried together with the prompt stands behind it."""
    model = shared("qwen3")
    positions = (MASK.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), entry.trial()(model, prompt_tokens=PROMPT):
        logits = model(input_ids=IDS, attention_mask=MASK, position_ids=positions, use_cache=True).logits
    same(logits[:, PROMPT - 1 :], steps.logits)


@pytest.mark.parametrize("capacity", [None, 80])
def test_what_is_taken_back_was_never_there(entry, capacity):
    """Tokens are tried, some are refused, others come in their place: as if these had been the only ones."""
    model, method = shared("llama"), entry.trial()
    ids = IDS[:1]

    def go(tries):
        cache = method.cache(model, prompt_tokens=PROMPT, capacity=capacity)
        return taken_back(model, cache, ids, PROMPT, tries)

    with torch.no_grad(), ModelAdapter.of(model).attached():
        same(go(TRIES), go([(1, 1)] * 12))


def test_a_crop_behind_an_eviction_is_refused(entry):
    """What was evicted for good does not return; a method that evicts nothing goes on."""
    model, method = shared("llama"), entry.trial()
    with torch.no_grad(), method(model, prompt_tokens=PROMPT):
        cache = model(input_ids=IDS[:1, :PROMPT], use_cache=True)[CACHE]
        for i in range(3):
            model(input_ids=IDS[:1, PROMPT + i : PROMPT + i + 1], **{CACHE: cache})
        cache.crop(-5)
        if not isinstance(getattr(method, "inside", method), Evictor):
            model(input_ids=IDS[:1, :1], **{CACHE: cache})
            return
        with pytest.raises(Incompatible, match="what was seen at the last eviction"):
            model(input_ids=IDS[:1, :1], **{CACHE: cache})


@pytest.mark.parametrize("way", ["prompt_lookup_num_tokens", "assistant_model"])
def test_drafts_change_nothing(entry, way):
    """Where the length of the prompt is known; where not, a draft that is taken back has its sentence."""
    model, options = shared("llama"), {"max_new_tokens": 14, "do_sample": False}
    draft = {way: 3 if way == "prompt_lookup_num_tokens" else shared("qwen3")}
    with entry.trial()(model, prompt_tokens=TEXT.shape[1]) as run:
        expected = model.generate(TEXT, **options)
        alone = list(run.reads.per_step)
        assert torch.equal(model.generate(TEXT, **options, **draft), expected)
    assert len(run.reads.per_step) >= 2 * len(alone)
    with entry.trial()(model), pytest.raises(Incompatible, match="must know where the prompt ends"):
        model.generate(TEXT, **options, **draft)
    with entry.identities()[0](model):
        found = model.generate(TEXT, **options, **draft)
    assert torch.equal(found, model.generate(TEXT, **options))
