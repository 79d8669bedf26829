"""Products of queries and keys are the same, whichever way they are made."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tokenry.models.attention import processor, products


@pytest.fixture(params=["tiles", "pairs", "plain"])
def kind(monkeypatch, request):
    monkeypatch.setattr(processor, "_processor", lambda: request.param)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("queries", [1, 3, 16, 40])
def test_far_keys_give_the_products_of_near_ones(monkeypatch, kind, dtype, queries):
    """Also where the keys are a part of a cache with room to grow, on every kind of processor."""
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


def test_keys_read_once_give_the_attention_of_torch(monkeypatch, kind):
    """In 32 bits; in half precision torch sums more exactly, and is asked."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 3, 64), *torch.randn(2, 2, 3, 90, 64)[..., :71, :]
    monkeypatch.setattr(products, "NEAR_BYTES", 0)
    out = products.read_once(q, k, v, 0.2)
    assert out is not None
    torch.testing.assert_close(out, scaled_dot_product_attention(q, k, v, scale=0.2), atol=1e-6, rtol=1e-5)
    assert products.read_once(q.bfloat16(), k.bfloat16(), v.bfloat16(), 0.2) is None
    assert products.read_once(q[..., :32], k[..., :32], v, 0.2) is None
