"""A cache that was copied or saved goes on as the one it was made of."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from tokenry import SnapKV, TokenSelect, Window
from tokenry.core.errors import Incompatible, StorageError
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.name import with_cache
from tokenry.models.files.tiny import tiny

METHODS = [
    TokenSelect(budget="16:sink=2:recent=4", chunk=0, reuse=-1.0),
    SnapKV(budget=12, window=4, kernel=3),
    Window(budget="10:sink=2"),
]


def tokens(n=40):
    return torch.randint(3, 128, (2, n), generator=torch.Generator().manual_seed(2))


def steps(model, cache, ids):
    out = [model(input_ids=ids[:, i : i + 1], **with_cache(cache)).logits for i in range(ids.shape[1])]
    return torch.cat(out, 1)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_oss"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name())
def test_a_thawed_cache_goes_on_as_the_frozen_one(family, method, tmp_path):
    """Ragged rows, sliding layers and states included; also after it went through a file."""
    model, ids = tiny(family), tokens()
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = method.cache(model)
        model(input_ids=ids[:, :28], **with_cache(cache))
        steps(model, cache, ids[:, 28:32])
        frozen = FrozenCache.of(cache, model)
        frozen.save(tmp_path / "kv.safetensors", note="x")
        loaded, more = FrozenCache.load(tmp_path / "kv.safetensors")
        expected = steps(model, cache, ids[:, 32:])
        for source in (frozen, loaded, frozen):
            again = method.cache(model, frozen=source)
            assert torch.equal(steps(model, again, ids[:, 32:]), expected)
    assert more == {"note": "x"}


def test_another_model_is_refused():
    model = tiny("llama")
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = Window().cache(model)
        model(input_ids=tokens(), **with_cache(cache))
    frozen = FrozenCache.of(cache, model)
    with pytest.raises(Incompatible, match="must go on with the model it was made with"):
        frozen.thaw(tiny("qwen3"))
    with pytest.raises(Incompatible, match="must go on with the model"):
        frozen.thaw(tiny("llama").to(torch.bfloat16))


@pytest.mark.parametrize(
    "change",
    [
        lambda t, f: (t, None),
        lambda t, f: (t, f | {"schema": "other/1"}),
        lambda t, f: ({k: v for k, v in t.items() if k != "0.keys"}, f),
        lambda t, f: (t | {"0.values": t["0.values"][:, :, :-1].clone()}, f),
        lambda t, f: (t | {"0.columns": torch.full((2, 2, 40), 999)}, f),
        lambda t, f: (t, f | {"layers": [{"kind": "rows"}] * 3}),
        lambda t, f: (t, f | {"layers": "all"}),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    model = tiny("llama")
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = TokenSelect().cache(model)
        model(input_ids=tokens(), **with_cache(cache))
    frozen = FrozenCache.of(cache, model)
    tensors, facts = change(frozen.tensors, frozen.facts)
    file = tmp_path / "kv.safetensors"
    save_file(tensors, file, metadata={"tokenry": json.dumps(facts)})
    with pytest.raises(StorageError, match="must hold"):
        FrozenCache.load(file)


def test_half_a_file_is_refused(tmp_path):
    model = tiny("llama")
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = TokenSelect().cache(model)
        model(input_ids=tokens(), **with_cache(cache))
    file = tmp_path / "kv.safetensors"
    FrozenCache.of(cache, model).save(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StorageError, match="must be a whole file"):
        FrozenCache.load(file)
    with pytest.raises(StorageError, match="must be a whole file"):
        FrozenCache.load(tmp_path / "nothing")


GO_ON = """
import sys, torch
from tokenry import SnapKV
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.name import with_cache
from tokenry.models.files.tiny import tiny
model = tiny("llama")
frozen, _ = FrozenCache.load(sys.argv[1])
with torch.no_grad(), ModelAdapter.of(model).attached():
    cache = SnapKV(budget=12, window=4, kernel=3).cache(model, frozen=frozen)
    print(model(input_ids=torch.full((2, 1), 9), **with_cache(cache)).logits.argmax(-1).flatten().tolist())
"""


def test_another_process_goes_on(tmp_path):
    model, method = tiny("llama"), METHODS[1]
    with torch.no_grad(), ModelAdapter.of(model).attached():
        cache = method.cache(model, prompt_tokens=40)
        model(input_ids=tokens(), **with_cache(cache))
        FrozenCache.of(cache, model).save(tmp_path / "kv.safetensors")
        expected = model(input_ids=torch.full((2, 1), 9), **with_cache(cache)).logits.argmax(-1).flatten().tolist()
    said = subprocess.run(
        [sys.executable, "-c", GO_ON, str(tmp_path / "kv.safetensors")], capture_output=True, text=True, check=True
    )
    assert json.loads(said.stdout) == expected
