"""Products of queries and keys are the same, whichever way they are made."""

from __future__ import annotations

import pytest
import torch

from tokenry.models.attention import products


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("queries", [1, 3, 16, 40])
def test_far_keys_give_the_products_of_near_ones(monkeypatch, dtype, queries):
    """Also where the keys are a part of a cache with room to grow."""
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, queries, 64, dtype=dtype), torch.randn(2, 3, 90, 64, dtype=dtype)[:, :, :71]
    near = products.products(q, k)
    monkeypatch.setattr(products, "NEAR_BYTES", 0)
    far = products.products(q, k)
    assert far.is_contiguous()
    torch.testing.assert_close(near, far)
    torch.testing.assert_close(
        near.double(), q.double() @ k.double().mT, atol=0.2 if k.itemsize == 2 else 1e-5, rtol=0.02
    )
