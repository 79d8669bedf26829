"""Every attend method, on batches of several sizes and numbers of several widths: a sequence has no neighbours."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from tests.attend.feeding import CACHE, feed, same, tokens
from tests.contract.cases import choosing
from tests.tinies import shared
from tokenry.core.errors import Incompatible
from tokenry.models.files.tiny import tiny

METHODS = choosing()


@pytest.fixture(params=METHODS, ids=[e.name for e in METHODS])
def entry(request):
    return request.param


def test_float64(entry):
    """In 64-bit floats a method says what it says in 32 bits, and no sum is cut to those."""
    ids = torch.randint(3, 128, (2, 40), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    narrow = feed(tiny("llama"), entry.trial(), ids, 34, mask=mask).logits
    wide = feed(tiny("llama").double(), entry.trial(), ids, 34, mask=mask).logits
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), narrow, atol=1e-4, rtol=1e-3)
    for method in entry.identities():
        ours = feed(tiny("llama").double(), method, ids, 34, mask=mask).logits
        torch.testing.assert_close(
            ours, feed(tiny("llama").double(), None, ids, 34, mask=mask).logits, atol=1e-9, rtol=1e-8
        )


PROMPT, STEPS = 76, 10
PADS = (0, 9, 0, 30, 17)


def by_default(case):
    """The method as it comes, but for a budget that a small prompt exceeds."""
    budgeted = "budget" in {field.name for field in fields(case.method)}
    return case.method(budget="40:sink=2:recent=8") if budgeted else case.method()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("settings", ["default", "trial"])
def test_a_sequence_has_no_neighbours(entry, family, settings):
    """Alone, in two or among five, padded and not: each goes on as if there were no other."""
    model = tiny(family)
    method = by_default(entry) if settings == "default" else entry.trial()
    ids = tokens(5, PROMPT + STEPS)
    mask = torch.ones_like(ids)
    for i, pad in enumerate(PADS):
        mask[i, :pad] = 0
    alone = [feed(model, method, ids[i : i + 1, pad:], PROMPT - pad).logits for i, pad in enumerate(PADS)]
    for some in (slice(0, 2), slice(0, 5), slice(2, 3)):
        together = feed(model, method, ids[some], PROMPT, mask=mask[some]).logits
        for found, expected in zip(together, alone[some], strict=True):
            same(found, expected[0])


@pytest.mark.parametrize("settings", ["default", "trial"])
def test_a_beam_goes_on_from_its_own_past(entry, settings):
    """Beams that change places and are given up: each says what it says when it is read alone."""
    model = tiny("qwen3")
    method = by_default(entry) if settings == "default" else entry.trial()
    prompt, pad, beams = tokens(2, PROMPT), 11, 3
    mask = torch.ones_like(prompt)
    mask[1, :pad] = 0
    origins = [[0, 0, 2, 4, 4, 5], [2, 1, 0, 3, 3, 3], [1, 1, 1, 5, 4, 3]] * 3
    new = tokens(2 * beams, len(origins), seed=8)
    texts = [prompt[i // beams, pad * (i // beams) :] for i in range(2 * beams)]
    with torch.no_grad(), method(model):
        out = model(input_ids=prompt, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0))
        cache = out[CACHE]
        cache.batch_repeat_interleave(beams)
        mask = mask.repeat_interleave(beams, 0)
        for step, origin in enumerate(origins):
            cache.reorder_cache(torch.tensor(origin))
            texts = [torch.cat((texts[o], new[i, step : step + 1])) for i, o in enumerate(origin)]
            mask = torch.cat((mask, torch.ones_like(mask[:, :1])), 1)
            given = {CACHE: cache, "position_ids": mask.sum(1, keepdim=True) - 1}
            last = model(input_ids=new[:, step : step + 1], attention_mask=mask, **given).logits[:, -1]
    for found, text in zip(last, texts, strict=True):
        same(found, feed(model, method, text[None], len(text) - len(origins)).logits[0, -1])


@pytest.mark.parametrize("chunks", [(), (24, 24, 16, 20)], ids=["at once", "in chunks"])
@pytest.mark.parametrize("settings", ["default", "trial"])
def test_padding_between_tokens_is_nothing(entry, settings, chunks):
    """Before, inside and behind a prompt, as where soft tokens stand before a padded text: the tokens alone matter."""
    model = shared("llama")
    method = by_default(entry) if settings == "default" else entry.trial()
    if chunks and entry.name == "attend/token_select":
        pytest.skip("chunks that are no multiple of a block split its mean query")
    if chunks and "chunked_prefill" in entry.entry.card.exempt:
        pytest.skip(entry.entry.card.exempt["chunked_prefill"])
    ids = tokens(2, PROMPT + STEPS)
    mask = torch.ones(2, 8 + PROMPT + STEPS, dtype=torch.long)
    mask[0, [0, 1, 13, 14, 15, 40, 8 + PROMPT - 2, 8 + PROMPT - 1]] = 0
    mask[1, 4:12] = 0
    gaps = mask.new_zeros(mask.shape).masked_scatter(mask.bool(), ids)
    fed = feed(model, method, gaps, 8 + PROMPT, mask=mask, chunks=chunks).logits
    for i in range(2):
        same(fed[i, 1:], feed(model, method, ids[i : i + 1], PROMPT).logits[0, 1:])


def test_a_mask_that_does_not_tell_padding_is_refused(entry):
    """A mask of four axes says who sees whom, not what is a token; where everything is read that is enough."""
    model, ids = shared("llama"), tokens(1, 31)
    prompt = torch.ones(1, 1, 30, 30, dtype=torch.bool).tril()
    prompt[:, :, 4:, 3] = False
    step = torch.ones(1, 1, 1, 31, dtype=torch.bool)

    def read():
        cache = model(input_ids=ids[:, :30], attention_mask=prompt, use_cache=True)[CACHE]
        return model(input_ids=ids[:, 30:], attention_mask=step, **{CACHE: cache}).logits

    with torch.no_grad():
        expected = read()
        with entry.identities()[0](model):
            same(read(), expected)
        with entry.trial()(model), pytest.raises(Incompatible, match="must know which tokens are padding"):
            read()


def test_a_mask_of_fewer_tokens_than_there_are_is_refused(entry):
    """What it leaves out would be padding, the newest token included."""
    model, ids = shared("llama"), tokens(1, 31)
    mask = torch.ones(1, 28, dtype=torch.long)
    with torch.no_grad(), entry.trial()(model):
        cache = model(input_ids=ids[:, :30], use_cache=True)[CACHE]
        with pytest.raises(Incompatible, match="fewer tokens than there are"):
            model(input_ids=ids[:, 30:], attention_mask=mask, **{CACHE: cache})
