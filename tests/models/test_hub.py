"""A mistyped name is answered from the catalogue, and the hub is asked once and not for a minute."""

from __future__ import annotations

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError

from tokenry.core.errors import InvalidValue, UnknownModel, UnsupportedModel
from tokenry.models.files import hub
from tokenry.models.files.catalog import check_name
from tokenry.models.files.load import device_of, find, load
from tokenry.models.files.vocabularies.find import find_vocabulary


class Asked(Exception):
    """The hub was asked."""


@pytest.fixture
def online(monkeypatch):
    """The hub as it is told to answer."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    asked = []

    def answering(error=None):
        def model_info(self, name, timeout):
            asked.append((name, timeout))
            if error is not None:
                raise error

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        return asked

    return answering


@pytest.mark.parametrize("name", ["smolm2", "SmolLM2", "smollm", "mini-lm", "whispr"])
def test_a_name_that_is_nearly_an_alias_is_not_asked_for(name, online):
    online(Asked())
    with pytest.raises(UnknownModel, match="did you mean"):
        find(name)


@pytest.mark.parametrize("name", ["gpt2", "bert-base-uncased", "t5-small", "owner/smollm2", "owner/smolm2"])
def test_names_of_the_hub_are_asked_for_once(name, online):
    asked = online()
    assert find(name) == name
    assert asked == [(name, hub.SECONDS)]


def test_nothing_there_is_one_sentence(online):
    response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
    online(RepositoryNotFoundError("404", response=response))
    with pytest.raises(UnknownModel, match="the hub has none of this name"):
        find("owner/nothing")
    online(ConnectionError("no way"))
    for refused in (find, find_vocabulary):
        with pytest.raises(UnknownModel, match=r"'owner/nothing': .*the hub cannot be asked \(ConnectionError\)\.$"):
            refused("owner/nothing")


def test_without_a_hub_nothing_is_asked(online, monkeypatch):
    online(Asked())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownModel, match="HF_HUB_OFFLINE keeps the hub from being asked"):
        find("owner/nothing")


def test_what_was_fetched_before_is_not_asked_for(online, monkeypatch):
    online(Asked())
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: "/cache/config.json")
    assert find("owner/there") == "owner/there"


def test_paths_and_kinds():
    for name in ("./nothing", "~/nothing", "/nothing", "nothing.gguf", " "):
        with pytest.raises(UnknownModel, match="nothing is there"):
            check_name(name)
    with pytest.raises(UnsupportedModel, match="must be of the kind causal; it is encoder"):
        check_name("minilm", "causal")
    check_name("smollm2", "causal")


def test_a_device_that_is_not_there_is_said_before_anything_is_looked_for():
    with pytest.raises(InvalidValue, match=r"^device: must be auto, cpu or an accelerator .*; got 'gpu9' \(.+\)\.$"):
        load("owner/nothing", device="gpu9")
    with pytest.raises(InvalidValue, match=r"^dtype: must be auto"):
        load("owner/nothing", dtype="int3")
    assert device_of("cpu").type == "cpu"
