"""Files are there whole or not at all."""

from __future__ import annotations

import os

import pytest
import torch

from tokenry.core import saving
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.registry import parse


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), saving.whole_file(file) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "x").write_text("old")
    with pytest.raises(RuntimeError), saving.whole_folder(folder) as draft:
        (draft / "x").write_text("half")
        raise RuntimeError
    assert (folder / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["m"]


def test_what_a_killed_process_left_is_cleaned_up(tmp_path):
    (tmp_path / ".m.partial-abc").mkdir()
    with saving.whole_folder(tmp_path / "m") as draft:
        (draft / "x").write_text("new")
    assert os.listdir(tmp_path) == ["m"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/a.txt: must be writable; .*; choose another place"):
        saving.write_text(tmp_path / "file" / "a.txt", "x")


def test_methods_come_back_as_they_were(tmp_path):
    method = parse("attend/token_select:budget=64,reuse=0.5")
    saving.save(tmp_path / "m", method, {"w": torch.arange(3.0)})
    again, tensors = saving.restore(tmp_path / "m")
    assert again == method
    assert torch.equal(tensors["w"], torch.arange(3.0))
    assert sorted(os.listdir(tmp_path / "m")) == ["method.json", "method.safetensors"]


def test_damaged_files_are_refused(tmp_path):
    saving.save(tmp_path / "m", parse("attend/window"), {"w": torch.zeros(100)})
    weights = tmp_path / "m" / "method.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(StorageError, match="must be a whole safetensors file"):
        saving.restore(tmp_path / "m")
    (tmp_path / "m" / "method.json").write_text('{"method": "attend/window", "colour": 3}')
    with pytest.raises(InvalidValue, match="has no field 'colour'"):
        saving.restore(tmp_path / "m")
    (tmp_path / "m" / "method.json").write_text("[")
    with pytest.raises(StorageError, match="must be a readable JSON file"):
        saving.restore(tmp_path / "m")
