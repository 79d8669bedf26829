"""Every attend method: a cache that was saved goes on from its file as it would have gone on itself."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import same, tokens
from tests.contract.cases import choosing
from tests.tinies import shared
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.name import with_cache

METHODS = choosing()
PROMPT, STEPS = 40, 4


@torch.no_grad()
def steps(model, cache, ids):
    """The logits of tokens one by one on top of a cache."""
    with ModelAdapter.of(model).attached():
        return torch.cat([model(part, **with_cache(cache)).logits for part in ids.split(1, 1)], 1)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name)
def test_a_saved_cache_goes_on(tmp_path, family, case):
    """After the prompt as after some steps; two questions on copies of it do not see each other."""
    model, method, ids = shared(family), case.trial(), tokens(1, PROMPT + 3 * STEPS)
    cache, _ = method.bound(model, prompt_tokens=PROMPT)
    with torch.no_grad(), ModelAdapter.of(model).attached():
        model(ids[:, :PROMPT], **with_cache(cache))
    low = PROMPT
    for name in ("prompt", "steps"):
        FrozenCache.of(cache, model).save(tmp_path / name)
        new = ids[:, low : low + STEPS]
        for other in (new.flip(1), new):
            again, _ = method.bound(model, prompt_tokens=PROMPT, frozen=FrozenCache.load(tmp_path / name)[0])
            said = steps(model, again, other)
        own = steps(model, cache, new)
        same(said, own)
        low += STEPS
