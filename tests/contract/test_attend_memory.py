"""Every attend method reads a long prompt in memory that grows with it, not with its square, and says the same."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import same, tokens
from tests.contract.cases import choosing, reducing
from tests.live_bytes import LiveBytes
from tests.tinies import shared
from tokenry.models.attention import site

METHODS = [*choosing(), *reducing()]
SHORT, LONG = 100, 400


def read(model, method, n):
    """The logits behind a padded prompt, and the most bytes that were alive while it was read."""
    ids = tokens(2, n)
    mask = torch.ones_like(ids)
    mask[1, :9] = 0
    with torch.no_grad(), method(model), LiveBytes() as live:
        logits = model(ids, attention_mask=mask, logits_to_keep=1, use_cache=True).logits
    return logits, live.peak


@pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name)
def test_a_long_prompt_needs_memory_in_line(monkeypatch, case):
    model, method = shared("llama"), case.trial()
    whole, _ = read(model, method, SHORT)
    monkeypatch.setattr(site, "PROBABILITIES", 1 << 15)
    monkeypatch.setattr(site, "MASK_ELEMENTS", 1 << 17)
    few, short = read(model, method, SHORT)
    _, long = read(model, method, LONG)
    same(few, whole)
    assert long <= 1.1 * short * LONG / SHORT
