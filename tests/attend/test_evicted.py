"""Methods whose rows must be columns refuse a cache that something was evicted from."""

from __future__ import annotations

import pytest
import torch

from tests.tinies import shared
from tokenry.core.errors import Incompatible
from tokenry.core.registry import parse
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer


@pytest.mark.parametrize("form", [
    "dhsa:budget=12:sink=2:recent=2,chunk_size=4,block=4,instruction=2", "fasa:budget=12,dense_layers=0",
    "quest:budget=12,page=4,dense_layers=0", "sink_calibration:heads=4+5+6+7,beta=0.4",
    "token_sparse:tail=0.4,least=8,window=4,layers=0+1+2",
    "reused:inside=quest[budget=12,page=4,dense_layers=0],steps=2",
])  # fmt: skip
def test_a_cache_with_gaps_is_refused(form):
    method, buffer = parse(form), KVBuffer()
    buffer.update(torch.randn(1, 2, 40, 16), torch.randn(1, 2, 40, 16))
    buffer.keep(torch.arange(0, 40, 2).expand(1, 2, -1))
    k, v = buffer.rows()
    site = Site(
        layer=1, q=torch.randn(1, 4, 9, 16), k=k, v=v, scale=1.0, facts=None, model=shared("llama"), buffer=buffer,
        columns=buffer.columns,
    )  # fmt: skip
    with pytest.raises(Incompatible, match="holds every token"):
        method.attend(site, method.State())
