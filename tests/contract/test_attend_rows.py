"""Every attend method, on batches of several sizes and numbers of several widths: a sequence has no neighbours."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import feed
from tests.contract.cases import cases
from tokenry.models.files.tiny import tiny

METHODS = cases("attend")


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
        torch.testing.assert_close(ours, feed(tiny("llama").double(), None, ids, 34, mask=mask).logits, atol=1e-9, rtol=1e-8)
