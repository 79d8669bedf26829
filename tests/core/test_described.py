"""Fields, limits and needs of methods, read from their sources as they are when imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from tokenry.core import registry
from tokenry.core.described import check, field_names, fields_of, needs_of
from tokenry.core.errors import InvalidValue, UnknownMethod
from tokenry.core.registry import entries, find, held, load, load_part, parts

EVERY = (*entries(), *parts())


def kind_of(entry):
    return load(entry.full_name) if entry in entries() else load_part(entry.full_name)


@pytest.mark.parametrize("entry", EVERY, ids=lambda e: e.full_name)
def test_source_and_class_say_the_same(entry):
    kind = kind_of(entry)
    said = {f.name: f for f in fields_of(entry)}
    assert field_names(entry) == list(said) == [f.name for f in fields(kind)]
    for field in fields(kind):
        limit = field.metadata.get("limit")
        if limit is not None:
            assert said[field.name].allowed == limit.words
        if field.metadata.get("part"):
            listed = said[field.name].allowed.removeprefix("one of ").split(", ")
            assert listed
            assert set(listed) <= {e.name for e in EVERY if e.room in (kind.room, "quantize", "embed")}


def test_allowed_values_are_named():
    of = {f.name: f.allowed for f in fields_of(find("vq"))}
    assert of["start"] == "one of " + ", ".join(sorted(("kmeans", "sampled", "uniform")))
    assert of["codes"] == "at least 1"
    force = {f.name: f.allowed for f in fields_of(find("lexical_relevance"))}["force"]
    assert force == "among numbers, names, negations, code, json_keys"
    levels = {f.name: f.allowed for f in fields_of(find("fsq"))}["levels"]
    assert levels.startswith("one or more whole numbers in [2, 65536] whose product")


@pytest.mark.parametrize(
    ("name", "question", "model", "encoder", "training"),
    [
        ("dense_relevance", "yes", False, True, False),
        ("lexical_relevance", "yes", False, False, False),
        ("compress/random", "no", False, False, False),
        ("self_information", "no", True, False, False),
        ("attention_pruning", "sometimes", True, False, False),
        ("snapkv", "no", True, False, False),
        ("prompt_tuning", "no", True, False, True),
        ("vq", "no", False, False, True),
        ("softplus", "no", False, False, True),
        ("softmax_free", "no", False, False, True),
        ("still", "no", True, False, True),
        ("ss_token", "no", True, False, True),
        ("token_adapt", "no", True, True, False),
        ("needle_threading", "no", True, False, False),
        ("tokenizer_information", "no", False, False, False),
        ("bpe", "no", False, False, False),
    ],
)
def test_needs(name, question, model, encoder, training):
    found = needs_of(find(name))
    assert (found.question, found.model, found.encoder, found.training) == (question, model, encoder, training)
    assert bool(found.when) == (question == "sometimes")


def test_a_question_is_needed_where_the_class_says_so():
    for entry in entries():
        told = getattr(load(entry.full_name), "needs_query", False)
        assert {True: "yes", False: "no"}.get(told, "sometimes") == needs_of(entry).question


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("windo", UnknownMethod, "the nearest are window"),
        ("window:size=3", InvalidValue, "window: has no field 'size'; its fields are budget."),
        ("window:budget", InvalidValue, "a setting must be written field=value; got 'budget'"),
        ("random", UnknownMethod, "must name its room"),
    ],
)
def test_mistakes_are_found_before_anything_is_imported(spec, error, words, monkeypatch):
    def imported(_):
        raise AssertionError("imported")

    monkeypatch.setattr(registry, "_import", imported)
    with pytest.raises(error, match=words):
        check(spec)


def test_what_is_right_passes(tmp_path):
    assert check("snapkv:budget=64").name == "snapkv"
    (tmp_path / "method.json").write_text("{}")
    assert check(str(tmp_path)) is None
    assert held(load("vq"))


def test_a_method_by_its_name_needs_no_other_file():
    code = (
        "from pathlib import Path; from tokenry.core import registry\n"
        "real, read = registry._read, []\n"
        "registry._read = lambda file, *more: read.append(file.stem) or real(file, *more)\n"
        "assert registry.find('compress/random').module == 'tokenry.compress.random'\n"
        "assert str(registry.parse('lexical_relevance:units=auto')) == 'compress/lexical_relevance:units=auto'\n"
        "assert read[:2] == ['random', 'lexical_relevance']\n"
        "assert {p.stem for p in Path('src/tokenry/compress/parts').glob('*.py')} | {'__init__'} >= set(read[2:])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
