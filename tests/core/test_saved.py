"""A saved method is known by its folder, wherever a one-line form is."""

from __future__ import annotations

import json

import pytest
import torch

from tokenry.core.errors import StorageError, UnknownMethod
from tokenry.core.registry import parse
from tokenry.soft.prompt_tuning import PromptTuning


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method = PromptTuning(tokens=3).build(width=4)
    with torch.no_grad():
        method.table += 1
    method.save(tmp_path / "mine" / "soft")
    return tmp_path


@pytest.mark.parametrize("spec", ["mine/soft", "./mine/soft", " mine/soft/ ", "{}/mine/soft"])
def test_a_folder_is_the_method_that_it_holds(folder, spec):
    method = parse(spec.format(folder))
    assert isinstance(method, PromptTuning)
    assert method.tokens == 3
    assert bool((method.table == 1).all())


def test_a_name_is_no_folder(folder):
    (folder / "mine" / "soft").rename(folder / "window")
    assert parse("window").name() == "window"
    assert isinstance(parse("./window"), PromptTuning)


def test_folders_without_a_learned_method_are_refused(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UnknownMethod, match="method 'empty' is not known"):
        parse("empty")
    file = folder / "mine" / "soft" / "method.json"
    for content, error, words in (
        ({"method": "attend/window"}, StorageError, "must name a method that is learned; got 'attend/window'"),
        ({"method": 3}, StorageError, "must name a method that is learned; got 3"),
        ({"method": "soft/nothing"}, UnknownMethod, "'soft/nothing' is not known"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(error, match=words):
            parse("mine/soft")
    file.write_text("{")
    with pytest.raises(StorageError, match="must be a readable JSON file"):
        parse("mine/soft")
