"""Names that transformers promises to nobody exist in the version that is installed, and do what they are used for."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

import tokenry
from tokenry.models import private
from tokenry.models.cache import name
from tokenry.models.cache.name import cache_of, renamed, with_cache
from tokenry.models.files.tiny import tiny

SRC = Path(tokenry.__file__).parent
HERE = SRC / "models" / "private.py"
DEFINED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
OTHERS = {
    "arm.py": {"_exit"},
    "cluster.py": {"_exit"},
    "learned.py": {"_modules"},
    "load.py": {"_is_avx512_bf16_supported", "_is_amx_tile_supported"},
    "ranks.py": {"_mergeable_ranks", "_pat_str", "_special_tokens"},
    "reader.py": {"_parameters"},
    "workers.py": {"_exit"},
}
"""Of torch, of tiktoken and of Python."""

NAMES = set(re.findall(r"\.(_[a-z]\w+)", HERE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def model():
    return tiny("gemma3_text")


def test_they_stand_in_one_file():
    """A name that begins with an underscore, and that nothing of ours is called, is somebody else's."""
    trees = {file: list(ast.walk(ast.parse(file.read_text(encoding="utf-8")))) for file in SRC.rglob("*.py")}
    ours = {node.name for tree in trees.values() for node in tree if isinstance(node, DEFINED)}
    ours |= {node.id for tree in trees.values() for node in tree if isinstance(node, ast.Name)}
    ours |= {
        node.attr for tree in trees.values() for node in tree
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }  # fmt: skip
    for file, tree in trees.items():
        used = {n.attr for n in tree if isinstance(n, ast.Attribute) and re.match("_[a-z]", n.attr)} - ours
        assert used <= (NAMES if file == HERE else OTHERS.get(file.name, set())), file
    assert len(NAMES) >= 7


@pytest.mark.parametrize("attribute", sorted(n for n in NAMES if not n.endswith("_tensor")))
def test_each_exists(model, attribute):
    assert hasattr(model, attribute) or hasattr(model.config, attribute)


def test_a_name_of_attention_is_set_for_one_configuration():
    clip = tiny("clip")
    whole, *parts = configs = private.configurations(clip)
    assert [type(c).__name__ for c in configs] == ["CLIPConfig", "CLIPTextConfig", "CLIPVisionConfig"]
    before = private.attention_name(parts[0])
    private.name_attention(whole, "eager")
    assert private.attention_name(whole) == "eager"
    assert private.attention_name(parts[0]) == before != "eager"


def test_a_prompt_is_read_and_gone_on_with(model):
    ids, inputs = torch.arange(3, 12)[None], {"use_cache": True, "attention_mask": torch.ones(1, 9, dtype=torch.long)}
    assert private.keeps_logits(model)
    with torch.no_grad(), private.optimised(model):
        outputs = private.read_prompt(model, ids, model.generation_config, inputs)
        following = private.going_on(model, outputs, {**inputs, **with_cache(cache_of(outputs))}, 2)
        assert cache_of(outputs).get_seq_length() == 9
        assert following["attention_mask"].shape[1] == 11
        assert cache_of(following) is cache_of(outputs)


def test_marks_are_prepared(model):
    found = []

    def loop(model, input_ids, logits_processor, stopping_criteria, generation_config, **_):
        found.append((private.padding_mark(generation_config).tolist(), private.end_marks(generation_config)))
        return input_ids

    model.generate(
        torch.arange(3, 9)[None], custom_generate=loop, max_new_tokens=1, eos_token_id=[7, 8], pad_token_id=5
    )
    assert found == [(5, (7, 8))]


def test_layers_of_a_cache(model):
    plain, sliding = DynamicCache(), DynamicCache(config=model.config)
    assert private.layer_kind(plain) is DynamicLayer
    assert private.layer_kind(sliding) is None
    private.set_layer_kind(plain, type(sliding.layers[0]))
    assert private.layer_kind(plain) is type(sliding.layers[0])
    sliding.update(torch.zeros(1, 2, 30, 16), torch.zeros(1, 2, 30, 16), 0)
    layer = sliding.layers[0]
    assert layer.is_sliding
    assert private.seen_by(layer) == 30
    private.set_seen_by(layer, 31)
    assert sliding.get_seq_length() == 31
    sliding.activate_past_recording()
    assert layer.record_past
    assert sliding.is_croppable
    private.stop_recording(sliding)
    assert not layer.record_past


def test_a_cache_has_one_name(model):
    """By another one it would vanish among the arguments, and stay empty."""
    cache = DynamicCache(config=model.config)
    assert list(with_cache(cache)) == [name.NAME]
    assert name.NAME in inspect.signature(model.forward).parameters
    out = model(input_ids=torch.arange(3, 9)[None], **with_cache(cache))
    assert cache_of(out) is cache
    assert cache.get_seq_length() == 6
    made = model.generate(torch.arange(3, 9)[None], max_new_tokens=2, return_dict_in_generate=True)
    assert isinstance(cache_of(made), Cache)
    assert cache_of(model.generate(torch.arange(3, 9)[None], max_new_tokens=2)) is None
    assert renamed({"past_key_values": cache, "top_k": 1}) == renamed({"cache": cache, "top_k": 1})


def test_one_file_knows_the_name():
    knowing = [file for file in SRC.rglob("*.py") if "past_key_values" in file.read_text(encoding="utf-8")]
    assert knowing == [SRC / "models" / "cache" / "name.py"]
