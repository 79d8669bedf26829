"""Every family of transformers and every way to generate: the same as without tokenry, or refused in a sentence."""

from __future__ import annotations

from collections import Counter

import pytest
import transformers

from benchmarks.models import every_family, every_mode
from benchmarks.models.alone import alone
from benchmarks.models.compared import itself, through
from benchmarks.models.courses import courses
from benchmarks.models.modes import MODES
from benchmarks.models.small import KINDS, NotBuilt, small
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.cache.own import grows
from tokenry.models.files.tiny import tiny

AT_LEAST = {"causal": 150, "image-text": 60}
"""Families that are the same through tokenry, with or without methods that choose keys."""
FAULTS = ("wrong", "crash")


def faults(rows):
    return {name: row.get("faults", row.get("why")) for name, row in rows.items() if row["status"] in FAULTS}


def check_families(kind, rows):
    counts = Counter(row["status"] for row in rows.values())
    assert not faults(rows)
    assert counts["exact"] + counts["dense"] >= AT_LEAST.get(kind, 1)
    for family, row in rows.items():
        if row["status"] in ("refused", "dense"):
            assert_is_a_sentence(row["why"], family)


def assert_is_a_sentence(why, where):
    assert " must " in why, where
    assert why.endswith("."), where
    assert "Error" not in why, where


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_recorded_holds_no_fault(kind):
    for version in every_family.read().values():
        check_families(kind, version[kind])


def test_no_recorded_mode_holds_a_fault():
    for version in every_mode.read().values():
        for family, rows in version.items():
            for mode, row in rows.items():
                assert row.get("status") not in FAULTS, (family, mode)
                for name, said in row.get("cells", {}).items():
                    assert said == "exact" or said.startswith("refused: "), (family, mode, name)


@pytest.mark.parametrize(
    ("kind", "family"),
    [("causal", "llama"), ("image-text", "qwen2_vl"), ("seq2seq", "t5"), ("speech", "moonshine")],
)
def test_a_row_is_made(kind, family):
    row = alone(every_family.SECONDS, every_family.judged, kind, family)
    assert row["status"] in ("exact", "dense")
    assert {"whole", "prompt", "steps", "greedy", "beams"} <= set(row["ran"])


def test_what_is_wrong_is_seen(monkeypatch):
    """An attention that is a little off is wrong in every way to read."""
    model = small("causal", "llama")
    ways = courses(model, "causal")
    adapter = ModelAdapter.of(model)
    monkeypatch.setattr(Site, "dense", lambda site, dense=Site.dense: dense(site) * 1.01)
    for name, course in ways.items():
        own = itself(course)
        assert isinstance(own, list), name
        assert through(lambda: adapter.attached_to(lambda _: Site.dense), course, own).startswith("wrong"), name


def test_what_takes_too_long_or_dies_is_a_row():
    assert alone(1, _forever)["status"] == "timeout"
    assert alone(5, _fail) == {"status": "crash", "why": "RuntimeError: so it goes"}


def test_what_cannot_be_made_small_says_why():
    with pytest.raises(NotBuilt, match="Unrecognized configuration class"):
        small("image-text", "evolla")


@pytest.mark.parametrize("family", ["kolibri1", "inkling_text", "ministral"])
def test_a_small_model_keeps_every_token_where_published_ones_do(family):
    assert grows(small("causal", family))


@pytest.mark.parametrize(("family", "made"), [("musicgen", "MusicgenForCausalLM"), ("mllama", "MllamaForCausalLM")])
def test_a_family_may_be_made_of_a_part_of_its_configuration(family, made):
    assert type(small("causal", family)).__name__ == made


@pytest.mark.parametrize("mode", ["greedy", "static cache", "second turn", "gradients"])
def test_a_mode_gives_what_the_model_gives(mode):
    model = tiny("qwen3")
    own = itself(lambda: MODES[mode](model))
    assert isinstance(own, list)
    assert through(lambda: ModelAdapter.of(model).attached_to(lambda _: Site.dense), lambda: MODES[mode](model), own)


def _forever():
    while True:
        pass


def _fail():
    raise RuntimeError("so it goes")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_family(kind, tmp_path):
    every_family.try_all(kind, tmp_path / "found.json")
    check_families(kind, every_family.read(tmp_path / "found.json")[transformers.__version__][kind])


@pytest.mark.slow
def test_every_mode(tmp_path):
    every_mode.try_all(tmp_path / "found.json")
    for family, rows in every_mode.read(tmp_path / "found.json")[transformers.__version__].items():
        for mode, row in rows.items():
            said = row.get("cells", {})
            assert row.get("status") not in FAULTS, (family, mode)
            assert not {name: what for name, what in said.items() if what.startswith(FAULTS)}, (family, mode)
